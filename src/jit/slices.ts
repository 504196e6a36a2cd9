// Values as sums of bit slices of memory, and what BPF's arithmetic does to them. An operation whose result is no
// such sum gives undefined; so does every operation on undefined.
//
//   value = ((slice << to + slice << to + … + plus) mod 2^width) >> skip, zero-extended to 64 bits unless it is open

import * as halves from '../halves.js';
import { bitLength, type Halves, isEqual, isZero, onesAt, overlaps, sumFits, ZERO } from '../halves.js';

/** Bits `from` … `from + bits - 1` of a memory region (lsb0: bit i is bit i%8 of byte i/8), at bit `to` of a value. */
export interface Slice {
  readonly from: number;
  readonly bits: number;
  readonly to: number;
}

/** A slice, and the number of the load that it came with. */
export interface LoadedSlice extends Slice {
  readonly load: number;
}

export interface Sum {
  /** No two share a bit of the value; lowest first. */
  readonly slices: readonly LoadedSlice[];
  /** Whether the topmost slice's highest bit is copied into all bits above. */
  readonly signed: boolean;
  /** 0 … 2^width - 1. */
  readonly plus: Halves;
  /** 64 for every sum that cannot wrap. */
  readonly width: number;
  /** Whether the bits from `width` on may be anything. */
  readonly open: boolean;
  /** Low bits that were shifted out, but whose carry is part of the value; 0 where there is none. */
  readonly skip: number;
}

type Slices = readonly LoadedSlice[];
export type MaybeSum = Sum | undefined;

export const constant = (value: Halves): Sum => sum([], value, 64, false);

/** What a load of so many bits gives. */
export const loaded = (from: number, bits: number, load: number): Sum =>
  sum([{ from, bits, to: 0, load }], ZERO, 64, false);

export const isConstant = (value: Sum): boolean => value.slices.length === 0 && isWhole(value);

/** The bit above the topmost slice. */
function endOf(slices: Slices): number {
  const top = slices[slices.length - 1];
  return top ? top.to + top.bits : 0;
}

function maskOf(slices: Slices): Halves {
  let mask = ZERO;
  for (const { bits, to } of slices) mask = halves.or(mask, onesAt(bits, to));
  return mask;
}

function sum(slices: Slices, plus: Halves, width: number, signed: boolean, open = false): Sum {
  if (open && width < 64)
    return { slices, signed: signed && endOf(slices) < width, plus, width, open, skip: 0 };
  const extends_ = signed && slices.length > 0 && endOf(slices) < width;
  const wraps = width < 64 && (extends_ || (!isZero(plus) && !sumFits(plus, maskOf(slices), width)));
  return { slices, signed: extends_, plus, width: wraps ? width : 64, open: false, skip: 0 };
}

/** Whether no carry runs through the sum: each bit is a bit of a slice, or of `plus`, or a copy of the sign. */
const isBitwise = ({ slices, signed, plus, skip }: Sum): boolean =>
  skip === 0 && (isZero(plus) || (!signed && !overlaps(plus, maskOf(slices))));

/** Whether all 64 bits are known, and none was shifted out. */
const isWhole = ({ width, skip }: Sum): boolean => width === 64 && skip === 0;

/** The parts of slices that lie in bits start … end - 1 of the value, moved by `distance`. */
function cut(slices: Slices, start: number, end: number, distance: number): Slices {
  const last = slices.length - 1;
  const whole = last < 0 || (slices[0]!.to >= start && slices[last]!.to + slices[last]!.bits <= end);
  if (whole && distance === 0) return slices;
  const kept: LoadedSlice[] = [];
  for (const { from, bits, to, load } of slices) {
    const low = Math.max(to, start);
    const high = Math.min(to + bits, end);
    if (low < high) kept.push({ from: from + low - to, bits: high - low, to: low + distance, load });
  }
  return kept;
}

