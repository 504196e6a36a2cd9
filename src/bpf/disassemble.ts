import { type Program, requireProgram } from './program.js';
import { instructionText } from './text.js';

/** The program as text, an instruction a line; `assemble` reads it back. */
export function disassemble(program: Program): string {
  requireProgram(program);
  return program.instructions.map((instruction) => `${instructionText(instruction)}\n`).join('');
}
