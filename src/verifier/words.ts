// What is known of a number of one width: its bits, its unsigned range and its signed range, each of which
// sharpens the others. Generic over the width, so that what runs at 64 bits is checked exhaustively at 4.

import { swapBytes as swap } from '../bpf/alu.js';
import * as ranges from './ranges.js';
import { maximum, minimum, type Range, SIGNED_OPERATORS, UNSIGNED_OPERATORS } from './ranges.js';
import type { Tnum } from './tnum.js';
import * as tnum from './tnum.js';

export interface Word {
  readonly bits: number;
  readonly t: Tnum;
  readonly u: Range;
  readonly s: Range;
}

const UNKNOWN: readonly Word[] = Array.from({ length: 65 }, (_, bits) => ({
  bits,
  t: tnum.unknown(bits),
  u: ranges.fullUnsigned(bits),
  s: ranges.fullSigned(bits),
}));

export const unknown = (bits: number): Word => UNKNOWN[bits]!;
export const isConstant = (a: Word): boolean => a.t.mask === 0n;

export function constant(value: bigint, bits: number): Word {
  const t = tnum.constant(BigInt.asUintN(bits, value));
  return { bits, t, u: ranges.single(t.value), s: ranges.single(BigInt.asIntN(bits, value)) };
}

/** Unsigned min … max. */
export function between(min: bigint, max: bigint, bits: number): Word {
  return reduce({ ...unknown(bits), u: { min, max } }) ?? unknown(bits);
}

export const contains = (a: Word, x: bigint): boolean =>
  tnum.contains(a.t, x) && inRange(a.u, x) && inRange(a.s, BigInt.asIntN(a.bits, x));
const inRange = (r: Range, x: bigint) => r.min <= x && x <= r.max;

/** Whether every number of `b` is one of `a`. */
export const includes = (a: Word, b: Word): boolean =>
  tnum.includes(a.t, b.t) && ranges.includes(a.u, b.u) && ranges.includes(a.s, b.s);

export function union(a: Word, b: Word): Word {
  return {
    bits: a.bits,
    t: tnum.union(a.t, b.t),
    u: ranges.hull(a.u, b.u),
    s: ranges.hull(a.s, b.s),
  };
}

/** Ends of the signed and unsigned numbers of a width and of half that width. */
const LIMITS: readonly (readonly bigint[])[] = Array.from({ length: 65 }, (_, bits) => {
  const ends = [bits >> 1, bits].flatMap((width) => [tnum.ones(width), tnum.ones(width) >> 1n]);
  return [0n, ...ends, ...ends.map((end) => -end - 1n)];
});

/**
 * All numbers of both, and more, so that a chain x = widen(x, …) soon stays as it is: ends that move go on to the
 * next of `thresholds` (read as signed or unsigned numbers of this width) or limits of types. It returns `a` itself
 * where that includes `b`. Its parts are not sharpened by each other: that might keep the chain going.
 */
export function widen(a: Word, b: Word, thresholds: readonly bigint[] = []): Word {
  if (includes(a, b)) return a;
  const { bits } = a;
  const all = [...thresholds, ...LIMITS[bits]!];
  const unsigned = all.map((x) => BigInt.asUintN(bits, x));
  const signed = all.map((x) => BigInt.asIntN(bits, x));
  const u = ranges.widen(a.u, b.u, unsigned, ranges.fullUnsigned(bits));
  const s = ranges.widen(a.s, b.s, signed, ranges.fullSigned(bits));
  return { bits, t: tnum.widen(a.t, b.t, tnum.bitLength(u.min ^ u.max)), u, s };
}

/** The numbers in both, or undefined where there are none. */
export function intersect(a: Word, b: Word): Word | undefined {
  const t = tnum.intersect(a.t, b.t);
  const u = ranges.intersect(a.u, b.u);
  const s = ranges.intersect(a.s, b.s);
  return t && u && s && reduce({ bits: a.bits, t, u, s });
}

/**
 * Lets bits and ranges sharpen each other, as far as that goes; undefined if they contradict each other. The numbers
 * with the sign bit clear and those with it set are two intervals, for either reading of the bits.
 */
