// Division and modulo. x86 divides rdx:rax by a register and traps on a zero divisor and on INT_MIN / -1; BPF
// defines both (RFC 9669, section 4.1): x / 0 = 0, x % 0 = x, INT_MIN / -1 = INT_MIN, INT_MIN % -1 = 0.

import type { Instruction } from '../../bpf/program.js';
import type { RegisterFact } from '../../verifier/invariants.js';
import { mapped } from './abi.js';
import type { Assembler } from './assemble.js';
import { type Bits, memory, R9, R10, R11, RAX, RDX, register } from './operands.js';

/** rax by r11: the quotient to rax, or the remainder to rdx. */
interface Division {
  readonly bits: Bits;
  readonly signed: boolean;
  readonly modulo: boolean;
  /** Whether the divisor may be one that the machine traps on: 0 or, if signed, -1. */
  readonly traps: boolean;
}

/**
 * `dst = dst op operand` for div, sdiv, mod and smod of 32 or 64 bits; 32-bit results are zero-extended.
 * @param divisor what was proven of the register to divide by
 */
export function divide(asm: Assembler, instruction: Instruction, divisor?: RegisterFact): void {
  const { row, dst, imm } = instruction;
  const bits = row.bits as Bits;
  const [signed, modulo] = [row.op.startsWith('s'), row.op.endsWith('mod')];
  const traps = row.source === 'reg' ? !isPlain(divisor, bits) : signed && imm === -1;
  if (row.source === 'imm' && imm === 0) byConstantZero(asm, bits, modulo, dst);
  else byDivisor(asm, { bits, signed, modulo, traps }, instruction);
}

/** Whether a divisor is known to be neither 0 nor, read as signed, negative. */
function isPlain(divisor: RegisterFact | undefined, bits: Bits): boolean {
  if (divisor?.kind !== 'number') return false;
  const { min, max } = divisor.unsigned;
  return min > 0n && max < 1n << BigInt(bits - 1);
}

function byConstantZero(asm: Assembler, bits: Bits, modulo: boolean, dst: number): void {
  if (!modulo) asm.emit('xor', mapped(dst, 32), mapped(dst, 32));
  else if (bits === 32) asm.emit('mov', mapped(dst, 32), mapped(dst, 32));
}

/** Divides rax by r11, rax and rdx being kept in r9 and r10. */
function byDivisor(asm: Assembler, division: Division, { row, dst, src, value }: Instruction): void {
  const { bits, modulo } = division;
  const to = mapped(dst, bits);
  const result = register(modulo ? RDX : RAX, bits);
  const kept = (
    [
      [RAX, R9],
      [RDX, R10],
    ] as const
  ).filter(([number]) => number !== to.number);
  if (row.source === 'reg') asm.emit('mov', register(R11, bits), mapped(src, bits));
  else asm.loadImmediate(R11, BigInt.asUintN(bits, value));
  for (const [number, safe] of kept) asm.emit('mov', register(safe), register(number));
  if (to.number !== RAX) asm.emit('mov', register(RAX, bits), to);
  quotient(asm, division);
  if (to.number !== result.number) asm.emit('mov', to, result);
  for (const [number, safe] of kept) asm.emit('mov', register(number), register(safe));
}

function quotient(asm: Assembler, division: Division): void {
  const { signed, traps } = division;
  if (!signed) asm.emit('xor', register(RDX, 32), register(RDX, 32));
  if (!traps) {
    byMachine(asm, division);
    return;
  }
  const [special, done] = [asm.label(), asm.label()];
  asm.jump(compareDivisor(asm, division), special);
  byMachine(asm, division);
  asm.jump('jmp', done);
  asm.bind(special);
  if (signed) byMask(asm, division);
  else byZero(asm, division);
  asm.bind(done);
}

/** Unsigned, rdx is 0 before. */
function byMachine(asm: Assembler, { bits, signed }: Division): void {
  if (signed) asm.emit(bits === 64 ? 'cqo' : 'cdq');
  asm.emit(signed ? 'idiv' : 'div', register(R11, bits));
}

/** The jump that is taken if the machine traps on the divisor. */
function compareDivisor(asm: Assembler, { bits, signed }: Division): 'je' | 'jbe' {
  const [divisor, next] = [register(R11, bits), register(RDX, bits)];
  if (!signed) {
    asm.emit('test', divisor, divisor);
    return 'je';
  }
  // Only 0 and -1 are at most 1, unsigned, when 1 is added.
  asm.emit('lea', next, memory(64, R11, 1));
  asm.emit('cmp', next, 1);
  return 'jbe';
}

/** By 0, unsigned: the result is what the other register holds, for a quotient 0, for a remainder the dividend. */
function byZero(asm: Assembler, { bits, modulo }: Division): void {
  const [low, high] = [register(RAX, bits), register(RDX, bits)];
  if (modulo) asm.emit('mov', high, low);
  else asm.emit('mov', low, high);
}

/** By a divisor of 0 or -1, taken as a mask: x / d = -x & d, x % d = x & ~d. */
function byMask(asm: Assembler, { bits, modulo }: Division): void {
  const [low, high, divisor] = [register(RAX, bits), register(RDX, bits), register(R11, bits)];
  if (modulo) {
    asm.emit('mov', high, divisor);
    asm.emit('not', high);
    asm.emit('and', high, low);
  } else {
    asm.emit('neg', low);
    asm.emit('and', low, divisor);
  }
}
