// 64-bit numbers as two halves of 32 bits: bigints cost up to 0.1 µs an operation, and a routine takes hundreds. The halves are signed,
// as JavaScript's bit operators leave them: V8 keeps such numbers in place, and greater ones as objects.

export interface Halves {
  readonly low: number;
  readonly high: number;
}

export const ZERO: Halves = { low: 0, high: 0 };

// One memory for the number and its halves: arithmetic would take six times as long.
const whole = new BigUint64Array(1);
const halves = new Int32Array(whole.buffer);
whole[0] = 1n;
const [LOW, HIGH] = halves[0] === 1 ? [0, 1] : [1, 0];

/** A number modulo 2^64. */
export function halvesOf(value: bigint): Halves {
  whole[0] = value;
  const [low, high] = [halves[LOW]!, halves[HIGH]!];
  return low === 0 && high === 0 ? ZERO : { low, high };
}

/** 0 … 2^64 - 1. */
export function bigintOf({ low, high }: Halves): bigint {
  halves[LOW] = low;
  halves[HIGH] = high;
  return whole[0]!;
}

export const isZero = ({ low, high }: Halves): boolean => low === 0 && high === 0;

export const or = (a: Halves, b: Halves): Halves => ({ low: a.low | b.low, high: a.high | b.high });
export const and = (a: Halves, b: Halves): Halves => ({ low: a.low & b.low, high: a.high & b.high });
export const xor = (a: Halves, b: Halves): Halves => ({ low: a.low ^ b.low, high: a.high ^ b.high });
export const not = ({ low, high }: Halves): Halves => ({ low: ~low, high: ~high });

/** (a + b) mod 2^64. */
export function add(a: Halves, b: Halves): Halves {
  const low = (a.low + b.low) | 0;
  const carry = low >>> 0 < a.low >>> 0 ? 1 : 0;
  return { low, high: (a.high + b.high + carry) | 0 };
}

/** -value mod 2^64. */
export const negate = (value: Halves): Halves => add(not(value), { low: 1, high: 0 });

export const isEqual = (a: Halves, b: Halves): boolean => a.low === b.low && a.high === b.high;

export const overlaps = (a: Halves, b: Halves): boolean => (a.low & b.low) !== 0 || (a.high & b.high) !== 0;

/** `count` from -63 to 63; right if negative. */
export function shiftLeft(value: Halves, count: number): Halves {
  const { low, high } = value;
  if (count === 0) return value;
  if (count >= 32) return { low: 0, high: low << (count - 32) };
  if (count > 0) return { low: low << count, high: (high << count) | (low >>> (32 - count)) };
  if (count <= -32) return { low: (high >>> (-32 - count)) | 0, high: 0 };
  return { low: (low >>> -count) | (high << (32 + count)), high: (high >>> -count) | 0 };
}

/** Right by 0 to 63, copying bit 63. */
export function shiftRightSigned(value: Halves, count: number): Halves {
  const { low, high } = value;
  if (count === 0) return value;
  if (count >= 32) return { low: high >> (count - 32), high: high >> 31 };
  return { low: (low >>> count) | (high << (32 - count)), high: high >> count };
}

const lowOnes = (bits: number): number => (bits >= 32 ? -1 : bits <= 0 ? 0 : (-1 >>> (32 - bits)) | 0);

/** value mod 2^bits. */
export const truncate = ({ low, high }: Halves, bits: number): Halves => ({
  low: low & lowOnes(bits),
  high: high & lowOnes(bits - 32),
});

/** 2^bits - 1, shifted left. */
export const onesAt = (bits: number, to: number): Halves =>
  shiftLeft({ low: lowOnes(bits), high: lowOnes(bits - 32) }, to);

/** The low `bits` bits, 1 to 64, as a signed number. */
export function signExtend({ low, high }: Halves, bits: number): Halves {
  if (bits > 32) return { low, high: (high << (64 - bits)) >> (64 - bits) };
  const signed = (low << (32 - bits)) >> (32 - bits);
  return { low: signed, high: signed >> 31 };
}

/** The number of the lowest bit that is 1; the number is not 0. */
export const lowestBit = ({ low, high }: Halves): number =>
  low !== 0 ? 31 - Math.clz32(low & -low) : 63 - Math.clz32(high & -high);

/** How many bits the number has up to the highest that is 1. */
export const bitLength = ({ low, high }: Halves): number =>
  high !== 0 ? 64 - Math.clz32(high) : 32 - Math.clz32(low);

// Not `2 ** bits`: that took a twentieth of the time of all.
const power = (bits: number): number => (bits >= 32 ? 2 ** 32 : (1 << bits) >>> 0);

/** Whether a + b is below 2^bits. */
export function sumFits(a: Halves, b: Halves, bits: number): boolean {
  const low = (a.low >>> 0) + (b.low >>> 0);
  const high = (a.high >>> 0) + (b.high >>> 0) + (low >= 2 ** 32 ? 1 : 0);
  return bits > 32 ? high < power(bits - 32) : high === 0 && low < power(bits);
}

/** The number that an instruction sign-extends from 32 bits to this one; undefined if there is none. */
export const signedImmediate = ({ low, high }: Halves): number | undefined =>
  high === low >> 31 ? low : undefined;