export function reduce({ bits, t, u, s }: Word): Word | undefined {
  const sign = 1n << BigInt(bits - 1);
  const modulus = sign << 1n;
  const rest = t.mask & ~sign;
  // Both as unsigned numbers.
  const low =
    s.max < 0n || (t.value & sign) !== 0n
      ? undefined
      : span({ value: t.value, mask: rest }, maximum(u.min, s.min), minimum(u.max, s.max), bits);
  const high =
    s.min >= 0n || ((t.value | t.mask) & sign) === 0n
      ? undefined
      : span(
          { value: t.value | sign, mask: rest },
          maximum(u.min, s.min + modulus),
          s.max < 0n ? minimum(u.max, s.max + modulus) : u.max,
          bits,
        );
  const first = low ?? high;
  const last = high ?? low;
  if (!first || !last) return undefined;
  const both = tnum.union(tnum.ofRange(first.min, first.max), tnum.ofRange(last.min, last.max));
  return {
    bits,
    t: tnum.intersect(t, both)!,
    u: { min: first.min, max: last.max },
    s: { min: high ? high.min - modulus : first.min, max: low ? low.max : last.max - modulus },
  };
}

/** From the first to the last number of `t` in min … max. */
function span(t: Tnum, min: bigint, max: bigint, bits: number): Range | undefined {
  if (min > max) return undefined;
  const first = tnum.atLeast(t, min);
  const last = tnum.atMost(t, max, bits);
  return first !== undefined && last !== undefined && first <= last ? { min: first, max: last } : undefined;
}

const SHIFTS = new Set(['lsh', 'rsh', 'arsh']);

/** a op b, both of the same width, as RFC 9669 defines it: wrapping, x / 0 = 0, x % 0 = x, shifts modulo the width. */
export function alu(op: string, a: Word, b: Word): Word {
  if (op === 'mov') return b;
  if (op === 'neg') return alu('sub', constant(0n, a.bits), a);
  const { bits } = a;
  const right = SHIFTS.has(op) ? alu('and', b, constant(BigInt(bits - 1), bits)) : b;
  const t = tnum.TNUM_OPERATORS[op]?.(a.t, right.t, bits) ?? tnum.unknown(bits);
  if (tnum.isConstant(t)) return constant(t.value, bits);
  const u = UNSIGNED_OPERATORS[op]?.(a.u, right.u, bits) ?? ranges.fullUnsigned(bits);
  const s = SIGNED_OPERATORS[op]?.(a.s, right.s, bits) ?? ranges.fullSigned(bits);
  return reduce({ bits, t, u, s }) ?? unknown(bits);
}

/** The low `bits` bits. */
export function truncate(a: Word, bits: number): Word {
  if (bits === a.bits) return a;
  const u = ranges.wrapUnsigned(a.u.min, a.u.max, bits);
  const uOfSigned = ranges.wrapUnsigned(a.s.min, a.s.max, bits);
  const s = ranges.wrapSigned(a.s.min, a.s.max, bits);
  const sOfUnsigned = ranges.wrapSigned(a.u.min, a.u.max, bits);
  const t = tnum.truncate(a.t, bits);
  const both = { u: ranges.intersect(u, uOfSigned), s: ranges.intersect(s, sOfUnsigned) };
  return (both.u && both.s && reduce({ bits, t, u: both.u, s: both.s })) ?? unknown(bits);
}

export function zeroExtend(a: Word, bits: number): Word {
  if (bits === a.bits) return a;
  return { bits, t: a.t, u: a.u, s: a.u };
}

export function signExtend(a: Word, bits: number): Word {
  if (bits === a.bits) return a;
  const t = tnum.signExtend(a.t, a.bits, bits);
  return reduce({ bits, t, u: ranges.fullUnsigned(bits), s: a.s }) ?? unknown(bits);
}

/** The bytes of the number in the opposite order; the width is a whole number of bytes. */
export function swapBytes(a: Word): Word {
  const { bits } = a;
  const t = { value: swap('bswap', bits, a.t.value), mask: swap('bswap', bits, a.t.mask) };
  return reduce({ ...unknown(bits), t }) ?? unknown(bits);
}
