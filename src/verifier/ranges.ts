// Intervals of integers. An unsigned range of a width lies in 0 … 2^bits - 1, a signed one in
// -2^(bits-1) … 2^(bits-1) - 1. Operators compute with exact integers and wrap to the width at the end.

import { ones } from './tnum.js';

export interface Range {
  readonly min: bigint;
  readonly max: bigint;
}

const FULL_UNSIGNED = Array.from({ length: 65 }, (_, bits) => ({ min: 0n, max: ones(bits) }));
const FULL_SIGNED = Array.from({ length: 65 }, (_, bits) => ({
  min: -(ones(bits) >> 1n) - 1n,
  max: ones(bits) >> 1n,
}));

export const fullUnsigned = (bits: number): Range => FULL_UNSIGNED[bits]!;
export const fullSigned = (bits: number): Range => FULL_SIGNED[bits]!;
export const single = (value: bigint): Range => ({ min: value, max: value });
export const includes = (a: Range, b: Range): boolean => a.min <= b.min && b.max <= a.max;
export const minimum = (a: bigint, b: bigint): bigint => (a < b ? a : b);
export const maximum = (a: bigint, b: bigint): bigint => (a > b ? a : b);
const magnitude = (x: bigint) => (x < 0n ? -x : x);

export function hull(a: Range, b: Range): Range {
  return { min: minimum(a.min, b.min), max: maximum(a.max, b.max) };
}

/** All numbers of both: an end that moves goes on to the next threshold, or to the end of `full`. */
export function widen(a: Range, b: Range, thresholds: readonly bigint[], full: Range): Range {
  let { min, max } = full;
  for (const x of thresholds) {
    if (x <= b.min && x > min) min = x;
    if (x >= b.max && x < max) max = x;
  }
  return { min: b.min < a.min ? min : a.min, max: b.max > a.max ? max : a.max };
}

/** The numbers in both, or undefined where there are none. */
export function intersect(a: Range, b: Range): Range | undefined {
  const min = maximum(a.min, b.min);
  const max = minimum(a.max, b.max);
  return min <= max ? { min, max } : undefined;
}

/** Exact integers min … max modulo 2^bits, unsigned: still an interval if they lie between two multiples of 2^bits. */
export function wrapUnsigned(min: bigint, max: bigint, bits: number): Range {
  const by = BigInt(bits);
  if (min >> by !== max >> by) return fullUnsigned(bits);
  return { min: min & ones(bits), max: max & ones(bits) };
}

/** The same for signed numbers. */
export function wrapSigned(min: bigint, max: bigint, bits: number): Range {
  const half = 1n << BigInt(bits - 1);
  const { min: low, max: high } = wrapUnsigned(min + half, max + half, bits);
  return { min: low - half, max: high - half };
}

type Operator = (a: Range, b: Range, bits: number) => Range;

function products(a: Range, b: Range): Range {
  const corners = [a.min * b.min, a.min * b.max, a.max * b.min, a.max * b.max];
  return { min: corners.reduce(minimum), max: corners.reduce(maximum) };
}

/** Unsigned operators; those of shifts want an amount below the width. A missing one says nothing of its result. */
export const UNSIGNED_OPERATORS: Readonly<Record<string, Operator>> = {
  add: (a, b, bits) => wrapUnsigned(a.min + b.min, a.max + b.max, bits),
  sub: (a, b, bits) => wrapUnsigned(a.min - b.max, a.max - b.min, bits),
  mul: (a, b, bits) => wrapUnsigned(a.min * b.min, a.max * b.max, bits),
  // x + y = (x & y) + (x | y) = 2 (x & y) + (x ^ y), and x | y is below 2^bits.
  and: (a, b, bits) => ({ min: maximum(0n, a.min + b.min - ones(bits)), max: minimum(a.max, b.max) }),
  or: (a, b, bits) => ({ min: maximum(a.min, b.min), max: minimum(ones(bits), a.max + b.max) }),
  xor: (a, b, bits) => ({
    min: maximum(0n, maximum(a.min - b.max, b.min - a.max)),
    max: minimum(ones(bits), a.max + b.max),
  }),
  lsh: (a, b, bits) => wrapUnsigned(a.min << b.min, a.max << b.max, bits),
  rsh: (a, b) => ({ min: a.min >> b.max, max: a.max >> b.min }),
  // RFC 9669: x / 0 = 0, x % 0 = x.
  div(a, b) {
    if (b.max === 0n) return single(0n);
    return { min: b.min === 0n ? 0n : a.min / b.max, max: a.max / maximum(b.min, 1n) };
  },
  mod(a, b) {
    if (b.max === 0n || a.max < b.min) return a;
    if (b.min === b.max && a.min / b.min === a.max / b.min) return { min: a.min % b.min, max: a.max % b.min };
    return { min: 0n, max: b.min === 0n ? a.max : minimum(a.max, b.max - 1n) };
  },
};

/** Signed operators. */
export const SIGNED_OPERATORS: Readonly<Record<string, Operator>> = {
  add: (a, b, bits) => wrapSigned(a.min + b.min, a.max + b.max, bits),
  sub: (a, b, bits) => wrapSigned(a.min - b.max, a.max - b.min, bits),
  mul(a, b, bits) {
    const { min, max } = products(a, b);
    return wrapSigned(min, max, bits);
  },
  lsh(a, b, bits) {
    const { min, max } = products(a, { min: 1n << b.min, max: 1n << b.max });
    return wrapSigned(min, max, bits);
  },
  arsh: (a, b) => ({
    min: a.min >> (a.min < 0n ? b.min : b.max),
    max: a.max >> (a.max < 0n ? b.max : b.min),
  }),
  sdiv(a, b, bits) {
    const divisors = [b.min, b.max, -1n, 1n].filter((d) => d !== 0n && d >= b.min && d <= b.max);
    const quotients = divisors.flatMap((d) => [a.min / d, a.max / d]);
    if (b.min <= 0n && b.max >= 0n) quotients.push(0n);
    return wrapSigned(quotients.reduce(minimum), quotients.reduce(maximum), bits);
  },
  // The result has the sign of the dividend and is no greater than it.
  smod(a, b) {
    const mayBeZero = b.min <= 0n && b.max >= 0n;
    const smallest = mayBeZero ? 0n : minimum(magnitude(b.min), magnitude(b.max));
    const largest = maximum(magnitude(b.min), magnitude(b.max));
    if (largest === 0n || maximum(magnitude(a.min), magnitude(a.max)) < smallest) return a;
    const min = minimum(a.min, 0n);
    const max = maximum(a.max, 0n);
    return mayBeZero ? { min, max } : { min: maximum(min, 1n - largest), max: minimum(max, largest - 1n) };
  },
};
