// What an instruction does to a state that meets its requirements.

import type { HelperSpec } from '../bpf/contract.js';
import { FIRST_SAVED, type Row, STACK_BYTES } from '../bpf/isa.js';
import { addressed, type Instruction } from '../bpf/program.js';
import { MAX_U64 } from '../bytes.js';
import { SIZES } from '../format/model.js';
import type { Scalar } from './scalars.js';
import * as scalars from './scalars.js';
import * as stack from './stack.js';
import { newFrame, type State, topOf } from './states.js';
import { type Compute, immediateOf, Lazy, offsetsOf, Pointer, type Region, type Value } from './values.js';
import * as written from './written.js';

/** Applies an instruction that is neither jump, call nor exit, and moves on to the next. */
export function apply(instruction: Instruction, state: State): void {
  const { registers } = topOf(state);
  const { row, dst, src, off } = instruction;
  switch (row.kind) {
    case 'alu':
      registers[dst] = arithmetic(instruction, registers);
      break;
    case 'endian':
      registers[dst] = Lazy.from(computeOf(row), numberIn(registers[dst]!));
      break;
    case 'load':
      registers[dst] = load(state, registers[src] as Pointer, off, row);
      break;
    case 'store':
      store(state, registers[dst] as Pointer, off, row.size, operandOf(instruction, registers));
      break;
    case 'load_imm64':
      registers[dst] = immediateOf(instruction);
      break;
    default:
      atomic(instruction, state);
  }
  state.index++;
}

/** @param data the regions of the program's data sections */
export function takeAddress(instruction: Instruction, state: State, data: readonly Region[]): void {
  const { section, offset } = addressed(instruction);
  topOf(state).registers[instruction.dst] = new Pointer(data[section]!, Lazy.integer(offset));
  state.index++;
}

export function enterCall(state: State, target: number): void {
  const caller = topOf(state);
  const frame = newFrame(state.frames.length, state.index + 1);
  for (let r = 1; r < FIRST_SAVED; r++) frame.registers[r] = caller.registers[r];
  state.frames.push(frame);
  state.index = target;
}

/** What a helper function leaves behind: a result in its range, r1 to r5 nobody's, memory that it may write unknown. */
export function callHelper({ args, returns }: HelperSpec, state: State): void {
  const { registers } = topOf(state);
  args.forEach((arg, i) => {
    if (arg.kind === 'memory' && arg.access !== 'read')
      overwrite(state, registers[i + 1] as Pointer, arg.bytes);
  });
  registers[0] = Lazy.of(scalars.between(returns?.min ?? 0n, returns?.max ?? MAX_U64));
  registers.fill(undefined, 1, FIRST_SAVED);
  state.index++;
}

function overwrite(state: State, pointer: Pointer, size: number): void {
  // Of arguments' memory only which bytes are written is tracked; the stack holds values of 8 bytes at most.
  const piece = pointer.region.frame < 0 ? size : 8;
  for (let at = 0; at < size; at += piece)
    store(state, pointer, at, Math.min(piece, size - at), Lazy.of(scalars.unknown()));
}

/** Returns from a local call: r0 is the result, r1 to r5 are nobody's, and pointers into the frame are void. */
export function leaveCall(state: State): void {
  const { registers, back } = state.frames.pop()!;
  const caller = topOf(state);
  caller.registers[0] = registers[0];
  caller.registers.fill(undefined, 1, FIRST_SAVED);
  for (const frame of state.frames) frame.stack = stack.forget(frame.stack, state.frames.length);
  state.index = back;
}

function operandOf(instruction: Instruction, registers: readonly (Value | undefined)[]): Value {
  return instruction.row.source === 'reg' ? registers[instruction.src]! : immediateOf(instruction);
}

/** A pointer used as a number (where leaks are allowed) is one of which nothing is known. */
const numberIn = (value: Value): Lazy => (value instanceof Pointer ? Lazy.of(scalars.unknown()) : value);

function arithmetic(instruction: Instruction, registers: readonly (Value | undefined)[]): Value {
  const { row, dst, imm } = instruction;
  if (row.op === 'mov' && row.bits === 64 && row.signExtend === 0) return operandOf(instruction, registers);
  const compute = computeOf(row);
  if (row.op === 'neg') return Lazy.from(compute, numberIn(registers[dst]!));
  const b = operandOf(instruction, registers);
  if (row.op === 'mov') {
    const number = numberIn(b);
    return row.signExtend ? Lazy.from(compute, number) : Lazy.movedLow(compute, number, number, 0);
  }
  const a = registers[dst]!;
  if (row.bits === 64 && (row.op === 'add' || row.op === 'sub')) {
    if (row.source === 'imm') {
      const plus = row.op === 'add' ? imm : -imm;
      const moved = Lazy.moved(compute, a instanceof Pointer ? a.offset : a, numberIn(b), plus);
      return a instanceof Pointer ? new Pointer(a.region, moved) : moved;
    }
    const pointer = pointerSum(row.op, compute, a, b);
    if (pointer) return pointer;
  }
  if (row.bits === 32 && row.source === 'imm' && (row.op === 'add' || row.op === 'sub'))
    return Lazy.movedLow(compute, numberIn(a), numberIn(b), row.op === 'add' ? imm : -imm);
  if (a === b && (row.op === 'sub' || row.op === 'xor')) return difference(compute, numberIn(a), numberIn(a));
  return Lazy.from(compute, numberIn(a), numberIn(b));
}

