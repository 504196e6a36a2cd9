import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { arithmetic, comparison } from '../src/bpf/alu.js';
import { MAX_U64 } from '../src/bytes.js';
import { OPPOSITE } from '../src/verifier/compare.js';
import * as ranges from '../src/verifier/ranges.js';
import type { Scalar } from '../src/verifier/scalars.js';
import * as scalars from '../src/verifier/scalars.js';
import type { Word } from '../src/verifier/words.js';
import * as words from '../src/verifier/words.js';
import { type Random, seeded } from './random-formats.js';

const OPERATORS = [
  'add',
  'sub',
  'mul',
  'div',
  'sdiv',
  'or',
  'and',
  'lsh',
  'rsh',
  'mod',
  'smod',
  'xor',
  'mov',
  'arsh',
  'neg',
];
const COMPARISONS = Object.keys(OPPOSITE);

/** The operator at any width; `arithmetic` is told by RFC 9669 and masks by 64 bits for widths it does not know. */
function machine(op: string, bits: number, x: bigint, y: bigint): bigint {
  const s = (v: bigint) => BigInt.asIntN(bits, v);
  const u = (v: bigint) => BigInt.asUintN(bits, v);
  const amount = y & BigInt(bits - 1);
  if (op === 'sdiv' || op === 'smod')
    return u(arithmetic(op, 64, BigInt.asUintN(64, s(x)), BigInt.asUintN(64, s(y))));
  if (op === 'arsh') return u(s(x) >> amount);
  if (op === 'lsh' || op === 'rsh') return u(arithmetic(op, 64, x, amount));
  return u(arithmetic(op, 64, x, y));
}

const holds = (op: string, bits: number, x: bigint, y: bigint) =>
  op === 'jnset' ? (x & y) === 0n : comparison(op, bits, x, y);

const every = (bits: number) => Array.from({ length: 1 << bits }, (_, i) => BigInt(i));

/** A scalar of `bits` bits with its low half, made from constraints that may or may not fit together. */
function someScalar(next: Random, bits: number): { scalar: Scalar; xs: bigint[] } {
  for (;;) {
    const part = (width: number): Word | undefined => {
      const mask = BigInt(next(1 << width)) | BigInt(next(1 << width));
      const span = [next(1 << width), next(1 << width)].sort((a, b) => a - b).map(BigInt);
      const half = 1n << BigInt(width - 1);
      const signed = [next(1 << width), next(1 << width)].sort((a, b) => a - b).map((x) => BigInt(x) - half);
      return words.reduce({
        bits: width,
        t: next(2) ? { value: BigInt(next(1 << width)) & ~mask, mask } : words.unknown(width).t,
        u: next(2) ? { min: span[0]!, max: span[1]! } : ranges.fullUnsigned(width),
        s: next(2) ? { min: signed[0]!, max: signed[1]! } : ranges.fullSigned(width),
      });
    };
    const [whole, low] = [part(bits), part(bits / 2)];
    if (!whole || !low) continue;
    const mask = BigInt((1 << (bits / 2)) - 1);
    const xs = every(bits).filter((x) => words.contains(whole, x) && words.contains(low, x & mask));
    const scalar = scalars.sync(whole, low);
    if (!scalar) {
      expect(xs).toEqual([]);
      continue;
    }
    for (const x of xs) if (!scalars.contains(scalar, x)) expect.fail(`sync loses ${x}`);
    if (xs.length > 0) return { scalar, xs };
  }
}

