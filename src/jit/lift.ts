// Straight-line programs as what they compute: each run of bytes of the output is a sum of slices of the input's
// bits and a constant, whatever instructions expressed it. Programs that do anything else are not lifted.

import { arithmetic } from '../bpf/alu.js';
import type { Contract } from '../bpf/contract.js';
import { FRAME_POINTER } from '../bpf/isa.js';
import type { Instruction } from '../bpf/program.js';
import type { Size } from '../format/model.js';
import {
  bigintOf,
  bitLength,
  type Halves,
  halvesOf,
  isEqual,
  isZero,
  negate,
  onesAt,
  truncate as truncateHalves,
} from '../halves.js';
import type { VerifiedProgram } from '../verifier/verified.js';
import {
  add,
  and,
  constant,
  isConstant,
  type LoadedSlice,
  loaded,
  type MaybeSum,
  or,
  type Slice,
  type Sum,
  shiftLeft,
  shiftRight,
  shiftRightSigned,
  signExtend,
  swap,
  truncate,
  xor,
} from './slices.js';
import { Spills } from './spills.js';
import { lastOnes, loadsTwice, rejoined, type Store, storable } from './stores.js';

export type { Slice } from './slices.js';

/** Bytes `byte` … `byte + size - 1` of the output: (slices + plus) mod 2^(8 * size), little-endian. */
export interface Piece {
  readonly byte: number;
  readonly size: Size;
  /** Of the input region; no two share a bit of the value; lowest first. None for a constant. */
  readonly slices: readonly Slice[];
  /** Whether the topmost slice's highest bit is copied into all bits above; false where there are none. */
  readonly signed: boolean;
  /** 0 … 2^(8 * size) - 1. */
  readonly plus: bigint;
}

/** A memory argument: `index` as in Contract.args. */
export interface Region {
  readonly index: number;
  readonly bytes: number;
}

/** A program that loads from one argument, stores to another, disjoint one, and returns a constant. */
export interface Lifted {
  readonly input: Region;
  readonly output: Region;
  /** What is stored, each byte once, in ascending order; bytes that no piece covers keep their values. */
  readonly pieces: readonly Piece[];
  /** 0 … 2^64 - 1. */
  readonly r0: bigint;
}

/** The slice form of a proven program; undefined if it has none. */
export function lift({ program, contract }: VerifiedProgram): Lifted | undefined {
  if (!contract?.disjoint) return undefined;
  const lifting = new Lifting(contract);
  for (const instruction of program.instructions) {
    if (instruction.row.kind === 'exit') return lifting.finish();
    if (!lifting.step(instruction)) return undefined;
  }
  return undefined;
}

// The region of r10.
const STACK = -2;

interface Pointer {
  /** Index of the argument, or STACK. */
  readonly region: number;
  readonly offset: number;
}

/** What a register holds; undefined: nothing that has a slice form. */
type Value = Sum | Pointer | undefined;

const isPointer = (value: Value): value is Pointer => value !== undefined && 'region' in value;

class Lifting {
  readonly #contract: Contract;
  readonly #registers: Value[] = new Array(11);
  readonly #spills = new Spills<Pointer>(isPointer);
  readonly #stores: Store[] = [];
  #input = -1;
  #output = -1;
  #loads = 0;

  constructor(contract: Contract) {
    this.#contract = contract;
    for (let region = 0; region < contract.args.length; region++) {
      if (contract.args[region]?.kind === 'memory') this.#registers[region + 1] = { region, offset: 0 };
    }
    this.#registers[FRAME_POINTER] = { region: STACK, offset: 0 };
  }

  /** Whether the instruction is of a kind that has a slice form. */
  step(instruction: Instruction): boolean {
    const { row, dst } = instruction;
    switch (row.kind) {
      case 'alu':
        this.#registers[dst] = this.#alu(instruction);
        return true;
      case 'endian':
        this.#registers[dst] = this.#endian(instruction);
        return true;
      case 'load_imm64':
        this.#registers[dst] = constant(halvesOf(instruction.value));
        return true;
      case 'load':
        return this.#load(instruction);
      case 'store':
        return this.#store(instruction);
      default:
        return false;
    }
  }

