// Buffers and numbers at our boundaries. What a view says of itself may be overridden, and `length` may be stale: V8 of
// Node 20, once optimised, gives a detached view's old length where it has seen resizable buffers as well (reproduced).
// So lengths are read from byteLength's own getter.

import { types } from 'node:util';
import { ArgumentError } from './errors.js';

const prototype = Object.getPrototypeOf(Uint8Array.prototype);
const getter = (name: string) => Object.getOwnPropertyDescriptor(prototype, name)!.get!;
const getByteLength = getter('byteLength');
const getByteOffset = getter('byteOffset');
const getBuffer = getter('buffer');

/** Bytes of a view, whatever its `length` says; 0 for a detached one. */
export const byteLength = (bytes: Uint8Array): number => getByteLength.call(bytes);

/** Bytes start … end - 1, which must be there. Unlike `subarray` it runs no code of the view's owner. */
export const part = (bytes: Uint8Array, start: number, end: number): Uint8Array =>
  new Uint8Array(getBuffer.call(bytes), getByteOffset.call(bytes) + start, end - start);

/**
 * The bytes as a plain Uint8Array: views of other classes may override anything.
 * @throws ArgumentError unless `value` is a Uint8Array, attached, of at least `length` bytes
 */
export function requireBytes(value: unknown, length: number, what: string): Uint8Array {
  if (!types.isUint8Array(value))
    throw new ArgumentError('A-TYPE', `${what} must be a Uint8Array, got ${kindOf(value)}`);
  const bytes = byteLength(value);
  if (bytes === 0) requireAttached(value, what);
  if (bytes < length) throw new ArgumentError('A-LENGTH', `${what} has ${bytes} bytes, ${length} are needed`);
  if (Object.getPrototypeOf(value) === Uint8Array.prototype) return value;
  return new Uint8Array(getBuffer.call(value), getByteOffset.call(value), bytes);
}

/** @throws ArgumentError where the buffer behind a view was transferred */
export function requireAttached(view: Uint8Array, what: string): void {
  const buffer: ArrayBufferLike = getBuffer.call(view);
  if (types.isSharedArrayBuffer(buffer)) return;
  try {
    new Uint8Array(buffer); // ArrayBuffer.prototype.detached is newer than Node 20
  } catch (cause) {
    throw new ArgumentError('A-DETACHED', `${what} is detached: its buffer was transferred`, {}, { cause });
  }
}

function kindOf(value: unknown): string {
  return value === null ? 'null' : typeof value;
}

/** A value in an error message. */
export function shown(value: unknown): string {
  return typeof value === 'object' || typeof value === 'function' ? kindOf(value) : String(value);
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
      `${what} must be a whole number from ${min} to ${max}, got ${shown(value)}`,
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
    throw new ArgumentError('A-RANGE', `${what} must be a bigint from ${min} to ${max}, got ${shown(value)}`);
  }
}

/**
 * Whether bytes start … end - 1 of `a` and the first `bLength` of `b` share one. Two SharedArrayBuffer objects may be the same
 * memory: where that can be, `addressOf` decides.
 */
export function overlap(
  a: Uint8Array,
  start: number,
  end: number,
  b: Uint8Array,
  bLength: number,
  addressOf?: (bytes: Uint8Array) => bigint,
): boolean {
  if (start === end || bLength === 0) return false;
  const [aBuffer, bBuffer] = [getBuffer.call(a), getBuffer.call(b)];
  if (aBuffer === bBuffer)
    return rangesMeet(getByteOffset.call(a) + start, end - start, getByteOffset.call(b), bLength);
  if (!addressOf || !types.isSharedArrayBuffer(aBuffer) || !types.isSharedArrayBuffer(bBuffer)) return false;
  return rangesMeet(Number(addressOf(a)) + start, end - start, Number(addressOf(b)), bLength);
}

/** Whether any of `outs` shares a byte with another of them, or with bytes start … end - 1 of any `keys`. */
export function overlapAny(
  packed: readonly { keys: Uint8Array; start: number; end: number }[],
  outs: readonly Uint8Array[],
  addressOf?: (bytes: Uint8Array) => bigint,
): boolean {
  const memories = new Map<ArrayBufferLike | 'shared', Range[]>();
  for (const { keys, start, end } of packed) addRange(memories, keys, start, end, false, addressOf);
  for (const out of outs) addRange(memories, out, 0, byteLength(out), true, addressOf);
  for (const ranges of memories.values()) if (outMeetsAny(ranges)) return true;
  return false;
}

interface Range {
  readonly start: number;
  readonly end: number;
  readonly out: boolean;
}

function addRange(
  memories: Map<ArrayBufferLike | 'shared', Range[]>,
  bytes: Uint8Array,
  start: number,
  end: number,
  out: boolean,
  addressOf: ((bytes: Uint8Array) => bigint) | undefined,
): void {
  if (start === end) return;
  const buffer: ArrayBufferLike = getBuffer.call(bytes);
  const shared = addressOf !== undefined && types.isSharedArrayBuffer(buffer);
  const memory = shared ? 'shared' : buffer;
  const first = shared ? Number(addressOf(bytes)) : getByteOffset.call(bytes);
  const range = { start: first + start, end: first + end, out };
  const ranges = memories.get(memory);
  if (ranges) ranges.push(range);
  else memories.set(memory, [range]);
}

function outMeetsAny(ranges: Range[]): boolean {
  let [anyEnd, outEnd] = [0, 0];
  // To sort them takes longer than everything else here.
  if (!isAscending(ranges)) ranges.sort((a, b) => a.start - b.start);
  for (const { start, end, out } of ranges) {
    if (start < outEnd || (out && start < anyEnd)) return true;
    anyEnd = Math.max(anyEnd, end);
    if (out) outEnd = Math.max(outEnd, end);
  }
  return false;
}

const isAscending = (ranges: Range[]): boolean =>
  ranges.every(({ start }, i) => i === 0 || ranges[i - 1]!.start <= start);

function rangesMeet(a: number, aLength: number, b: number, bLength: number): boolean {
  return a < b + bLength && b < a + aLength;
}

/** Bytes from hexadecimal digits, with any space between them, and 0x in front or not; undefined if that is not what it is. */
export function hexBytes(text: string): Uint8Array | undefined {
  const digits = text.trim().replace(/^0x/i, '').replace(/\s+/g, '');
  if (digits.length % 2 !== 0 || !/^[0-9a-f]*$/i.test(digits)) return undefined;
  return Uint8Array.from(Buffer.from(digits, 'hex'));
}

/** Whether bytes begin as ELF files do. */
export const isElf = (bytes: Uint8Array): boolean =>
  [0x7f, 0x45, 0x4c, 0x46].every((byte, i) => bytes[i] === byte);

export const MAX_U64 = (1n << 64n) - 1n;