for (const bits of [4, 6, 8]) {
  it(`scalars of ${bits} bits and their low halves: operators and comparisons are sound`, () => {
    const next = seeded(bits);
    const half = bits / 2;
    const low = (x: bigint) => BigInt.asUintN(half, x);
    let held = 0;
    for (let round = 0; round < 3000; round++) {
      const a = someScalar(next, bits);
      const b = someScalar(next, bits);
      const pairs = Array.from(
        { length: 40 },
        () => [a.xs[next(a.xs.length)]!, b.xs[next(b.xs.length)]!] as const,
      );
      const op = OPERATORS[round % OPERATORS.length]!;
      const whole = scalars.aluWhole(op, a.scalar, b.scalar);
      const narrow = scalars.aluLow(op, a.scalar, b.scalar);
      for (const [x, y] of pairs) {
        if (!scalars.contains(whole, machine(op, bits, x, y))) expect.fail(`${x} ${op} ${y}`);
        if (!scalars.contains(narrow, machine(op, half, low(x), low(y)))) expect.fail(`low ${x} ${op} ${y}`);
      }
      const comparison = COMPARISONS[round % COMPARISONS.length]!;
      for (const width of [bits, half]) {
        const refined = scalars.assume(comparison, width, a.scalar, b.scalar);
        for (const [x, y] of pairs) {
          if (!holds(comparison, width, BigInt.asUintN(width, x), BigInt.asUintN(width, y))) continue;
          held++;
          if (!refined || !scalars.contains(refined[0], x) || !scalars.contains(refined[1], y))
            expect.fail(`${x} ${comparison} ${y} of ${width} bits`);
        }
      }
      for (const x of a.xs) {
        const extended = BigInt.asUintN(bits, BigInt.asIntN(half - 1, x));
        if (!scalars.contains(scalars.signExtend(a.scalar, half - 1, bits), extended))
          expect.fail(`sign-extend ${x}`);
        if (!scalars.contains(scalars.truncate(a.scalar, half + 1), x & BigInt((1 << (half + 1)) - 1)))
          expect.fail(`truncate ${x}`);
      }
    }
    expect(held).toBeGreaterThan(50_000);
  });
}

describe('scalars of 64 bits', () => {
  const number = fc.oneof(
    fc.bigInt({ min: 0n, max: MAX_U64 }),
    fc.bigInt({ min: -300n, max: 300n }).map((x) => BigInt.asUintN(64, x)),
    fc.bigInt({ min: -3n, max: 3n }).map((x) => BigInt.asUintN(64, (1n << 31n) + x)),
    fc.bigInt({ min: -3n, max: 3n }).map((x) => BigInt.asUintN(64, (1n << 32n) + x)),
    fc.bigInt({ min: -3n, max: 3n }).map((x) => BigInt.asUintN(64, (1n << 63n) + x)),
  );
  /** A scalar and a number it contains: the union of a few, or one cut down by comparisons that it passes. */
  const known = fc
    .tuple(
      fc.array(number, { minLength: 1, maxLength: 3 }),
      fc.array(fc.tuple(fc.constantFrom(...COMPARISONS), fc.constantFrom(32, 64), number), { maxLength: 3 }),
      fc.boolean(),
    )
    .map(([xs, cuts, unknown]) => {
      const x = xs[0]!;
      let scalar = unknown ? scalars.unknown() : xs.map((y) => scalars.constant(y)).reduce(scalars.union);
      for (const [op, bits, y] of cuts) {
        const way = holds(op, bits, BigInt.asUintN(bits, x), BigInt.asUintN(bits, y)) ? op : OPPOSITE[op]!;
        scalar = scalars.assume(way, bits, scalar, scalars.constant(y))![0];
      }
      return { scalar, x };
    });

  it('contain what the machine computes from numbers they contain', () => {
    fc.assert(
      fc.property(known, known, fc.constantFrom(...OPERATORS), (a, b, op) => {
        expect(scalars.contains(a.scalar, a.x)).toBe(true);
        expect(scalars.contains(scalars.aluWhole(op, a.scalar, b.scalar), arithmetic(op, 64, a.x, b.x))).toBe(
          true,
        );
        expect(scalars.contains(scalars.aluLow(op, a.scalar, b.scalar), arithmetic(op, 32, a.x, b.x))).toBe(
          true,
        );
      }),
      { numRuns: 5000, seed: 1 },
    );
  });

  it('keep a pair of numbers for which a comparison is true', () => {
    fc.assert(
      fc.property(
        known,
        known,
        fc.constantFrom(...COMPARISONS),
        fc.constantFrom(32, 64),
        (a, b, op, bits) => {
          const way = holds(op, bits, BigInt.asUintN(bits, a.x), BigInt.asUintN(bits, b.x))
            ? op
            : OPPOSITE[op]!;
          const refined = scalars.assume(way, bits, a.scalar, b.scalar);
          expect(refined && scalars.contains(refined[0], a.x) && scalars.contains(refined[1], b.x)).toBe(
            true,
          );
        },
      ),
      { numRuns: 5000, seed: 2 },
    );
  });

  it('know the bytes of a swapped number', () => {
    const a = scalars.truncate(scalars.unknown(), 8);
    expect(scalars.swapBytes(a, 16).whole.t).toEqual({ value: 0n, mask: 0xff00n });
    expect(scalars.swapBytes(scalars.constant(0x0102_0304n), 32).whole.u.min).toBe(0x0403_0201n);
  });
});
