// A program put together in code, operation first: `asm.emit('add64.imm', { dst: 1, imm: 22 })`. The names are
// the table's.

import { SIZES, type Size } from '../format/model.js';
import { bigintOf, type Halves, signedImmediate } from '../halves.js';
import { type Row, row, SIZE_LETTER } from './isa.js';
import { type Instruction, instruction, long, makeProgram, type Program, short } from './program.js';

/** The rows of an operation on memory by size. */
const bySize = (name: string, sizes: readonly Size[] = SIZES): Readonly<Record<number, Row>> =>
  Object.fromEntries(sizes.map((size) => [size, row(name + SIZE_LETTER[size])]));

const LOAD = bySize('ldx');
const LOAD_SIGNED = bySize('ldxs', [1, 2, 4]);
const STORE = bySize('stx');
const STORE_IMMEDIATE = bySize('st');

export class Builder {
  readonly #instructions: Instruction[] = [];

  /** Appends the instruction of that name; fields left out are 0. */
  emit(name: string, operands: Parameters<typeof instruction>[1] = {}): this {
    this.#instructions.push(instruction(row(name), operands));
    return this;
  }

  // What lowered formats consist of has methods of its own: without objects of operands, that takes a quarter of the time.

  /** Appends the instruction `dst op imm` of that name. */
  immediate(name: string, dst: number, imm: number): this {
    this.#instructions.push(short(row(name), dst, 0, 0, imm));
    return this;
  }

  /** Appends the instruction `dst op src` of that name; of one without a second operand, `dst op`. */
  register(name: string, dst: number, src = 0): this {
    this.#instructions.push(short(row(name), dst, src, 0, 0));
    return this;
  }

  /** dst = the `size` bytes at src + off, zero-extended. */
  load(size: Size, dst: number, src: number, off: number): this {
    this.#instructions.push(short(LOAD[size]!, dst, src, off, 0));
    return this;
  }

  /** dst = the `size` bytes at src + off, fewer than 8, sign-extended. */
  loadSigned(size: Size, dst: number, src: number, off: number): this {
    this.#instructions.push(short(LOAD_SIGNED[size]!, dst, src, off, 0));
    return this;
  }

  /** The `size` bytes at dst + off = src. */
  store(size: Size, dst: number, off: number, src: number): this {
    this.#instructions.push(short(STORE[size]!, dst, src, off, 0));
    return this;
  }

  /** The `size` bytes at dst + off = imm, sign-extended. */
  storeImmediate(size: Size, dst: number, off: number, imm: number): this {
    this.#instructions.push(short(STORE_IMMEDIATE[size]!, dst, 0, off, imm));
    return this;
  }

  /** dst = a 64-bit constant, in one slot if it is a sign-extended 32-bit one. */
  constant(dst: number, value: Halves): this {
    const signed = signedImmediate(value);
    if (signed !== undefined) return this.immediate('mov64.imm', dst, signed);
    if (value.high === 0) return this.immediate('mov32.imm', dst, value.low);
    this.#instructions.push(long(row('lddw'), dst, 0, 0, bigintOf(value)));
    return this;
  }

  /** @throws ProgramError naming the slot of the first illegal instruction */
  build(): Program {
    return makeProgram(this.#instructions);
  }
}
