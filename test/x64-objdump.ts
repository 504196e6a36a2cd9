// binutils' reading of machine code, in the words of x64-decoder.ts: a second opinion that shares no code with the first.

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Emitted } from '../src/jit/x64/assemble.js';
import type { Form } from '../src/jit/x64/forms.js';
import { maskedText, meant, memoryText } from './x64-decoder.js';

const version = spawnSync('objdump', ['--version']).stdout?.toString() ?? '';
export const hasObjdump = version.includes('GNU objdump');
if (!hasObjdump) console.warn("NOT TESTED: encodings by binutils' objdump, because it is not installed");

/** A line of objdump's: offset in hexadecimal, bytes, text. */
const LINE = /^ *([\da-f]+):\t((?:[\da-f]{2} )+) *(?:\t(.*))?$/;
const MOST_OUTPUT_BYTES = 2 ** 28;

function disassembled(bytes: Uint8Array): Map<number, { length: number; text: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'bpf-unpack-'));
  const path = join(folder, 'code');
  try {
    writeFileSync(path, bytes);
    const options = ['-D', '-z', '-b', 'binary', '-m', 'i386:x86-64', '-M', 'intel', '--insn-width=16', path];
    const output = execFileSync('objdump', options, { maxBuffer: MOST_OUTPUT_BYTES }).toString();
    const lines = output.split('\n').flatMap((line) => {
      const [, offset, hex, text = ''] = LINE.exec(line) ?? [];
      return offset === undefined
        ? []
        : [{ offset: Number.parseInt(offset, 16), length: hex!.length / 3, text }];
    });
    return new Map(lines.map(({ offset, ...rest }) => [offset, rest]));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const SIZES: Readonly<Record<string, number>> = {
  BYTE: 1,
  WORD: 2,
  DWORD: 4,
  QWORD: 8,
  XMMWORD: 16,
  YMMWORD: 32,
  ZMMWORD: 64,
};
const MASKED = /^(.+)\{(k\d)\}(\{z\})?$/;
const RELATIVE = /^\[rip\+0x[\da-f]+\] +# (0x[\da-f]+)$/;
const MEMORY = /^(?:(\w+) PTR )?\[(\w+)(?:\+(\w+)\*(\d))?([+-]0x[\da-f]+)?\]$/;

/** A register in the other decoder's words, in which r8's lowest byte is R8L. */
const registerText = (name: string): string => name.toUpperCase().replace(/^(R\d+)B$/, '$1L');

function operandText(text: string, form: Form): string {
  const [masked, operand, mask, clears] = MASKED.exec(text) ?? [];
  if (masked !== undefined)
    return maskedText(operandText(operand!, form), mask!.toUpperCase(), clears !== undefined);
  const target = RELATIVE.exec(text)?.[1];
  if (target !== undefined) return `to ${BigInt(target)}`;
  const [memory, size, base, index, scale, displacement = '+0x0'] = MEMORY.exec(text) ?? [];
  if (memory !== undefined) {
    const by = BigInt(displacement.slice(1)) * (displacement[0] === '-' ? -1n : 1n);
    const indexed = index === undefined ? '' : registerText(index);
    return memoryText(size === undefined ? 0 : SIZES[size]!, registerText(base!), indexed, Number(scale), by);
  }
  if (!/^(0x)?[\da-f]+$/.test(text) || !/^\d/.test(text)) return registerText(text);
  return form.distanceBytes > 0 ? `to ${BigInt(text)}` : String(BigInt.asUintN(form.bits, BigInt(text)));
}

function reading({ text, length }: { text: string; length: number }, form: Form): string {
  const [, mnemonic, operands = ''] = /^((?:lock )?\S+) *(.*)$/.exec(text) ?? [];
  const name = mnemonic === 'movabs' ? 'mov' : mnemonic;
  const texts = operands === '' ? [] : operands.split(',').map((operand) => operandText(operand, form));
  return `${name} ${texts.join(', ')} (${length} bytes)`;
}

/** Every difference between objdump's reading and what was meant; nothing where they agree. */
export function objdumpDifferences(bytes: Uint8Array, emitted: readonly Emitted[]): string[] {
  const lines = disassembled(bytes);
  return emitted.flatMap(({ form, operands, offset }) => {
    const line = lines.get(offset);
    const expected = meant(form, operands);
    const actual = line ? reading(line, form) : 'the middle of something';
    return expected === actual ? [] : [`${offset}: meant ${expected}, is ${actual}`];
  });
}
