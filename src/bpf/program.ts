// A program: decoded instructions whose every field is legal by itself and whose jumps land on instructions.

import { requireKey } from '../bytes.js';
import { ProgramError } from '../errors.js';
import { DataSection, type DataSpec } from './data.js';
import { DATA_ADDRESS, FRAME_POINTER, REGISTERS, type RegisterUse, type Row } from './isa.js';

export interface Instruction {
  readonly row: Row;
  readonly dst: number;
  readonly src: number;
  /** Signed 16 bits: displacement, or jump distance in slots from the next instruction. */
  readonly off: number;
  /** Signed 32 bits. */
  readonly imm: number;
  /** The immediate as arithmetic sees it, 0 … 2^64 - 1: `imm` sign-extended, or an LD_IMM64's 64 bits. */
  readonly value: bigint;
}

/** Length of an instruction in slots of 8 bytes. */
export const slotsOf = (row: Row): 1 | 2 =>
  row.kind === 'load_imm64' || row.kind === 'data_address' ? 2 : 1;

/** Makes an instruction of a row and its operands; fields that the row fixes are filled in. */
export function instruction(
  row: Row,
  operands: { dst?: number; src?: number; off?: number; imm?: number; value?: bigint },
): Instruction {
  const { dst = 0, src = 0, off = 0, imm = 0, value } = operands;
  return value === undefined ? short(row, dst, src, off, imm) : long(row, dst, src, off, value);
}

const fixed = (use: RegisterUse | string, operand: number): number =>
  typeof use === 'number' ? use : operand;

/** An instruction with a 64-bit immediate. */
export function long(row: Row, dst: number, src: number, off: number, value: bigint): Instruction {
  const imm = fixed(row.imm, Number(BigInt.asIntN(32, value)));
  return frozen(row, fixed(row.dst, dst), fixed(row.src, src), fixed(row.off, off), imm, value);
}

// Programs consist of few different instructions: to find one here takes a fifth of the time that making it takes.
const recent: (Instruction | undefined)[] = new Array(2048).fill(undefined);

/** An instruction whose immediate has 32 bits; what was made lately is not made again. */
export function short(row: Row, dst: number, src: number, off: number, imm: number): Instruction {
  const [d, s, o, i] = [fixed(row.dst, dst), fixed(row.src, src), fixed(row.off, off), fixed(row.imm, imm)];
  const fields = row.number ^ (d << 8) ^ (s << 12) ^ (o << 16);
  const place = (Math.imul(fields, 0x9e3779b1) ^ Math.imul(i, 0x85ebca6b)) >>> 21;
  const known = recent[place];
  if (known?.row === row && known.dst === d && known.src === s && known.off === o && known.imm === i)
    return known;
  const made = frozen(row, d, s, o, i, BigInt.asUintN(64, BigInt(i)));
  recent[place] = made;
  return made;
}

const frozen = (row: Row, dst: number, src: number, off: number, imm: number, value: bigint): Instruction =>
  Object.freeze({ row, dst, src, off, imm, value });

/** dst = the address of byte `offset` of the program's data section number `section`. */
export function dataAddress(dst: number, section: number, offset: number): Instruction {
  return instruction(DATA_ADDRESS, { dst, value: (BigInt(offset) << 32n) | BigInt(section) });
}

/** What an instruction of kind 'data_address' takes the address of. */
export const addressed = ({ imm, value }: Instruction): { section: number; offset: number } => {
  return { section: imm, offset: Number(value >> 32n) };
};

/** Jump distance of a goto, conditional jump or local call in slots, or undefined for other instructions. */
export function jumpDistance({ row, off, imm }: Instruction): number | undefined {
  if (row.off === 'jump') return off;
  return row.imm === 'jump' ? imm : undefined;
}

/** Throws for an instruction that is known by name only. */
export function refuse(row: Row, insn: number): void {
  if (row.kind !== 'refused') return;
  throw new ProgramError('P-UNSUPPORTED', `instruction ${insn} (${row.name}): ${row.reason}`, { insn });
}

/** @throws ProgramError unless `program` is one */
export function requireProgram(program: unknown): asserts program is Program {
  if (Program.is(program)) return;
  throw new ProgramError('P-TYPE', 'not a program: make it with decodeProgram, assemble or lower');
}

/** Nobody outside of this file can name it, so the constructor of an object at hand makes no other. */
const DECODED = Symbol('decoded');

export class Program {
  readonly instructions: readonly Instruction[];
  /** Memory that it brings along: only programs linked from objects have any. */
  readonly data: readonly DataSection[];
  /** Length in slots. */
  readonly slots: number;
  /** Whether it has functions that it calls. */
  readonly hasCalls: boolean;
  /** Undefined where every instruction is one slot. */
  readonly #places: Places | undefined;

