import { type Program, requireProgram } from './program.js';
import { instructionText } from './text.js';

/**
 * The program as text, an instruction a line; `assemble` reads it back.
 * @throws ProgramError 'P-TYPE' for what is no program
 */
export function disassemble(program: Program): string {
  requireProgram(program);
  return program.instructions.map((instruction) => `${instructionText(instruction)}\n`).join('');
}
