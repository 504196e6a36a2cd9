// Arithmetic and byte swaps. An instruction of 32 bits zero-extends its result on x86 as in BPF.

import type { Instruction } from '../../bpf/program.js';
import type { RegisterFact } from '../../verifier/invariants.js';
import { mapped } from './abi.js';
import type { Assembler } from './assemble.js';
import { divide } from './divide.js';
import { type Bits, R11, RCX, register } from './operands.js';

type Lower = (asm: Assembler, instruction: Instruction, operand?: RegisterFact) => void;

const ALU: Readonly<Record<string, Lower>> = {
  mov,
  add: binary('add'),
  sub: binary('sub'),
  or: binary('or'),
  and,
  xor: binary('xor'),
  mul,
  div: divide,
  sdiv: divide,
  mod: divide,
  smod: divide,
  neg: (asm, { row, dst }) => asm.emit('neg', mapped(dst, row.bits as Bits)),
  lsh: shift('shl'),
  rsh: shift('shr'),
  arsh: shift('sar'),
};

/** @param operand what was proven of the register that `src` names */
export function alu(asm: Assembler, instruction: Instruction, operand?: RegisterFact): void {
  ALU[instruction.row.op]!(asm, instruction, operand);
}

function mov(asm: Assembler, { row, dst, src, value }: Instruction): void {
  const bits = row.bits as Bits;
  if (row.source === 'imm') asm.loadImmediate(mapped(dst).number, BigInt.asUintN(bits, value));
  else if (row.signExtend === 32) asm.emit('movsxd', mapped(dst), mapped(src, 32));
  else if (row.signExtend > 0) asm.emit('movsx', mapped(dst, bits), mapped(src, row.signExtend as Bits));
  else if (bits === 32 || dst !== src) asm.emit('mov', mapped(dst, bits), mapped(src, bits));
}

function binary(mnemonic: string): Lower {
  return (asm, { row, dst, src, imm }) => {
    const bits = row.bits as Bits;
    asm.emit(mnemonic, mapped(dst, bits), row.source === 'imm' ? imm : mapped(src, bits));
  };
}

function and(asm: Assembler, instruction: Instruction): void {
  const { row, dst, imm } = instruction;
  const to = mapped(dst, 32);
  if (row.source === 'reg' || imm < 0) binary('and')(asm, instruction);
  else if (imm === 0xff) asm.emit('movzx', to, mapped(dst, 8));
  else if (imm === 0xffff) asm.emit('movzx', to, mapped(dst, 16));
  else asm.emit('and', to, imm);
}

function mul(asm: Assembler, { row, dst, src, imm }: Instruction): void {
  const to = mapped(dst, row.bits as Bits);
  if (row.source === 'imm') asm.emit('imul', to, to, imm);
  else asm.emit('imul', to, mapped(src, row.bits as Bits));
}

function shift(mnemonic: string): Lower {
  return (asm, { row, dst, src, imm }) => {
    const bits = row.bits as Bits;
    if (row.source === 'imm') shiftByImmediate(asm, mnemonic, dst, bits, imm & (bits - 1));
    else shiftByRegister(asm, mnemonic, dst, src, bits);
  };
}

function shiftByImmediate(asm: Assembler, mnemonic: string, dst: number, bits: Bits, count: number): void {
  if (count > 0) asm.emit(mnemonic, mapped(dst, bits), count);
  else if (bits === 32) asm.emit('mov', mapped(dst, 32), mapped(dst, 32));
}

/** The count must be in cl; the machine masks it to 63 or 31, as BPF does. */
function shiftByRegister(asm: Assembler, mnemonic: string, dst: number, src: number, bits: Bits): void {
  const [rcx, cl, kept] = [register(RCX), register(RCX, 8), register(R11)];
  const to = mapped(dst, bits);
  if (mapped(src).number === RCX) {
    asm.emit(mnemonic, to, cl);
  } else {
    asm.emit('mov', kept, rcx);
    asm.emit('mov', register(RCX, 32), mapped(src, 32));
    asm.emit(mnemonic, to.number === RCX ? register(R11, bits) : to, cl);
    asm.emit('mov', rcx, kept);
  }
}

/** le truncates on this little-endian machine; be and bswap turn the bytes round. */
export function endian(asm: Assembler, { row, dst }: Instruction): void {
  const { bits } = row;
  const swaps = row.op !== 'le';
  if (bits === 16) {
    if (swaps) asm.emit('rol', mapped(dst, 16), 8);
    asm.emit('movzx', mapped(dst, 32), mapped(dst, 16));
  } else if (swaps) {
    asm.emit('bswap', mapped(dst, bits as Bits));
  } else if (bits === 32) {
    asm.emit('mov', mapped(dst, 32), mapped(dst, 32));
  }
}
