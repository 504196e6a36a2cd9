// Loads and stores. Unaligned ones are no different to this machine.

import type { Instruction } from '../../bpf/program.js';
import { mapped } from './abi.js';
import type { Assembler } from './assemble.js';
import { type Bits, memory } from './operands.js';

export function load(asm: Assembler, { row, dst, src, off }: Instruction): void {
  const bits = (row.size * 8) as Bits;
  const cell = memory(bits, mapped(src).number, off);
  if (row.signExtend === 32) asm.emit('movsxd', mapped(dst), cell);
  else if (row.signExtend > 0) asm.emit('movsx', mapped(dst), cell);
  else if (bits < 32) asm.emit('movzx', mapped(dst, 32), cell);
  else asm.emit('mov', mapped(dst, bits), cell);
}

export function store(asm: Assembler, { row, dst, src, off, imm }: Instruction): void {
  const bits = (row.size * 8) as Bits;
  const cell = memory(bits, mapped(dst).number, off);
  if (row.source === 'reg') asm.emit('mov', cell, mapped(src, bits));
  else asm.emit('mov', cell, bits < 32 ? imm & (2 ** bits - 1) : imm);
}
