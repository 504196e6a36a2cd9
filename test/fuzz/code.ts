// Instructions with labels, for programs that are put together at random.

import { row } from '../../src/bpf/isa.js';
import { instruction, makeProgram, type Program, slotsOf } from '../../src/bpf/program.js';

type Operands = Parameters<typeof instruction>[1];

/** A place in the code; it is given its number when the code comes by. */
export interface Label {
  slot?: number;
}

export class Code {
  readonly #parts: { readonly name: string; readonly operands: Operands; readonly to: Label | undefined }[] =
    [];
  #slots = 0;

  /** Appends the instruction of that name; its jump, if it is one, leads to `to`. */
  emit(name: string, operands: Operands = {}, to?: Label): void {
    this.#parts.push({ name, operands, to });
    this.#slots += slotsOf(row(name));
  }

  bind(label: Label): void {
    label.slot = this.#slots;
  }

  program(): Program {
    let slot = 0;
    const instructions = this.#parts.map(({ name, operands, to }) => {
      const { imm } = row(name);
      slot += slotsOf(row(name));
      if (to === undefined) return instruction(row(name), operands);
      const distance = to.slot! - slot;
      return instruction(row(name), { ...operands, [imm === 'jump' ? 'imm' : 'off']: distance });
    });
    return makeProgram(instructions);
  }
}
