// Buffers at our boundaries: a detached or shrunk view counts as empty, and nothing else passes for bytes.

import { types } from 'node:util';
import { ArgumentError } from './errors.js';

/** @throws ArgumentError unless `value` is a Uint8Array of at least `length` bytes */
export function requireBytes(value: unknown, length: number, what: string): asserts value is Uint8Array {
  if (!types.isUint8Array(value)) {
    throw new ArgumentError(
      'A-TYPE',
      `${what} must be a Uint8Array, got ${value === null ? 'null' : typeof value}`,
    );
  }
  if (value.length < length) {
    const detached = value.length === 0 && length > 0 ? '; is its buffer detached?' : '';
    throw new ArgumentError('A-LENGTH', `${what} has ${value.length} bytes, ${length} are needed${detached}`);
  }
}

/**
 * For constructors that only their own module may call: an object carries its class with it, the key stays at home.
 * @throws ArgumentError unless `key` is `own`
 */
export function requireKey(key: unknown, own: symbol, what: string, maker: string): void {
  if (key !== own) throw new ArgumentError('A-TYPE', `${what} is made by ${maker} only`);
}

/** @throws ArgumentError unless `value` is a whole number from `min` to `max` */
export function requireInteger(
  value: unknown,
  min: number,
  max: number,
  what: string,
): asserts value is number {
  if (!Number.isInteger(value) || (value as number) < min || (value as number) > max) {
    throw new ArgumentError(
      'A-RANGE',
      `${what} must be a whole number from ${min} to ${max}, got ${String(value)}`,
    );
  }
}

/** @throws ArgumentError unless `value` is a bigint from `min` to `max` */
export function requireBigint(
  value: unknown,
  min: bigint,
  max: bigint,
  what: string,
): asserts value is bigint {
  if (typeof value !== 'bigint' || value < min || value > max) {
    throw new ArgumentError(
      'A-RANGE',
      `${what} must be a bigint from ${min} to ${max}, got ${String(value)}`,
    );
  }
}

/**
 * Whether two views share a byte. Two SharedArrayBuffer objects may be the same memory: where that can be,
 * `addressOf` decides.
 */
export function overlap(a: Uint8Array, b: Uint8Array, addressOf?: (bytes: Uint8Array) => bigint): boolean {
  if (a.length === 0 || b.length === 0) return false;
  if (a.buffer === b.buffer) return rangesMeet(a.byteOffset, a.length, b.byteOffset, b.length);
  const shared = types.isSharedArrayBuffer(a.buffer) && types.isSharedArrayBuffer(b.buffer);
  if (!shared || !addressOf) return false;
  return rangesMeet(Number(addressOf(a)), a.length, Number(addressOf(b)), b.length);
}

function rangesMeet(a: number, aLength: number, b: number, bLength: number): boolean {
  return a < b + bLength && b < a + aLength;
}

export const MAX_U64 = (1n << 64n) - 1n;
