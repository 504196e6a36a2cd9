// Machine code as text, by an independent disassembler. iced-x86 is loaded at the first listing.

import { createRequire } from 'node:module';
import { type MachineCode, requireCode } from '../target.js';

const require = createRequire(import.meta.url);

export interface ListingLine {
  /** Byte offset in the code. */
  readonly offset: number;
  readonly bytes: Uint8Array;
  /** NASM syntax. */
  readonly text: string;
}

/** The instructions of a routine. */
export function listing(code: MachineCode): ListingLine[] {
  requireCode(code);
  return decode(code.bytes);
}

/** The instructions of code that has no MachineCode to it, as what was read back from memory. */
export function decode(bytes: Uint8Array): ListingLine[] {
  const {
    Decoder,
    DecoderOptions,
    Formatter,
    FormatterSyntax,
  }: typeof import('iced-x86') = require('iced-x86');
  const decoder = new Decoder(64, bytes, DecoderOptions.None);
  const formatter = new Formatter(FormatterSyntax.Nasm);
  formatter.spaceAfterOperandSeparator = true;
  formatter.hexPrefix = '0x';
  formatter.hexSuffix = '';
  const lines: ListingLine[] = [];
  try {
    while (decoder.canDecode) {
      const offset = decoder.position;
      const instruction = decoder.decode();
      lines.push({
        offset,
        bytes: bytes.slice(offset, decoder.position),
        text: formatter.format(instruction),
      });
      instruction.free();
    }
  } finally {
    decoder.free();
    formatter.free();
  }
  return lines;
}
