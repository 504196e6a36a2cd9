// Everything that a loop may change: registers, and what lies on the stacks, one number or pointer at a time.

import { FRAME_POINTER } from '../bpf/isa.js';
import * as stack from './stack.js';
import type { State } from './states.js';
import { type Lazy, Pointer, type Value } from './values.js';

export interface Place {
  /** 8 for a register; on a stack a number may be shorter. */
  readonly bytes: number;
  /** What it holds when the loop is entered; undefined for a part of an address. */
  readonly entry: Value | undefined;
  /** What it holds, or undefined where that is not one value. */
  get(state: State): Value | undefined;
  /** Puts a value there, or makes it uninitialised. */
  put(state: State, value: Value | undefined): void;
  /** Whether it holds, byte by byte, what it held when the loop was entered. */
  unchanged(state: State): boolean;
}

/** The number that a value is or, for a pointer, moves by. */
export const numberOf = (value: Value): Lazy => (value instanceof Pointer ? value.offset : value);

/** What is initialised when a loop is entered. */
export function placesOf(entry: State): Place[] {
  return entry.frames.flatMap(({ registers, stack: contents }, depth) => [
    ...registers.slice(0, FRAME_POINTER).flatMap((value, r) => (value ? [register(depth, r, value)] : [])),
    ...contents.flatMap((slot, i) =>
      pieces(slot).map(([first, size]) => stackPlace(entry, depth, 8 * i + first, size)),
    ),
  ]);
}

function register(depth: number, r: number, entry: Value): Place {
  const get = (state: State) => state.frames[depth]!.registers[r];
  return {
    bytes: 8,
    entry,
    get,
    put(state, value) {
      state.frames[depth]!.registers[r] = value;
    },
    unchanged: (state) => sameSource(entry, get(state)),
  };
}

function stackPlace(entry: State, depth: number, at: number, bytes: number): Place {
  const get = (state: State) => {
    const contents = state.frames[depth]!.stack;
    return stack.flaw(contents, at, bytes, false) ? undefined : stack.read(contents, at, bytes);
  };
  const byteOf = (state: State, i: number) => stack.byteOf(state.frames[depth]!.stack[at >> 3], (at & 7) + i);
  return {
    bytes,
    entry: get(entry),
    get,
    put(state, value) {
      const frame = state.frames[depth]!;
      frame.stack = value ? stack.write(frame.stack, at, bytes, value) : stack.erase(frame.stack, at, bytes);
    },
    unchanged(state) {
      return Array.from({ length: bytes }, (_, i) => [byteOf(entry, i)!, byteOf(state, i)] as const).every(
        ([was, is]) => is && was.index === is.index && sameSource(was.source, is.source),
      );
    },
  };
}

/** Whether two values are one, as far as their history tells. */
function sameSource(a: Value, b: Value | undefined): boolean {
  if (a === b) return true;
  if (!b || a instanceof Pointer !== b instanceof Pointer) return false;
  if (a instanceof Pointer && a.region !== (b as Pointer).region) return false;
  const [x, y] = [numberOf(a).link, numberOf(b).link];
  return x.origin === y.origin && x.plus === y.plus;
}

/** Runs of bytes that make one number or pointer, each as [first, size]. */
function pieces(slot: stack.Slot): [number, number][] {
  const found: [number, number][] = [];
  for (let first = 0, next = 0; first < 8; first = next) {
    const byte = stack.byteOf(slot, first);
    next = first + 1;
    if (!byte) continue;
    while (byte.index === 0 && next < 8 && continues(byte, stack.byteOf(slot, next), next - first)) next++;
    found.push([first, next - first]);
  }
  return found;
}

const continues = (first: stack.Byte, later: stack.Byte | undefined, distance: number): boolean =>
  later !== undefined && later.source === first.source && later.index === distance;