  /** @internal */
  constructor(key: symbol, instructions: readonly Instruction[], data: readonly DataSpec[]) {
    requireKey(key, DECODED, 'a program', 'decodeProgram, assemble and lower');
    this.instructions = Object.freeze(instructions.slice());
    this.data = Object.freeze(data.map((section) => new DataSection(section)));
    this.#places = placesOf(instructions);
    this.slots = this.#places?.indexAt.length ?? instructions.length;
    this.hasCalls = instructions.some(({ row }) => row.op === 'local');
    Object.freeze(this);
    if (this.slots === 0)
      throw new ProgramError('P-EMPTY', 'a program has at least one instruction', { insn: 0 });
    for (let i = 0; i < instructions.length; i++) this.#check(i);
  }

  /** Whether `value` was made by this class, and not by an imitation that could change behind the verifier's back. */
  static is(value: unknown): value is Program {
    return typeof value === 'object' && value !== null && #places in value;
  }

  /** Slot number of instruction `index`. */
  slotOf(index: number): number {
    return this.#places ? this.#places.slotOf[index]! : index;
  }

  /** Index of the instruction at a slot, or -1 outside the program and inside an LD_IMM64. */
  indexAt(slot: number): number {
    if (this.#places) return this.#places.indexAt[slot] ?? -1;
    return this.instructions[slot] ? slot : -1;
  }

  /** Index of the instruction that a jump or local call leads to; -1 for other instructions. */
  targetOf(index: number): number {
    const distance = jumpDistance(this.instructions[index]!);
    return distance === undefined ? -1 : this.indexAt(this.slotOf(index) + 1 + distance);
  }

  #check(index: number): void {
    const instruction = this.instructions[index]!;
    const { row, dst, src } = instruction;
    if (row.kind === 'refused') refuse(row, this.slotOf(index));
    if (!isRegister(dst, row.dst)) throw this.#wrongRegister(index, 'dst', dst);
    if (!isRegister(src, row.src)) throw this.#wrongRegister(index, 'src', src);
    if (row.kind === 'data_address') this.#checkData(index);
    const distance = jumpDistance(instruction);
    if (distance !== undefined && this.targetOf(index) < 0) throw this.#wrongTarget(index, distance);
  }

  #wrong(index: number, code: string, message: string): ProgramError {
    const insn = this.slotOf(index);
    return new ProgramError(code, `instruction ${insn} (${this.instructions[index]!.row.name}): ${message}`, {
      insn,
    });
  }

  #wrongRegister(index: number, field: string, register: number): ProgramError {
    if (register === FRAME_POINTER)
      return this.#wrong(index, 'P-WRITE-R10', 'r10 is the frame pointer and cannot be written');
    const message = `${field} register r${register} does not exist; the last is r${REGISTERS - 1}`;
    return this.#wrong(index, 'P-REGISTER', message);
  }

  #checkData(index: number): void {
    const { section, offset } = addressed(this.instructions[index]!);
    const size = this.data[section]?.size ?? -1;
    if (offset < 0 || offset > size)
      throw this.#wrong(index, 'P-DATA', `the program has no byte ${offset} of data section ${section}`);
  }

  #wrongTarget(index: number, distance: number): ProgramError {
    const slot = this.slotOf(index) + 1 + distance;
    const what = this.instructions[index]!.row.kind === 'call' ? 'call' : 'jump';
    if (slot >= 0 && slot < this.slots)
      return this.#wrong(
        index,
        'P-JUMP-SPLIT',
        `${what} into the second half of the LD_IMM64 at ${slot - 1}`,
      );
    const message = `${what} to ${slot}, outside the program of ${this.slots} slots`;
    return this.#wrong(index, 'P-JUMP-RANGE', message);
  }
}

interface Places {
  readonly slotOf: readonly number[];
  readonly indexAt: readonly number[];
}

function placesOf(instructions: readonly Instruction[]): Places | undefined {
  let wide = false;
  for (let i = 0; i < instructions.length; i++) wide ||= slotsOf(instructions[i]!.row) === 2;
  if (!wide) return undefined;
  const slotOf: number[] = [];
  const indexAt: number[] = [];
  for (let i = 0; i < instructions.length; i++) {
    slotOf.push(indexAt.length);
    indexAt.push(i);
    if (slotsOf(instructions[i]!.row) === 2) indexAt.push(-1);
  }
  return { slotOf, indexAt };
}

const isRegister = (register: number, use: RegisterUse): boolean =>
  typeof use === 'number' || register < FRAME_POINTER || (register === FRAME_POINTER && use === 'read');

/**
 * @param instructions made by `instruction`
 * @param data what `dataAddress` instructions refer to by its place in the list
 * @throws ProgramError naming the slot of the first illegal instruction
 */
export function makeProgram(instructions: readonly Instruction[], data: readonly DataSpec[] = []): Program {
  return new Program(DECODED, instructions, data);
}
