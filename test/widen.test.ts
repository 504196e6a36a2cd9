import { describe, expect, it } from 'vitest';
import type { Scalar } from '../src/verifier/scalars.js';
import * as scalars from '../src/verifier/scalars.js';
import { randomBits, seeded } from './random-formats.js';

/** How many links of the chain x = widen(x, y) differ from the one before; each has to include both. */
function steps(start: Scalar, ys: Iterable<Scalar>, thresholds: readonly bigint[]): number {
  let [x, changes] = [start, 0];
  for (const y of ys) {
    const wider = scalars.widen(x, y, thresholds);
    if (!scalars.includes(wider, x) || !scalars.includes(wider, y)) expect.fail('widen loses numbers');
    if (!scalars.equal(wider, x)) changes++;
    else expect(wider).toBe(x);
    x = wider;
  }
  return changes;
}

describe.each([6, 8, 16, 64])('widening of %i bits', (bits) => {
  // Each step moves an end of one of two words to the next threshold or limit, or makes more low bits unknown.
  const most = (thresholds: number) => 2 * (4 * (thresholds + 8) + 16);

  it('ends any chain, however it was chosen, within the stated number of steps', () => {
    const next = seeded(bits);
    for (let round = 0; round < 100; round++) {
      const thresholds = Array.from({ length: next(4) }, () => randomBits(next, 1 + next(bits)));
      const ys = function* () {
        for (let i = 0; i < 200; i++) {
          const min = randomBits(next, 1 + next(bits));
          yield round % 2
            ? scalars.constant(min << BigInt(next(bits)), bits)
            : scalars.between(min, BigInt.asUintN(bits, min | BigInt(next(1 << 20))), bits);
        }
      };
      expect(steps(scalars.constant(0n, bits), ys(), thresholds)).toBeLessThanOrEqual(
        most(thresholds.length),
      );
    }
  });

  it('ends slow chains: of one number more each time, up, down, and by halves', () => {
    const slow: ((i: bigint) => bigint)[] = [(i) => i, (i) => -i, (i) => 1n << i, (i) => ~0n << i];
    for (const number of slow) {
      const ys = Array.from({ length: 100 }, (_, i) => scalars.constant(number(BigInt(i)), bits));
      expect(steps(ys[0]!, ys, [])).toBeLessThanOrEqual(most(0));
      expect(steps(ys.at(-1)!, ys.reverse(), [])).toBeLessThanOrEqual(most(0));
    }
  });
});

it('finds the bound and the step of a loop in one step, and keeps them', () => {
  const widened = scalars.widen(scalars.constant(0n), scalars.constant(8n), [64n]);
  expect(widened.whole.u).toEqual({ min: 0n, max: 64n });
  expect(widened.whole.s).toEqual({ min: 0n, max: 64n });
  expect(widened.whole.t).toEqual({ value: 0n, mask: 0x78n });
  const inside = scalars.assume('jlt', 64, widened, scalars.constant(64n))![0];
  const again = scalars.aluWhole('add', inside, scalars.constant(8n));
  expect(scalars.widen(widened, again, [64n])).toBe(widened);
});
