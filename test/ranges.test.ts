import { describe, expect, it } from 'vitest';
import { arithmetic } from '../src/bpf/alu.js';
import * as ranges from '../src/verifier/ranges.js';
import { type Range, SIGNED_OPERATORS, UNSIGNED_OPERATORS } from '../src/verifier/ranges.js';

const BITS = 4;

const numbers = ({ min, max }: Range): bigint[] =>
  Array.from({ length: Number(max - min) + 1 }, (_, i) => min + BigInt(i));

function everyRange({ min, max }: Range): Range[] {
  return numbers({ min, max }).flatMap((from) =>
    numbers({ min: from, max }).map((to) => ({ min: from, max: to })),
  );
}

const modulus = 1n << BigInt(BITS);
/** What an operator means at 4 bits, told by RFC 9669 and not by the code under test. */
const meaning: Record<string, (x: bigint, y: bigint) => bigint> = {
  add: (x, y) => x + y,
  sub: (x, y) => x - y,
  mul: (x, y) => x * y,
  and: (x, y) => x & y,
  or: (x, y) => x | y,
  div: (x, y) => (y === 0n ? 0n : x / y),
  mod: (x, y) => (y === 0n ? x : x % y),
  sdiv: (x, y) => (y === 0n ? 0n : x / y),
  smod: (x, y) => (y === 0n ? x : x % y),
  lsh: (x, y) => x << y,
  rsh: (x, y) => x >> y,
  arsh: (x, y) => x >> y,
};
const SHIFTS = ['lsh', 'rsh', 'arsh'];
const amounts = everyRange({ min: 0n, max: BigInt(BITS - 1) });

for (const [title, operators, full, wrap] of [
  ['unsigned', UNSIGNED_OPERATORS, ranges.fullUnsigned(BITS), (x: bigint) => BigInt.asUintN(BITS, x)],
  ['signed', SIGNED_OPERATORS, ranges.fullSigned(BITS), (x: bigint) => BigInt.asIntN(BITS, x)],
] as const) {
  describe(`${title} ranges of 4 bits, every pair`, () => {
    const all = everyRange(full);
    for (const [name, operator] of Object.entries(operators)) {
      it(`${name} contains every result and nothing outside the width`, () => {
        for (const a of all) {
          for (const b of SHIFTS.includes(name) ? amounts : all) {
            const result = operator(a, b, BITS);
            if (!ranges.includes(full, result))
              expect.fail(`${name} of ${text(a)} and ${text(b)} is ${text(result)}`);
            for (const x of numbers(a)) {
              for (const y of numbers(b)) {
                const z = wrap(meaning[name]!(x, y));
                if (z < result.min || z > result.max)
                  expect.fail(
                    `${x} ${name} ${y} = ${z} is not in ${text(result)} for ${text(a)} and ${text(b)}`,
                  );
              }
            }
          }
        }
        expect(all.length).toBe(136);
      });
    }
  });
}

it('means by its operators what the machine means', () => {
  for (const [name, operation] of Object.entries(meaning)) {
    const signed = name in SIGNED_OPERATORS && !(name in UNSIGNED_OPERATORS);
    for (const x of [0n, 1n, 7n, -8n, -1n, 5n]) {
      for (const y of [0n, 1n, 2n, -1n, -3n]) {
        if (SHIFTS.includes(name) && y < 0n) continue;
        const [a, b] = [BigInt.asUintN(64, x), BigInt.asUintN(64, y)];
        const expected = signed ? operation(x, y) : operation(a, b);
        expect(arithmetic(name, 64, a, b), `${x} ${name} ${y}`).toBe(BigInt.asUintN(64, expected));
      }
    }
  }
});

it('wraps an interval only where it does not cross a multiple of the modulus', () => {
  expect(ranges.wrapUnsigned(14n, 15n, BITS)).toEqual({ min: 14n, max: 15n });
  expect(ranges.wrapUnsigned(16n, 18n, BITS)).toEqual({ min: 0n, max: 2n });
  expect(ranges.wrapUnsigned(15n, 16n, BITS)).toEqual({ min: 0n, max: modulus - 1n });
  expect(ranges.wrapSigned(8n, 9n, BITS)).toEqual({ min: -8n, max: -7n });
  expect(ranges.wrapSigned(-9n, -8n, BITS)).toEqual({ min: -8n, max: 7n });
});

const text = ({ min, max }: Range) => `${min}..${max}`;
