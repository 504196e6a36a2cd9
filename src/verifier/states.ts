// The state of the machine before an instruction, for all runs that come here along one path.

import type { Contract } from '../bpf/contract.js';
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
}

export const topOf = (state: State): Frame => state.frames[state.frames.length - 1]!;

/** What a program finds when it is called under a contract. */
export function entryState(contract: Contract): State {
  const frame = newFrame(0, -1);
  contract.args.forEach((arg, i) => {
    if (arg) frame.registers[i + 1] = argumentValue(arg, i);
  });
  const tracked = contract.args.map((_, i) =>
    contract.writesAll?.includes(i) ? written.NOTHING : undefined,
  );
  return { index: 0, frames: [frame], written: tracked };
}

function argumentValue(arg: NonNullable<Contract['args'][number]>, index: number): Value {
  if (arg.kind === 'scalar') return Lazy.of(scalars.between(arg.min ?? 0n, arg.max ?? MAX_U64));
  if (arg.bytes === 0) return Lazy.constant(0n);
  const base = `r${index + 1}`;
  const { bytes, access } = arg;
  const region = { base, name: `${base}'s memory`, start: 0, bytes, access, arg: index, frame: -1 };
  return new Pointer(region, Lazy.constant(0n));
}

/** Memory that the program brings along, of whose contents nothing is known. */
export function dataRegion({ name, size, writable }: DataSection): Region {
  const access = writable ? 'readwrite' : 'read';
  return { base: name, name: `the data section ${name}`, start: 0, bytes: size, access, arg: -1, frame: -1 };
}

// One region for each depth: no two live frames have the same, and pointers to dead ones are forgotten.
const FRAME_REGIONS: readonly Region[] = Array.from({ length: MAX_FRAMES }, (_, frame) => ({
  base: 'r10',
  name: frame === 0 ? 'the stack' : `the stack of call depth ${frame}`,
  start: -STACK_BYTES,
  bytes: STACK_BYTES,
  access: 'readwrite',
  arg: -1,
  frame,
}));

/** A frame in which nothing is initialised but r10. */
export function newFrame(depth: number, back: number): Frame {
  const region = FRAME_REGIONS[depth]!;
  const registers = new Array<Value | undefined>(REGISTERS).fill(undefined);
  registers[FRAME_POINTER] = new Pointer(region, Lazy.constant(0n));
  return { region, registers, stack: stack.EMPTY, back };
}

export function fork(state: State): State {
  const frames = state.frames.map((frame) => ({ ...frame, registers: frame.registers.slice() }));
  return { index: state.index, frames, written: state.written.slice() };
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
}

function mapValues(state: State, change: (value: Value) => Value): void {
  for (const frame of state.frames) {
    for (let r = 0; r < REGISTERS; r++) {
      const value = frame.registers[r];
      if (value) frame.registers[r] = change(value);
    }
    frame.stack = stack.mapValues(frame.stack, change);
  }
}