/** value mod 2^bits. */
export function truncate(value: MaybeSum, bits: number): MaybeSum {
  if (!value || value.skip + bits >= value.width) return value;
  const { slices, plus, signed, skip } = value;
  const end = skip + bits;
  const clipped = endOf(slices) > end;
  if (!clipped && !signed && isZero(plus) && !value.open) return value;
  const low = halves.truncate(plus, end);
  const cutSum = sum(cut(slices, 0, end, 0), low, end, signed && !clipped);
  return skip === 0 ? cutSum : { ...cutSum, skip };
}

export function shiftLeft(value: MaybeSum, count: number): MaybeSum {
  if (!value || count === 0) return value;
  if (value.skip > 0) return undefined;
  const width = Math.min(64, value.width + count);
  const plus = halves.truncate(halves.shiftLeft(value.plus, count), width);
  const slices = cut(value.slices, 0, width - count, count);
  const signed = value.signed && endOf(value.slices) <= width - count;
  return sum(slices, plus, width, signed, value.open);
}

export function shiftRight(value: MaybeSum, count: number): MaybeSum {
  if (!value || count === 0) return value;
  const { plus, width, signed, open, skip } = value;
  if (skip + count >= width) return open ? undefined : constant(ZERO);
  const slices = cut(value.slices, count, 64, -count);
  const carries = !isZero(halves.truncate(plus, count)) && !isBitwise(value);
  if (skip > 0 || carries || (signed && slices.length === 0)) return { ...value, skip: skip + count };
  return sum(slices, halves.shiftLeft(plus, -count), width - count, signed, open);
}

/** Shifts the 64-bit value right and copies its sign. */
export function shiftRightSigned(value: MaybeSum, count: number): MaybeSum {
  if (!value || count === 0) return value;
  const { slices, plus, width, signed, open, skip } = value;
  if (open || skip > 0) return undefined;
  if (slices.length === 0) return constant(halves.shiftRightSigned(plus, count));
  const positive = width < 64 || (!signed && sumFits(plus, maskOf(slices), 63));
  if (positive) return shiftRight(value, count);
  if (!isZero(plus) || (!signed && endOf(slices) !== 64)) return undefined;
  const rest = cut(slices, count, 64, -count);
  return rest.length === 0 ? undefined : sum(rest, ZERO, 64, true);
}

/** The low `from` bits, sign-extended to 64. */
export const signExtend = (value: MaybeSum, from: number): MaybeSum =>
  shiftRightSigned(shiftLeft(truncate(value, from), 64 - from), 64 - from);

/** All slices of both, lowest first; undefined if two share a bit. */
function union(a: Slices, b: Slices): Slices | undefined {
  if (a.length === 0) return b;
  if (b.length === 0) return a;
  const both = [...a, ...b].sort((one, other) => one.to - other.to);
  for (let i = 1; i < both.length; i++) {
    if (both[i - 1]!.to + both[i - 1]!.bits > both[i]!.to) return undefined;
  }
  return both;
}

/** (a + b) mod 2^bits; of operands that are known in part, what follows from it. */
export function add(a: MaybeSum, b: MaybeSum, bits: number): MaybeSum {
  if (!a || !b || a.skip > 0 || b.skip > 0) return undefined;
  const known = Math.min(bits, a.width, b.width);
  const [one, other] = [truncate(a, known), truncate(b, known)];
  if (!one || !other) return undefined;
  const slices = union(one.slices, other.slices);
  if (!slices || (one.signed && other.signed)) return undefined;
  const signed = one.signed ? one : other.signed ? other : undefined;
  if (signed && endOf(signed.slices) !== endOf(slices)) return undefined;
  const plus = halves.truncate(halves.add(one.plus, other.plus), known);
  return sum(slices, plus, known, signed !== undefined, known < bits);
}

const ALL = onesAt(64, 0);

/** The bits that may be 1. */
function support(value: Sum): Halves {
  const { slices, plus, width, signed, open, skip } = value;
  if (open || skip > 0) return ALL;
  const bits = maskOf(slices);
  if (signed) {
    const end = endOf(slices);
    return isZero(plus) ? halves.or(bits, onesAt(width - end, end)) : onesAt(width, 0);
  }
  if (isBitwise(value)) return halves.or(bits, plus);
  if (width < 64) return onesAt(width, 0);
  return sumFits(bits, plus, 64) ? onesAt(bitLength(halves.add(bits, plus)), 0) : ALL;
}

