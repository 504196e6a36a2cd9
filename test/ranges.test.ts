import { describe, expect, it } from 'vitest';
import * as ranges from '../src/verifier/ranges.js';
import { type Range, SIGNED_OPERATORS, UNSIGNED_OPERATORS } from '../src/verifier/ranges.js';
import { ALL_PAIRS, expectScores, operatorsOf, readingsOf, SHIFTS } from './operators.js';

/** All ranges of first … last, the shorter ones of one beginning before the longer ones. */
function everyRange(first: number, last: number): Range[] {
  const found: Range[] = [];
  for (let min = first; min <= last; min++)
    for (let max = min; max <= last; max++) found.push({ min: BigInt(min), max: BigInt(max) });
  return found;
}

interface Domain {
  readonly bits: number;
  readonly full: Range;
  /** How a number of the width is read. */
  readonly read: (x: number) => number;
}

/** Of how many pairs the result is as sharp as a range can be; it fails where a result is missing. */
function scoreOf(
  { bits, full, read }: Domain,
  op: string,
  operator: (a: Range, b: Range, bits: number) => Range,
) {
  const { wrap } = readingsOf(bits);
  const meaning = operatorsOf(bits)[op]!;
  const all = everyRange(Number(full.min), Number(full.max));
  const right = SHIFTS.includes(op) ? everyRange(0, bits - 1) : all;
  let sharp = 0;
  for (const a of all) {
    // Of the results with one right operand, the least and greatest; then of those up to the last right operand.
    const columns = new Map<number, [number, number]>();
    for (const { min } of right) {
      const y = Number(min);
      if (columns.has(y)) continue;
      let [least, greatest] = [Infinity, -Infinity];
      for (let x = Number(a.min); x <= Number(a.max); x++) {
        const z = read(meaning(wrap(x), wrap(y)));
        least = Math.min(least, z);
        greatest = Math.max(greatest, z);
      }
      columns.set(y, [least, greatest]);
    }
    let [least, greatest] = [Infinity, -Infinity];
    for (const b of right) {
      if (b.min === b.max) [least, greatest] = [Infinity, -Infinity];
      const column = columns.get(Number(b.max))!;
      least = Math.min(least, column[0]);
      greatest = Math.max(greatest, column[1]);
      const result = operator(a, b, bits);
      const [min, max] = [Number(result.min), Number(result.max)];
      if (min > least || max < greatest || !ranges.includes(full, result))
        expect.fail(`${op} of ${textOf(a)} and ${textOf(b)} is ${least}..${greatest}, not ${textOf(result)}`);
      if (min === least && max === greatest) sharp++;
    }
  }
  return sharp / (all.length * right.length);
}

const textOf = ({ min, max }: Range) => `${min}..${max}`;

describe.each(ALL_PAIRS ? [4, 5, 6] : [4, 5])('ranges of %i bits, every pair', (bits) => {
  const { wrap, signed } = readingsOf(bits);
  it.each([
    ['unsigned', UNSIGNED_OPERATORS, { bits, full: ranges.fullUnsigned(bits), read: wrap }],
    ['signed', SIGNED_OPERATORS, { bits, full: ranges.fullSigned(bits), read: signed }],
  ] as const)(
    '%s operators contain every result, and are as sharp as they were',
    (reading, operators, domain) => {
      const scores: Record<string, number> = {};
      for (const [op, operator] of Object.entries(operators)) scores[op] = scoreOf(domain, op, operator);
      expectScores(`${reading} ranges of ${bits} bits`, scores);
    },
    300_000,
  );
});

it('wraps an interval only where it does not cross a multiple of the modulus', () => {
  expect(ranges.wrapUnsigned(14n, 15n, 4)).toEqual({ min: 14n, max: 15n });
  expect(ranges.wrapUnsigned(16n, 18n, 4)).toEqual({ min: 0n, max: 2n });
  expect(ranges.wrapUnsigned(15n, 16n, 4)).toEqual({ min: 0n, max: 15n });
  expect(ranges.wrapSigned(8n, 9n, 4)).toEqual({ min: -8n, max: -7n });
  expect(ranges.wrapSigned(-9n, -8n, 4)).toEqual({ min: -8n, max: 7n });
});
