import { describe, expect, it } from 'vitest';
import { arithmetic } from '../src/bpf/alu.js';
import { MAX_U64 } from '../src/bytes.js';
import type { Tnum } from '../src/verifier/tnum.js';
import * as tnum from '../src/verifier/tnum.js';

const BITS = 5;

function everyTnum(bits: number): Tnum[] {
  const found: Tnum[] = [];
  for (let mask = 0n; mask < 1n << BigInt(bits); mask++) {
    for (let value = 0n; value < 1n << BigInt(bits); value++)
      if ((value & mask) === 0n) found.push({ value, mask });
  }
  return found;
}

const members = ({ value, mask }: Tnum, bits: number): bigint[] => {
  const found: bigint[] = [];
  for (let x = 0n; x < 1n << BigInt(bits); x++) if ((x & ~mask) === value) found.push(x);
  return found;
};

const all = everyTnum(BITS).map((t) => ({ t, xs: members(t, BITS) }));
const wrap = (x: bigint) => BigInt.asUintN(BITS, x);

const binary: Record<string, [(a: Tnum, b: Tnum) => Tnum, (x: bigint, y: bigint) => bigint]> = {
  add: [(a, b) => tnum.add(a, b, BITS), (x, y) => wrap(x + y)],
  sub: [(a, b) => tnum.sub(a, b, BITS), (x, y) => wrap(x - y)],
  mul: [(a, b) => tnum.mul(a, b, BITS), (x, y) => wrap(x * y)],
  and: [tnum.and, (x, y) => x & y],
  or: [tnum.or, (x, y) => x | y],
  xor: [tnum.xor, (x, y) => x ^ y],
};

describe('tristate numbers of 5 bits, every pair', () => {
  for (const [name, [abstract, concrete]] of Object.entries(binary)) {
    it(`${name} contains every result, and is as sharp as a tnum can be in most cases`, () => {
      let optimal = 0;
      for (const a of all) {
        for (const b of all) {
          const result = abstract(a.t, b.t);
          let and = wrap(-1n);
          let or = 0n;
          for (const x of a.xs) {
            for (const y of b.xs) {
              const z = concrete(x, y);
              if ((z & ~result.mask) !== result.value) expect.fail(`${x} ${name} ${y} = ${z} is missing`);
              and &= z;
              or |= z;
            }
          }
          if (result.mask === (and ^ or)) optimal++;
        }
      }
      expect(optimal / all.length ** 2).toBeGreaterThanOrEqual(name === 'mul' ? 0.93 : 1);
    });
  }

  it('shifts by every amount as sharply as a tnum can', () => {
    for (const { t, xs } of all) {
      for (let shift = 0; shift < BITS; shift++) {
        const by = BigInt(shift);
        const results: [Tnum, (x: bigint) => bigint][] = [
          [tnum.lsh(t, shift, BITS), (x) => wrap(x << by)],
          [tnum.rsh(t, shift), (x) => x >> by],
          [tnum.arsh(t, shift, BITS), (x) => wrap(BigInt.asIntN(BITS, x) >> by)],
        ];
        for (const [result, concrete] of results)
          expect(result).toEqual(xs.map((x) => tnum.constant(concrete(x))).reduce(tnum.union));
      }
    }
  });

  it('unites, intersects and compares as sets do', () => {
    for (const a of all) {
      for (const b of all) {
        const union = members(tnum.union(a.t, b.t), BITS);
        expect(a.xs.every((x) => union.includes(x)) && b.xs.every((x) => union.includes(x))).toBe(true);
        const common = tnum.intersect(a.t, b.t);
        expect(common ? members(common, BITS) : []).toEqual(a.xs.filter((x) => b.xs.includes(x)));
        expect(tnum.includes(a.t, b.t)).toBe(b.xs.every((x) => a.xs.includes(x)));
      }
    }
  }, 60_000);

  it('covers a range by its common leading bits', () => {
    for (let min = 0n; min < 32n; min++) {
      for (let max = min; max < 32n; max++) {
        const t = tnum.ofRange(min, max);
        for (let x = min; x <= max; x++) expect(tnum.contains(t, x)).toBe(true);
      }
    }
    expect(tnum.ofRange(8n, 11n)).toEqual({ value: 8n, mask: 3n });
    expect(tnum.ofRange(0n, MAX_U64)).toEqual(tnum.unknown(64));
  });

  it('truncates and extends', () => {
    for (const { t, xs } of all) {
      for (const x of xs) {
        expect(tnum.contains(tnum.truncate(t, 3), x & 7n)).toBe(true);
        expect(tnum.contains(tnum.signExtend(t, BITS, 9), BigInt.asUintN(9, BigInt.asIntN(BITS, x)))).toBe(
          true,
        );
      }
    }
  });
});

it('multiplies 64-bit constants and masks as the machine does', () => {
  const big = 0xdead_beef_1234_5677n;
  expect(tnum.mul(tnum.constant(big), tnum.constant(big), 64)).toEqual(
    tnum.constant(arithmetic('mul', 64, big, big)),
  );
  expect(tnum.mul({ value: 0n, mask: 7n }, tnum.constant(8n), 64)).toEqual({ value: 0n, mask: 56n });
});