/** Sums and differences of which one part is a pointer at least; undefined for all others. */
function pointerSum(op: string, compute: Compute, a: Value, b: Value): Value | undefined {
  if (a instanceof Pointer && b instanceof Pointer)
    return op === 'sub' && a.region === b.region ? difference(compute, a.offset, b.offset) : undefined;
  if (a instanceof Pointer && op === 'add')
    return new Pointer(a.region, offsetBy(compute, a.offset, b as Lazy));
  if (a instanceof Pointer) return new Pointer(a.region, Lazy.from(compute, a.offset, b as Lazy));
  if (b instanceof Pointer && op === 'add') return new Pointer(b.region, offsetBy(compute, b.offset, a));
  return undefined;
}

/** What is learnt of a number is learnt of the pointer that it was added to, if that is at a constant offset. */
const offsetBy = (compute: Compute, offset: Lazy, number: Lazy): Lazy =>
  offset.fixed === undefined
    ? Lazy.from(compute, offset, number)
    : Lazy.moved(compute, number, offset, offset.fixed);

/** x - x and x ^ x are 0 whatever x is; but that x is x has to hold wherever this is used. */
const difference = (compute: Compute, a: Lazy, b: Lazy): Lazy =>
  a === b ? Lazy.learnt(scalars.constant(0n), a, b) : Lazy.from(compute, a, b);

const computes = new Map<Row, Compute>();

/** What an arithmetic row computes from what is known of its operands. */
function computeOf(row: Row): Compute {
  let found = computes.get(row);
  if (!found) computes.set(row, (found = makeCompute(row)));
  return found;
}

function makeCompute({ kind, op, bits, signExtend }: Row): Compute {
  if (kind === 'endian')
    return op === 'le' ? (a) => scalars.truncate(a, bits) : (a) => scalars.swapBytes(a, bits);
  if (signExtend) return (a) => scalars.signExtend(a, signExtend, bits);
  if (op === 'mov') return (a) => scalars.truncate(a, bits);
  return bits === 64 ? (a, b) => scalars.aluWhole(op, a, b) : (a, b) => scalars.aluLow(op, a, b);
}

const LOADED: Readonly<Record<number, Scalar>> = Object.fromEntries(
  SIZES.map((size) => [size, scalars.truncate(scalars.unknown(), 8 * size)]),
);
const LOADED_SIGNED: Readonly<Record<number, Scalar>> = Object.fromEntries(
  SIZES.map((size) => [size, scalars.signExtend(scalars.unknown(), 8 * size, 64)]),
);

/** Arguments' memory may change at any time: each load gives a number of its own. */
function load(state: State, pointer: Pointer, off: number, { size, signExtend }: Row): Value {
  const { region } = pointer;
  if (region.frame >= 0) {
    const { first, last } = offsetsOf(pointer, off);
    const contents = state.frames[region.frame]!.stack;
    const value = first === last ? stack.read(contents, first + STACK_BYTES, size) : undefined;
    if (value instanceof Pointer) return value;
    if (value) return signExtend ? Lazy.from((a) => scalars.signExtend(a, signExtend, 64), value) : value;
  }
  return Lazy.of((signExtend ? LOADED_SIGNED : LOADED)[size]!);
}

function store(state: State, pointer: Pointer, off: number, size: number, value: Value): void {
  const { region } = pointer;
  const { first, last } = offsetsOf(pointer, off);
  if (region.frame < 0) {
    const before = state.written[region.arg];
    // Wherever it begins, it covers the bytes from its last beginning to its first end.
    if (before) state.written[region.arg] = written.add(before, last, first + size);
    return;
  }
  const frame = state.frames[region.frame]!;
  const at = first + STACK_BYTES;
  frame.stack =
    first === last
      ? stack.write(frame.stack, at, size, value)
      : stack.writeSomewhere(frame.stack, at, last + STACK_BYTES, size, value);
}

function atomic({ row, dst, src, off }: Instruction, state: State): void {
  const { registers } = topOf(state);
  if (row.op === 'load_acquire') {
    registers[dst] = load(state, registers[src] as Pointer, off, row);
    return;
  }
  const pointer = registers[dst] as Pointer;
  if (row.op === 'store_release') {
    store(state, pointer, off, row.size, registers[src]!);
    return;
  }
  // A compare-and-exchange may write nothing, which matters to memory that has to be written.
  if (row.op !== 'cmpxchg' || pointer.region.frame >= 0) {
    store(state, pointer, off, row.size, Lazy.of(scalars.unknown()));
  }
  if (row.op === 'cmpxchg') registers[0] = Lazy.of(LOADED[row.size]!);
  else if (row.src === 'readwrite') registers[src] = Lazy.of(LOADED[row.size]!);
}
