import { ArgumentError } from '../errors.js';
import type { Dialect } from './isa.js';
import { type Program, requireProgram } from './program.js';
import { instructionText } from './text.js';

export interface DisassembleOptions {
  /** Default: 'kernel', the dialect of the Linux verifier's log. 'classic' is uBPF's. */
  readonly dialect?: Dialect;
}

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
  return instructions.map((instruction) => `${instructionText(instruction, dialect, data)}\n`).join('');
}
