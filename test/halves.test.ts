import { expect, test } from 'vitest';
import {
  add,
  and,
  bigintOf,
  bitLength,
  halvesOf,
  isEqual,
  isZero,
  lowestBit,
  negate,
  not,
  onesAt,
  or,
  overlaps,
  shiftLeft,
  shiftRightSigned,
  signExtend,
  signedImmediate,
  sumFits,
  truncate,
  xor,
} from '../src/halves.js';
import { VALUES } from './boundary-values.js';

const u64 = (value: bigint) => BigInt.asUintN(64, value);

test('two halves are the number that they came from', () => {
  for (const value of VALUES) {
    expect(bigintOf(halvesOf(u64(value)))).toBe(u64(value));
    expect(isZero(halvesOf(u64(value)))).toBe(u64(value) === 0n);
  }
});

test('they are shifted by every count, cut at every width and tell immediates as bigints do', () => {
  for (const value of VALUES.map(u64)) {
    const halves = halvesOf(value);
    for (let count = 0; count < 64; count++) {
      expect(bigintOf(shiftLeft(halves, count))).toBe(u64(value << BigInt(count)));
      expect(bigintOf(shiftLeft(halves, -count))).toBe(value >> BigInt(count));
      const signed = BigInt.asIntN(64, value) >> BigInt(count);
      expect(bigintOf(shiftRightSigned(halves, count))).toBe(u64(signed));
    }
    for (let bits = 0; bits <= 64; bits++)
      expect(bigintOf(truncate(halves, bits))).toBe(BigInt.asUintN(bits, value));
    for (let bits = 1; bits <= 64; bits++)
      expect(bigintOf(signExtend(halves, bits))).toBe(u64(BigInt.asIntN(bits, value)));
    const digits = value.toString(2);
    expect(bitLength(halves)).toBe(value === 0n ? 0 : digits.length);
    if (value !== 0n) expect(lowestBit(halves)).toBe(digits.length - 1 - digits.lastIndexOf('1'));
    expect(bigintOf(not(halves))).toBe(u64(~value));
    expect(bigintOf(negate(halves))).toBe(u64(-value));
    const signed = BigInt.asIntN(32, value);
    expect(signedImmediate(halves)).toBe(u64(signed) === value ? Number(signed) : undefined);
  }
});

test('they are joined, compared and added as bigints are', () => {
  for (const a of VALUES.map(u64)) {
    for (const b of VALUES.map(u64)) {
      const [x, y] = [halvesOf(a), halvesOf(b)];
      expect(bigintOf(or(x, y))).toBe(a | b);
      expect(bigintOf(and(x, y))).toBe(a & b);
      expect(bigintOf(xor(x, y))).toBe(a ^ b);
      expect(bigintOf(add(x, y))).toBe(u64(a + b));
      expect(isEqual(x, y)).toBe(a === b);
      expect(overlaps(x, y)).toBe((a & b) !== 0n);
      for (const bits of [8, 16, 32, 64]) {
        if (a >> BigInt(bits) !== 0n || b >> BigInt(bits) !== 0n) continue;
        expect([a, b, bits, sumFits(x, y, bits)]).toEqual([a, b, bits, (a + b) >> BigInt(bits) === 0n]);
      }
    }
  }
});

test('runs of ones lie where they are wanted', () => {
  for (let bits = 1; bits <= 64; bits++) {
    for (let to = 0; to + bits <= 64; to++)
      expect(bigintOf(onesAt(bits, to))).toBe(((1n << BigInt(bits)) - 1n) << BigInt(to));
  }
});