  #load({ row, dst, src, off }: Instruction): boolean {
    const base = this.#registers[src];
    if (!isPointer(base) || base.region === this.#output) return false;
    const bits = row.size * 8;
    if (base.region === STACK) {
      const value = this.#spills.load(base.offset + off, row.size);
      const extends_ = row.signExtend > 0 && !isPointer(value);
      this.#registers[dst] = extends_ ? signExtend(value, bits) : value;
      return true;
    }
    if (this.#input !== -1 && this.#input !== base.region) return false;
    this.#input = base.region;
    const value = loaded((base.offset + off) * 8, bits, this.#loads++);
    this.#registers[dst] = row.signExtend > 0 ? signExtend(value, bits) : value;
    return true;
  }

  #store(instruction: Instruction): boolean {
    const { row, dst, src, off } = instruction;
    const base = this.#registers[dst];
    if (!isPointer(base) || base.region === this.#input) return false;
    if (base.region === STACK) {
      const stored = row.source === 'reg' ? this.#registers[src] : immediateOf(instruction);
      this.#spills.store(base.offset + off, row.size, stored);
      return true;
    }
    if (this.#output !== -1 && this.#output !== base.region) return false;
    this.#output = base.region;
    const stored = row.source === 'reg' ? this.#number(src) : immediateOf(instruction);
    const low = storable(stored, row.size);
    if (!low) return false;
    this.#stores.push({ byte: base.offset + off, size: row.size, value: low });
    return true;
  }

  #number(register: number): MaybeSum {
    const value = this.#registers[register];
    return isPointer(value) ? undefined : value;
  }

  #alu(instruction: Instruction): Value {
    const { row, dst, src } = instruction;
    const operand = row.source === 'reg' ? this.#registers[src] : immediateOf(instruction);
    const { op, bits } = row;
    if (op === 'mov' && bits === 64 && row.signExtend === 0) return operand;
    if (isPointer(operand)) return undefined;
    if (op === 'mov')
      return truncate(row.signExtend > 0 ? signExtend(operand, row.signExtend) : operand, bits);
    const left = this.#registers[dst];
    if (isPointer(left)) return bits === 64 ? movePointer(left, op, operand) : undefined;
    if (!left || !operand) return undefined;
    if (isConstant(operand) && isConstant(left)) {
      return constant(halvesOf(arithmetic(op, bits, bigintOf(left.plus), bigintOf(operand.plus))));
    }
    return compute(op, bits, left, operand);
  }

  #endian({ row, dst }: Instruction): MaybeSum {
    const value = this.#number(dst);
    return row.op === 'le' ? truncate(value, row.bits) : swap(value, row.bits);
  }

  finish(): Lifted | undefined {
    const r0 = this.#number(0);
    if (!r0 || !isConstant(r0) || this.#input === -1 || this.#output === -1) return undefined;
    const stores = rejoined(lastOnes(this.#stores));
    if (!stores || loadsTwice(stores, this.#loads)) return undefined;
    const region = (index: number): Region => {
      const arg = this.#contract.args[index];
      return { index, bytes: arg?.kind === 'memory' ? arg.bytes : 0 };
    };
    return {
      input: region(this.#input),
      output: region(this.#output),
      pieces: stores.map(pieceOf),
      r0: bigintOf(r0.plus),
    };
  }
}

// The last constant for each of the low bits: shift counts, masks and zeros come again and again.
const constants: ({ readonly imm: number; readonly sum: Sum } | undefined)[] = new Array(256).fill(undefined);

/** The 32-bit immediate of an instruction. */
function immediateOf({ imm, value }: Instruction): Sum {
  const known = constants[imm & 255];
  if (known?.imm === imm) return known.sum;
  const sum = constant(halvesOf(value));
  constants[imm & 255] = { imm, sum };
  return sum;
}

function movePointer({ region, offset }: Pointer, op: string, operand: MaybeSum): Value {
  if (!operand || !isConstant(operand)) return undefined;
  const distance = operand.plus.high * 2 ** 32 + (operand.plus.low >>> 0);
  if (!Number.isSafeInteger(distance)) return undefined;
  if (op === 'add') return { region, offset: offset + distance };
  return op === 'sub' ? { region, offset: offset - distance } : undefined;
}

function compute(op: string, bits: number, left: Sum, right: Sum): MaybeSum {
  switch (op) {
    case 'add':
      return add(left, right, bits);
    case 'sub':
      return isConstant(right) ? add(left, constant(negate(right.plus)), bits) : undefined;
    case 'or':
      return or(truncate(left, bits), truncate(right, bits));
    case 'and':
      return and(truncate(left, bits), truncate(right, bits));
    case 'xor':
      return xor(left, right, bits);
    case 'mul':
      return isConstant(right) ? multiply(left, right.plus, bits) : undefined;
    case 'lsh':
    case 'rsh':
    case 'arsh':
      return isConstant(right) ? shift(op, bits, left, right.plus.low & (bits - 1)) : undefined;
    default:
      return undefined;
  }
}

function shift(op: 'lsh' | 'rsh' | 'arsh', bits: number, value: Sum, count: number): MaybeSum {
  if (op === 'lsh') return truncate(shiftLeft(value, count), bits);
  if (op === 'rsh') return shiftRight(truncate(value, bits), count);
  const high = shiftLeft(truncate(value, bits), 64 - bits);
  return truncate(shiftRightSigned(high, count + 64 - bits), bits);
}

function multiply(value: Sum, factor: Halves, bits: number): MaybeSum {
  const power = bitLength(factor) - 1;
  const isPower = !isZero(factor) && isEqual(factor, onesAt(1, power));
  return isPower ? truncate(shiftLeft(value, power), bits) : undefined;
}

function pieceOf({ byte, size, value }: Store): Piece {
  const { slices, signed, plus } = value;
  return {
    byte,
    size: size as Size,
    slices: joined(slices),
    signed,
    plus: bigintOf(truncateHalves(plus, size * 8)),
  };
}

/** Slices that continue each other, as one. */
function joined(slices: readonly LoadedSlice[]): Slice[] {
  const result: { from: number; bits: number; to: number }[] = [];
  for (const { from, bits, to } of slices) {
    const last = result.at(-1);
    if (last && last.from + last.bits === from && last.to + last.bits === to) last.bits += bits;
    else result.push({ from, bits, to });
  }
  return result;
}
