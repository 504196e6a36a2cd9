// A program put together in code, operation first: `asm.emit('add64.imm', { dst: 1, imm: 22 })`. The names are
// the table's.

import { row } from './isa.js';
import { type Instruction, instruction, makeProgram, type Program } from './program.js';

export class Builder {
  readonly #instructions: Instruction[] = [];

  /** Appends the instruction of that name; fields left out are 0. */
  emit(name: string, operands: Parameters<typeof instruction>[1] = {}): this {
    this.#instructions.push(instruction(row(name), operands));
    return this;
  }

  /** dst = a 64-bit constant, in one slot if it is a sign-extended 32-bit one. */
  constant(dst: number, value: bigint): this {
    const signed = BigInt.asIntN(64, value);
    if (signed === BigInt.asIntN(32, value)) return this.emit('mov64.imm', { dst, imm: Number(signed) });
    if (value === BigInt.asUintN(32, value))
      return this.emit('mov32.imm', { dst, imm: Number(BigInt.asIntN(32, value)) });
    return this.emit('lddw', { dst, value: BigInt.asUintN(64, value) });
  }

  /** @throws ProgramError naming the slot of the first illegal instruction */
  build(): Program {
    return makeProgram(this.#instructions);
  }
}
