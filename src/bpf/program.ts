// A program: decoded instructions whose every field is legal by itself and whose jumps land on instructions.

import { requireKey } from '../bytes.js';
import { ProgramError } from '../errors.js';
import { DataSection, type DataSpec } from './data.js';
import { DATA_ADDRESS, FRAME_POINTER, REGISTERS, type RegisterUse, type Row, reads, writes } from './isa.js';

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
  const fixed = (use: RegisterUse | string, operand = 0): number => (typeof use === 'number' ? use : operand);
  const imm = fixed(
    row.imm,
    operands.value === undefined ? operands.imm : Number(BigInt.asIntN(32, operands.value)),
  );
  return Object.freeze({
    row,
    dst: fixed(row.dst, operands.dst),
    src: fixed(row.src, operands.src),
    off: fixed(row.off, operands.off),
    imm,
    value: operands.value ?? BigInt.asUintN(64, BigInt(imm)),
  });
}

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
  readonly #slotOf: Int32Array;
  readonly #indexAt: Int32Array;

  /** @internal */
  constructor(key: symbol, instructions: readonly Instruction[], data: readonly DataSpec[]) {
    requireKey(key, DECODED, 'a program', 'decodeProgram, assemble and lower');
    this.instructions = Object.freeze([...instructions]);
    this.data = Object.freeze(data.map((section) => new DataSection(section)));
    this.#slotOf = new Int32Array(instructions.length);
    let slots = 0;
    instructions.forEach(({ row }, i) => {
      this.#slotOf[i] = slots;
      slots += slotsOf(row);
    });
    this.slots = slots;
    this.#indexAt = new Int32Array(slots).fill(-1);
    this.#slotOf.forEach((slot, i) => {
      this.#indexAt[slot] = i;
    });
    Object.freeze(this);
    if (slots === 0) throw new ProgramError('P-EMPTY', 'a program has at least one instruction', { insn: 0 });
    for (let i = 0; i < instructions.length; i++) this.#check(i);
  }

  /** Whether `value` was made by this class, and not by an imitation that could change behind the verifier's back. */
  static is(value: unknown): value is Program {
    return typeof value === 'object' && value !== null && #slotOf in value;
  }

  /** Slot number of instruction `index`. */
  slotOf(index: number): number {
    return this.#slotOf[index]!;
  }

  /** Index of the instruction at a slot, or -1 outside the program and inside an LD_IMM64. */
  indexAt(slot: number): number {
    return this.#indexAt[slot] ?? -1;
  }

  /** Index of the instruction that a jump or local call leads to; -1 for other instructions. */
  targetOf(index: number): number {
    const distance = jumpDistance(this.instructions[index]!);
    return distance === undefined ? -1 : this.indexAt(this.slotOf(index) + 1 + distance);
  }

  #check(index: number): void {
    const instruction = this.instructions[index]!;
    const { row, dst, src } = instruction;
    const insn = this.slotOf(index);
    const fail = (code: string, message: string) =>
      new ProgramError(code, `instruction ${insn} (${row.name}): ${message}`, { insn });
    refuse(row, insn);
    for (const [field, register, use] of [
      ['dst', dst, row.dst],
      ['src', src, row.src],
    ] as const) {
      if ((reads(use) || writes(use)) && register >= REGISTERS) {
        throw fail(
          'P-REGISTER',
          `${field} register r${register} does not exist; the last is r${REGISTERS - 1}`,
        );
      }
      if (writes(use) && register === FRAME_POINTER) {
        throw fail('P-WRITE-R10', 'r10 is the frame pointer and cannot be written');
      }
    }
    if (row.kind === 'data_address') {
      const { section, offset } = addressed(instruction);
      const size = this.data[section]?.size ?? -1;
      if (offset < 0 || offset > size)
        throw fail('P-DATA', `the program has no byte ${offset} of data section ${section}`);
    }
    const distance = jumpDistance(instruction);
    if (distance === undefined || this.targetOf(index) >= 0) return;
    const slot = insn + 1 + distance;
    const what = row.kind === 'call' ? 'call' : 'jump';
    if (slot >= 0 && slot < this.slots)
      throw fail('P-JUMP-SPLIT', `${what} into the second half of the LD_IMM64 at ${slot - 1}`);
    throw fail('P-JUMP-RANGE', `${what} to ${slot}, outside the program of ${this.slots} slots`);
  }
}

/**
 * @param instructions made by `instruction`
 * @param data what `dataAddress` instructions refer to by its place in the list
 * @throws ProgramError naming the slot of the first illegal instruction
 */
export function makeProgram(instructions: readonly Instruction[], data: readonly DataSpec[] = []): Program {
  return new Program(DECODED, instructions, data);
}
