// One instruction as text, in the dialect of the Linux verifier's log. The words are the table's.

import type { Instruction } from './program.js';

/** `r0 = *(u64 *)(r1 + 8)`, `if w1 s> 5 goto +3`, … */
export function instructionText({ row, dst, src, off, imm, value }: Instruction): string {
  return row.text.replace(/%[dDsSiqoj]/g, (token) => {
    switch (token) {
      case '%d':
        return `r${dst}`;
      case '%D':
        return `w${dst}`;
      case '%s':
        return `r${src}`;
      case '%S':
        return `w${src}`;
      case '%i':
        return String(imm);
      case '%q':
        return `0x${value.toString(16)}`;
      case '%o':
        return off < 0 ? ` - ${-off}` : ` + ${off}`;
      default:
        return distanceText(row.off === 'jump' ? off : imm);
    }
  });
}

const distanceText = (slots: number): string => (slots < 0 ? String(slots) : `+${slots}`);
