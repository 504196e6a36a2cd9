// The state of the machine before an instruction, for all runs that come here along one path.

import type { Access, ArgSpec, BufferSpec, Contract } from '../bpf/contract.js';
import type { DataSection } from '../bpf/data.js';
import { FRAME_POINTER, MAX_FRAMES, REGISTERS, STACK_BYTES } from '../bpf/isa.js';
import { MAX_U64 } from '../bytes.js';
import * as scalars from './scalars.js';
import * as stack from './stack.js';
import { Lazy, Pointer, type Region, type Value } from './values.js';
import * as written from './written.js';

export interface Frame {
  readonly region: Region;
  readonly registers: (Value | undefined)[];
  stack: stack.Stack;
  /** Index of the instruction after the call; -1 for the outermost frame. */
  readonly back: number;
}

export interface State {
  /** Index of the instruction that comes next. */
  index: number;
  readonly frames: Frame[];
  /** For each argument in writesAll, what has been written. */
  readonly written: (written.Written | undefined)[];
  /** For each argument that is a buffer, its length. */
  readonly lengths: (Lazy | undefined)[];
  /** What is known of how far numbers reach in buffers. */
  reaches: readonly Reach[];
}

/** Numbers from `origin` on end in a buffer: origin + upTo <= the length of argument `arg`, as integers. */
export interface Reach {
  readonly arg: number;
  readonly origin: Lazy;
  readonly upTo: number;
}

export const topOf = (state: State): Frame => state.frames[state.frames.length - 1]!;

/** What a program finds when it is called under a contract. */
export function entryState({ args, writesAll = [] }: Contract): State {
  const frame = newFrame(0, -1);
  const lengths: (Lazy | undefined)[] = [];
  const regions: (Region | undefined)[] = [];
  const tracked: (written.Written | undefined)[] = [];
  // Not by `map`: it takes 0.2 µs for a frozen array.
  for (let i = 0; i < args.length; i++) {
    const arg = args[i];
    lengths.push(arg?.kind === 'buffer' ? lengthOf(arg) : undefined);
    regions.push(regionOf(arg, i));
    tracked.push(writesAll.includes(i) ? written.NOTHING : undefined);
  }
  for (let i = 0; i < args.length; i++) {
    const arg = args[i];
    if (arg) frame.registers[i + 1] = argumentValue(arg, regions, lengths, i);
  }
  return { index: 0, frames: [frame], written: tracked, lengths, reaches: [] };
}

const lengthOf = ({ minBytes, maxBytes }: BufferSpec): Lazy =>
  Lazy.of(scalars.between(BigInt(minBytes!), BigInt(maxBytes!))).track();

function regionOf(arg: ArgSpec | undefined, index: number): Region | undefined {
  if (arg?.kind === 'memory' && arg.bytes > 0) return argumentRegion(index, arg.bytes, arg.access, arg.align);
  if (arg?.kind === 'buffer') return argumentRegion(index, arg.maxBytes!, arg.access, undefined);
  return undefined;
}

// Written out: spreading one object into another takes 3 µs here, more than walking over ten instructions.
function argumentRegion(index: number, bytes: number, access: Access, align: Region['align']): Region {
  const base = `r${index + 1}`;
  return { base, name: `${base}'s memory`, start: 0, bytes, access, align, arg: index, frame: -1 };
}

function argumentValue(
  arg: ArgSpec,
  regions: readonly (Region | undefined)[],
  lengths: readonly (Lazy | undefined)[],
  index: number,
): Value {
  switch (arg.kind) {
    case 'scalar':
      return Lazy.of(scalars.between(arg.min ?? 0n, arg.max ?? MAX_U64));
    case 'length':
      return lengths[arg.of]!;
    case 'end':
      return new Pointer(regions[arg.of]!, lengths[arg.of]!);
    default: {
      const region = regions[index];
      return region ? new Pointer(region, Lazy.integer(0)) : Lazy.integer(0);
    }
  }
}

/** Memory that the program brings along, of whose contents nothing is known. */
export function dataRegion({ name, size, writable }: DataSection): Region {
  const access = writable ? 'readwrite' : 'read';
  const called = `the data section ${name}`;
  return { base: name, name: called, start: 0, bytes: size, access, align: undefined, arg: -1, frame: -1 };
}

// One region for each depth: no two live frames have the same, and pointers to dead ones are forgotten.
const FRAME_REGIONS: readonly Region[] = Array.from({ length: MAX_FRAMES }, (_, frame) => ({
  base: 'r10',
  name: frame === 0 ? 'the stack' : `the stack of call depth ${frame}`,
  start: -STACK_BYTES,
  bytes: STACK_BYTES,
  access: 'readwrite',
  align: undefined,
  arg: -1,
  frame,
}));

/** A frame in which nothing is initialised but r10. */
export function newFrame(depth: number, back: number): Frame {
  const region = FRAME_REGIONS[depth]!;
  const registers = new Array<Value | undefined>(REGISTERS).fill(undefined);
  registers[FRAME_POINTER] = new Pointer(region, Lazy.integer(0));
  return { region, registers, stack: stack.EMPTY, back };
}

export function fork(state: State): State {
  const frames = state.frames.map((frame) => ({ ...frame, registers: frame.registers.slice() }));
  const { index, reaches } = state;
  return { index, frames, written: state.written.slice(), lengths: state.lengths.slice(), reaches };
}

/** How many values it takes to hold a state. */
export const weightOf = (state: State): number =>
  state.frames.reduce((sum, frame) => sum + REGISTERS + stack.weightOf(frame.stack), 0);

/** Puts numbers in the place of others wherever these are held. */
export function replaceEverywhere(state: State, by: ReadonlyMap<Lazy, Lazy>): void {
  const pointers = new Map<Pointer, Pointer>();
  mapValues(state, (value) => {
    if (!(value instanceof Pointer)) return by.get(value) ?? value;
    const offset = by.get(value.offset);
    return offset ? movedPointer(pointers, value, offset) : value;
  });
}

/** A pointer with another offset; the same pointer again where it is asked for again. */
function movedPointer(known: Map<Pointer, Pointer>, pointer: Pointer, offset: Lazy): Pointer {
  const found = known.get(pointer) ?? new Pointer(pointer.region, offset);
  known.set(pointer, found);
  return found;
}

/** Every number held in registers and on stacks, offsets of pointers among them. */
export function numbersIn(state: State): Set<Lazy> {
  const found = new Set<Lazy>();
  mapValues(state, (value) => {
    found.add(value instanceof Pointer ? value.offset : value);
    return value;
  });
  return found;
}

/** Gives every number an identity of its own from here on, equal ones the same. */
export function probe(state: State): void {
  const numbers = new Map<Lazy, Lazy>();
  const pointers = new Map<Pointer, Pointer>();
  const probeOf = (number: Lazy): Lazy => {
    const found = numbers.get(number) ?? Lazy.probe(number);
    numbers.set(number, found);
    return found;
  };
  mapValues(state, (value) =>
    value instanceof Pointer ? movedPointer(pointers, value, probeOf(value.offset)) : probeOf(value),
  );
  state.reaches = [];
}

function mapValues(state: State, change: (value: Value) => Value): void {
  for (const frame of state.frames) {
    for (let r = 0; r < REGISTERS; r++) {
      const value = frame.registers[r];
      if (value) frame.registers[r] = change(value);
    }
    frame.stack = stack.mapValues(frame.stack, change);
  }
  state.lengths.forEach((length, arg) => {
    if (length) state.lengths[arg] = change(length) as Lazy;
  });
}
