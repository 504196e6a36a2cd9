import { hexBytes, isElf, requireBytes } from '../bytes.js';
import { ProgramError } from '../errors.js';
import { assemble } from './assemble.js';
import { decodeProgram } from './encode.js';
import type { Program } from './program.js';

/**
 * Reads a program in whatever form it comes: assembly text, hexadecimal text, or raw bytes. Bytes are text if none of
 * them is 0; programs that can end have such bytes.
 * @throws ProgramError as `assemble` and `decodeProgram`, or 'P-HEX' or 'P-ELF'; ArgumentError 'A-TYPE'
 */
export function readProgram(source: Uint8Array | string): Program {
  if (typeof source === 'string') return fromText(source);
  const bytes = requireBytes(source, 0, 'a program, unless it is a string,');
  if (!bytes.includes(0)) return fromText(new TextDecoder().decode(bytes));
  if (isElf(bytes)) {
    const message = 'this is an ELF object, which may hold many programs: readElf reads it';
    throw new ProgramError('P-ELF', message, { byte: 0 });
  }
  return decodeProgram(bytes);
}

function fromText(text: string): Program {
  if (!/^(0x)?[0-9a-f\s]*$/i.test(text.trim())) return assemble(text);
  const bytes = hexBytes(text);
  if (bytes) return decodeProgram(bytes);
  throw new ProgramError('P-HEX', 'hexadecimal text must be of whole bytes; a digit is missing or too many');
}
