// Tristate numbers: of each bit it is known that it is 0, or 1, or nothing. Bits in `mask` are unknown, the
// others are those of `value`; value & mask = 0. Every operator takes the width in bits and wraps to it.

import { MAX_U64 } from '../bytes.js';

export interface Tnum {
  readonly value: bigint;
  readonly mask: bigint;
}

/** 2^bits - 1, for up to 64 bits. */
export const ones = (bits: number): bigint => ONES[bits]!;
const ONES = Array.from({ length: 65 }, (_, bits) => BigInt.asUintN(bits, MAX_U64));

export const constant = (value: bigint): Tnum => ({ value, mask: 0n });
export const unknown = (bits: number): Tnum => ({ value: 0n, mask: ones(bits) });
export const isConstant = (a: Tnum): boolean => a.mask === 0n;
export const contains = (a: Tnum, x: bigint): boolean => (x & ~a.mask) === a.value;
/** Whether every number of `b` is one of `a`. */
export const includes = (a: Tnum, b: Tnum): boolean =>
  (b.mask & ~a.mask) === 0n && (b.value & ~a.mask) === a.value;

/** The smallest tnum with all numbers of both. */
export function union(a: Tnum, b: Tnum): Tnum {
  const mask = a.mask | b.mask | (a.value ^ b.value);
  return { value: a.value & ~mask, mask };
}

/**
 * All numbers of both, and more, so that a chain of these ends soon: from the lowest bit that is newly unknown up to
 * bit `high`, all are unknown.
 */
export function widen(a: Tnum, b: Tnum, high: number): Tnum {
  const { mask } = union(a, b);
  const news = mask & ~a.mask;
  if (news === 0n) return a;
  const lowest = bitLength(news & -news) - 1;
  // Multiples of up to 128 stay such multiples; beyond that, of whole bytes.
  const from = lowest < 8 ? lowest : lowest & ~7;
  const wide = mask | (ones(high) & ~ones(from));
  return { value: a.value & ~wide, mask: wide };
}

/** The numbers in both, or undefined where there are none. */
export function intersect(a: Tnum, b: Tnum): Tnum | undefined {
  const mask = a.mask & b.mask;
  if (((a.value ^ b.value) & ~a.mask & ~b.mask) !== 0n) return undefined;
  return { value: (a.value | b.value) & ~mask, mask };
}

/** The smallest tnum with min … max: what their common leading bits say. */
export function ofRange(min: bigint, max: bigint): Tnum {
  const differ = min ^ max;
  if (differ === 0n) return constant(min);
  const mask = ones(bitLength(differ));
  return { value: min & ~mask, mask };
}

export function bitLength(x: bigint): number {
  const high = Number(x >> 32n);
  return high ? 64 - Math.clz32(high) : 32 - Math.clz32(Number(x));
}

export function add(a: Tnum, b: Tnum, bits: number): Tnum {
  const low = a.value + b.value;
  const carries = (low + a.mask + b.mask) ^ low;
  const mask = (carries | a.mask | b.mask) & ones(bits);
  return { value: low & ~mask & ones(bits), mask };
}

export function sub(a: Tnum, b: Tnum, bits: number): Tnum {
  const middle = a.value - b.value;
  const borrows = (middle + a.mask) ^ (middle - b.mask);
  const mask = (borrows | a.mask | b.mask) & ones(bits);
  return { value: middle & ~mask & ones(bits), mask };
}

/** Long multiplication: a bit of `a` that may be set adds `b`, or does not. */
export function mul(a: Tnum, b: Tnum, bits: number): Tnum {
  if (isConstant(a) && isConstant(b)) return constant((a.value * b.value) & ones(bits));
  if (isConstant(b)) return mul(b, a, bits);
  let sum = constant(0n);
  let { value, mask } = a;
  for (let shift = 0; (value | mask) !== 0n; shift++, value >>= 1n, mask >>= 1n) {
    if (((value | mask) & 1n) === 0n) continue;
    const more = add(sum, lsh(b, shift, bits), bits);
    sum = value & 1n ? more : union(sum, more);
  }
  return sum;
}

export function and(a: Tnum, b: Tnum): Tnum {
  const value = a.value & b.value;
  return { value, mask: (a.value | a.mask) & (b.value | b.mask) & ~value };
}

export function or(a: Tnum, b: Tnum): Tnum {
  const value = a.value | b.value;
  return { value, mask: (a.mask | b.mask) & ~value };
}

export function xor(a: Tnum, b: Tnum): Tnum {
  const mask = a.mask | b.mask;
  return { value: (a.value ^ b.value) & ~mask, mask };
}

export function lsh(a: Tnum, shift: number, bits: number): Tnum {
  const by = BigInt(shift);
  return { value: (a.value << by) & ones(bits), mask: (a.mask << by) & ones(bits) };
}

export function rsh(a: Tnum, shift: number): Tnum {
  const by = BigInt(shift);
  return { value: a.value >> by, mask: a.mask >> by };
}

export function arsh(a: Tnum, shift: number, bits: number): Tnum {
  const by = BigInt(shift);
  const signed = (x: bigint) => BigInt.asUintN(bits, BigInt.asIntN(bits, x) >> by);
  return { value: signed(a.value), mask: signed(a.mask) };
}

export function truncate(a: Tnum, bits: number): Tnum {
  return { value: a.value & ones(bits), mask: a.mask & ones(bits) };
}

/** From `from` bits to `to` bits by copies of the sign bit. */
export function signExtend(a: Tnum, from: number, to: number): Tnum {
  const extend = (x: bigint) => BigInt.asUintN(to, BigInt.asIntN(from, x));
  return { value: extend(a.value), mask: extend(a.mask) };
}