export function or(a: MaybeSum, b: MaybeSum): MaybeSum {
  if (!a || !b) return undefined;
  if (!overlaps(support(a), support(b))) return add(a, b, 64);
  if (isConstant(b)) return orConstant(a, b.plus);
  return isConstant(a) ? orConstant(b, a.plus) : undefined;
}

function orConstant(value: Sum, bits: Halves): MaybeSum {
  const { slices, plus, signed } = value;
  if (!isBitwise(value) || !isWhole(value)) return undefined;
  if (signed && bitLength(bits) > slices.at(-1)!.to) return undefined;
  return sum(keep(slices, halves.not(bits)), halves.or(plus, bits), 64, signed);
}

/** (a ^ b) mod 2^bits. */
export function xor(a: MaybeSum, b: MaybeSum, bits: number): MaybeSum {
  if (!a || !b) return undefined;
  if (isConstant(a) && isConstant(b)) return truncate(constant(halves.xor(a.plus, b.plus)), bits);
  // Inverting the topmost bit is adding to it.
  const inverts = isConstant(b) && isEqual(halves.truncate(b.plus, bits), onesAt(1, bits - 1));
  if (inverts || !overlaps(support(a), support(b))) return add(a, b, bits);
  if (!isConstant(b)) return isConstant(a) ? xor(b, a, bits) : undefined;
  if (!isBitwise(a) || !isWhole(a) || a.signed || overlaps(maskOf(a.slices), b.plus)) return undefined;
  return truncate(sum(a.slices, halves.xor(a.plus, b.plus), 64, false), bits);
}

export function and(a: MaybeSum, b: MaybeSum): MaybeSum {
  if (!a || !b) return undefined;
  if (isConstant(b)) return andConstant(a, b.plus);
  return isConstant(a) ? andConstant(b, a.plus) : undefined;
}

function andConstant(value: Sum, mask: Halves): MaybeSum {
  const end = bitLength(mask);
  if (isEqual(mask, onesAt(end, 0))) return truncate(value, end);
  const { slices, plus, signed } = value;
  if (!isBitwise(value) || !isWhole(value) || (signed && end > endOf(slices))) return undefined;
  return sum(keep(slices, mask), halves.and(plus, mask), 64, false);
}

/** The parts of slices at the 1 bits of a mask. */
function keep(slices: Slices, { low, high }: Halves): Slices {
  const has = (bit: number) => ((bit < 32 ? low >>> bit : high >>> (bit - 32)) & 1) === 1;
  const kept: LoadedSlice[] = [];
  for (const { from, bits, to, load } of slices) {
    for (let bit = to; bit < to + bits; ) {
      const start = bit;
      while (bit < to + bits && has(bit)) bit++;
      if (bit > start) kept.push({ from: from + start - to, bits: bit - start, to: start, load });
      else bit++;
    }
  }
  return kept;
}

/** The low `bits` bits with their bytes turned round. */
export function swap(value: MaybeSum, bits: number): MaybeSum {
  const low = truncate(value, bits);
  if (!low || low.signed || !isBitwise(low) || !isWhole(low)) return undefined;
  const slices: LoadedSlice[] = [];
  let plus = ZERO;
  for (let byte = bits - 8; byte >= 0; byte -= 8) {
    const to = bits - 8 - byte;
    slices.push(...cut(low.slices, byte, byte + 8, to - byte));
    plus = halves.or(plus, halves.shiftLeft(halves.and(low.plus, onesAt(8, byte)), to - byte));
  }
  return sum(slices, plus, 64, false);
}

/** Whether a value's low bits are those of the other, whose width is no greater. */
export function continues(value: Sum, { slices, plus, width }: Sum): boolean {
  const low = cut(value.slices, 0, width, 0);
  return (
    isEqual(halves.truncate(value.plus, width), plus) &&
    low.length === slices.length &&
    low.every(({ from, bits, to, load }, i) => {
      const other = slices[i]!;
      return from === other.from && bits === other.bits && to === other.to && load === other.load;
    })
  );
}
