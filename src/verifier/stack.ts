// A frame's 512 bytes as 64 slots of 8. A slot holds one value whole, or bytes, each the i-th byte of some value;
// so spilled registers stay whole, and numbers put together from bytes are known.

import { STACK_BYTES } from '../bpf/isa.js';
import type { Scalar } from './scalars.js';
import * as scalars from './scalars.js';
import { type Compute, Lazy, Pointer, type Value } from './values.js';

/** One byte of a value; `index` -1 is some byte of a pointer, or of something that took its place. */
export interface Byte {
  readonly source: Value;
  readonly index: number;
}
export class Bytes {
  constructor(readonly bytes: readonly (Byte | undefined)[]) {}
}
export type Slot = Value | Bytes | undefined;

const SLOT = 8;

/** Slots are never changed in place: forks of a state share them. */
export type Stack = readonly Slot[];
export const EMPTY: Stack = new Array<Slot>(STACK_BYTES / SLOT).fill(undefined);

/** Byte `at` of 0 … 511, from the lower end. */
function byteAt(stack: Stack, at: number): Byte | undefined {
  return byteOf(stack[at >> 3], at & 7);
}

export function byteOf(slot: Slot, index: number): Byte | undefined {
  if (slot instanceof Bytes) return slot.bytes[index];
  return slot && { source: slot, index };
}

export type Flaw = { readonly at: number; readonly what: 'uninitialised' | 'pointer' };

/**
 * The first byte of at … at + size - 1 that keeps them from being read as a number, or as one pointer, whole; with
 * `scattered`, from being read in any smaller pieces.
 */
export function flaw(stack: Stack, at: number, size: number, scattered: boolean): Flaw | undefined {
  for (let i = at; i < at + size; i++) if (!byteAt(stack, i)) return { at: i, what: 'uninitialised' };
  if (!scattered && read(stack, at, size)) return undefined;
  for (let i = at; i < at + size; i++)
    if (byteAt(stack, i)!.source instanceof Pointer) return { at: i, what: 'pointer' };
  return undefined;
}

function wholeAt(stack: Stack, at: number, size: number): Value | undefined {
  const slot = (at & 7) === 0 && size === SLOT ? stack[at >> 3] : undefined;
  return slot instanceof Bytes ? undefined : slot;
}

/** The value of initialised bytes, zero-extended; undefined where they are parts of pointers. */
export function read(stack: Stack, at: number, size: number): Value | undefined {
  const whole = wholeAt(stack, at, size);
  if (whole) return whole;
  const bytes = Array.from({ length: size }, (_, i) => byteAt(stack, at + i)!);
  let value: Lazy | undefined;
  for (let i = 0, next = 0; i < size; i = next) {
    const { source, index } = bytes[i]!;
    for (next = i + 1; next < size && continues(bytes[i]!, bytes[next]!, next - i); ) next++;
    if (source instanceof Pointer) return index === 0 && next - i === SLOT ? source : undefined;
    const part = place(extract(source, index, next - i), i);
    value = value ? Lazy.from(OR, value, part) : part;
  }
  return value;
}

const continues = (first: Byte, later: Byte, distance: number) =>
  first.index >= 0 && later.source === first.source && later.index === first.index + distance;

const OR: Compute = (a, b) => scalars.aluWhole('or', a, b);
const shift = (op: string, bytes: number) => {
  const amount = scalars.constant(BigInt(8 * bytes));
  return (a: Scalar) => scalars.aluWhole(op, a, amount);
};

/** Bytes index … index + size - 1 of a number, as a number. */
function extract(source: Lazy, index: number, size: number): Lazy {
  const down = index === 0 ? source : Lazy.from(shift('rsh', index), source);
  if (size === SLOT) return down;
  const low = (a: Scalar) => scalars.truncate(a, 8 * size);
  return size === SLOT / 2 ? Lazy.movedLow(low, down, down, 0) : Lazy.from(low, down);
}

const place = (value: Lazy, index: number): Lazy =>
  index === 0 ? value : Lazy.from(shift('lsh', index), value);

/** The stack after a store of the low `size` bytes of a value. */
export function write(stack: Stack, at: number, size: number, value: Value): Stack {
  const after = stack.slice();
  if ((at & 7) === 0 && size === SLOT) {
    after[at >> 3] = value;
    return after;
  }
  const part = value instanceof Pointer && size < SLOT;
  for (let i = 0; i < size; i++) setByte(after, at + i, { source: value, index: part ? -1 : i });
  return after;
}

/** The stack in which nothing is known of bytes at … at + size - 1, which may not be read any more. */
export function erase(stack: Stack, at: number, size: number): Stack {
  const after = stack.slice();
  for (let i = at; i < at + size; i++) setByte(after, i, undefined);
  return after;
}

/** The stack after a store of `size` bytes somewhere in first … last + size - 1. */
export function writeSomewhere(stack: Stack, first: number, last: number, size: number, value: Value): Stack {
  const after = stack.slice();
  let unknown = Lazy.of(scalars.unknown());
  for (let at = first; at < last + size; at++) {
    if ((at & 7) === 0) unknown = Lazy.of(scalars.unknown());
    const old = byteAt(stack, at);
    if (!old) continue;
    const pointer = [old.source, value].find((source) => source instanceof Pointer);
    setByte(after, at, pointer ? { source: pointer, index: -1 } : { source: unknown, index: at & 7 });
  }
  return after;
}

function setByte(stack: Slot[], at: number, byte: Byte | undefined): void {
  const slot = stack[at >> 3];
  const bytes = Array.from({ length: SLOT }, (_, i) => byteOf(slot, i));
  bytes[at & 7] = byte;
  stack[at >> 3] = new Bytes(bytes);
}

/** The stack with every value passed through `change`; what does not change is shared. */
export function mapValues(stack: Stack, change: (value: Value) => Value): Stack {
  if (stack === EMPTY) return stack;
  let changed = false;
  const after = stack.map((slot) => {
    const mapped = slot instanceof Bytes ? mapBytes(slot, change) : slot && change(slot);
    if (mapped !== slot) changed = true;
    return mapped;
  });
  return changed ? after : stack;
}

function mapBytes(slot: Bytes, change: (value: Value) => Value): Bytes {
  let changed = false;
  const bytes = slot.bytes.map((byte) => {
    const source = byte && change(byte.source);
    if (!source || source === byte.source) return byte;
    changed = true;
    return { source, index: byte.index };
  });
  return changed ? new Bytes(bytes) : slot;
}

/** How many values it takes to hold a stack. */
export function weightOf(stack: Stack): number {
  if (stack === EMPTY) return 0;
  return stack.reduce<number>((sum, slot) => sum + (slot instanceof Bytes ? SLOT + 1 : 1), 0);
}

/** The stack in which pointers into a region that is gone can no longer be read as pointers. */
export function forget(stack: Stack, frame: number): Stack {
  if (stack === EMPTY) return stack;
  const gone = (value: Value) => value instanceof Pointer && value.region.frame === frame;
  const after = stack.slice();
  for (let at = 0; at < STACK_BYTES; at++) {
    const byte = byteAt(stack, at);
    if (byte && gone(byte.source)) setByte(after, at, { source: byte.source, index: -1 });
  }
  return after;
}
