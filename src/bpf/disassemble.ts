import { ArgumentError } from '../errors.js';
import type { Dialect } from './isa.js';
import { type Program, requireProgram } from './program.js';
import { instructionText } from './text.js';

export interface DisassembleOptions {
  /** Default: 'kernel', the dialect of the Linux verifier's log. 'classic' is uBPF's. */
  readonly dialect?: Dialect;
  /** A word on the instruction at a slot, which goes behind it as a comment; undefined for none. */
  readonly comment?: (slot: number) => string | undefined;
}

const COMMENT_COLUMN = 40;

/**
 * The program as text, an instruction a line; `assemble` reads it back, except for addresses of data (`r1 = .rodata[16] ll`),
 * which only objects have.
 * @throws ProgramError 'P-TYPE' for what is no program; ArgumentError 'A-DIALECT'
 */
export function disassemble(program: Program, options: DisassembleOptions = {}): string {
  requireProgram(program);
  const { dialect = 'kernel' } = options ?? {};
  if (dialect !== 'kernel' && dialect !== 'classic')
    throw new ArgumentError('A-DIALECT', `dialect must be kernel or classic; got ${String(dialect)}`);
  const { instructions, data } = program;
  return instructions
    .map((instruction, index) => {
      const text = instructionText(instruction, dialect, data);
      const comment = options?.comment?.(program.slotOf(index));
      return `${comment === undefined ? text : `${text.padEnd(COMMENT_COLUMN)} ; ${comment}`}\n`;
    })
    .join('');
}
