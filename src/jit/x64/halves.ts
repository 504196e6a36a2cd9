// 64-bit numbers as two halves of 32 unsigned bits: bigints cost 0.1 µs an operation, and a routine takes hundreds.

export interface Halves {
  readonly low: number;
  readonly high: number;
}

export const ZERO: Halves = { low: 0, high: 0 };

export function halvesOf(value: bigint): Halves {
  if (value === 0n) return ZERO;
  return { low: Number(BigInt.asUintN(32, value)), high: Number(value >> 32n) };
}

export const bigintOf = ({ low, high }: Halves): bigint => (BigInt(high) << 32n) | BigInt(low);

export const isZero = ({ low, high }: Halves): boolean => low === 0 && high === 0;

export const or = (a: Halves, b: Halves): Halves => ({
  low: (a.low | b.low) >>> 0,
  high: (a.high | b.high) >>> 0,
});

export const overlaps = (a: Halves, b: Halves): boolean => (a.low & b.low) !== 0 || (a.high & b.high) !== 0;

/** `count` from -63 to 63; right if negative. */
export function shiftLeft(value: Halves, count: number): Halves {
  const { low, high } = value;
  if (count === 0) return value;
  if (count >= 32) return { low: 0, high: (low << (count - 32)) >>> 0 };
  if (count > 0) return { low: (low << count) >>> 0, high: ((high << count) | (low >>> (32 - count))) >>> 0 };
  if (count <= -32) return { low: high >>> (-32 - count), high: 0 };
  return { low: ((low >>> -count) | (high << (32 + count))) >>> 0, high: high >>> -count };
}

const lowOnes = (bits: number): number => (bits >= 32 ? 0xffff_ffff : 2 ** Math.max(0, bits) - 1);

/** value mod 2^bits. */
export const truncate = ({ low, high }: Halves, bits: number): Halves => ({
  low: (low & lowOnes(bits)) >>> 0,
  high: (high & lowOnes(bits - 32)) >>> 0,
});

/** 2^bits - 1, shifted left. */
export const onesAt = (bits: number, to: number): Halves =>
  shiftLeft({ low: lowOnes(bits), high: lowOnes(bits - 32) }, to);

/** Whether a + b is below 2^bits. */
export function sumFits(a: Halves, b: Halves, bits: number): boolean {
  const low = a.low + b.low;
  const high = a.high + b.high + (low >= 2 ** 32 ? 1 : 0);
  return bits > 32 ? high < 2 ** (bits - 32) : high === 0 && low < 2 ** bits;
}

/** The number that an instruction sign-extends from 32 bits to this one; undefined if there is none. */
export function signedImmediate({ low, high }: Halves): number | undefined {
  const signed = low | 0;
  return high === (signed < 0 ? 0xffff_ffff : 0) ? signed : undefined;
}
