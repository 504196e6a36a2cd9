// One instruction as text, in either dialect. The words are the table's.

import type { DataSection } from './data.js';
import type { Dialect } from './isa.js';
import { addressed, type Instruction } from './program.js';

/**
 * `r0 = *(u64 *)(r1 + 8)`, `if w1 s> 5 goto +3`, …; in the classic dialect `ldxdw %r0, [%r1+8]`, `jsgt32 %r1, 5, +3`, …
 * @param data of the program that the instruction is of
 */
export function instructionText(
  instruction: Instruction,
  dialect: Dialect = 'kernel',
  data: readonly DataSection[] = [],
): string {
  const { row, dst, src, off, imm, value } = instruction;
  const prefix = dialect === 'kernel' ? '' : '%';
  return row.text[dialect].replace(/%[dDsSiqoaj]/g, (token) => {
    switch (token) {
      case '%d':
        return `${prefix}r${dst}`;
      case '%D':
        return `w${dst}`;
      case '%s':
        return `${prefix}r${src}`;
      case '%S':
        return `w${src}`;
      case '%i':
        return String(imm);
      case '%q':
        return `0x${value.toString(16)}`;
      case '%a':
        return addressText(instruction, data);
      case '%o':
        if (dialect === 'kernel') return signed(off).replace(/[+-]/, ' $& ');
        return off === 0 ? '' : signed(off);
      default:
        return signed(row.off === 'jump' ? off : imm);
    }
  });
}

/** Names come from objects and may hold anything, ends of lines too. */
function addressText(instruction: Instruction, data: readonly DataSection[]): string {
  const { section, offset } = addressed(instruction);
  return `${data[section]!.name.replace(/[^\w.$-]/g, '_')}[${offset}]`;
}

const signed = (number: number): string => (number < 0 ? String(number) : `+${number}`);
