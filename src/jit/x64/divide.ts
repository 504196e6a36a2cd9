// Division and modulo. x86 divides rdx:rax by a register and traps on a zero divisor and on INT_MIN / -1; BPF
// defines both (RFC 9669, section 4.1): x / 0 = 0, x % 0 = x, INT_MIN / -1 = INT_MIN, INT_MIN % -1 = 0.

import type { Instruction } from '../../bpf/program.js';
import { mapped } from './abi.js';
import type { Assembler } from './assemble.js';
import { type Bits, memory, R9, R10, R11, RAX, RDX, type Register, register } from './operands.js';

interface Division {
  readonly bits: Bits;
  readonly signed: boolean;
  readonly modulo: boolean;
}

/** `dst = dst op operand` for div, sdiv, mod and smod of 32 or 64 bits; 32-bit results are zero-extended. */
export function divide(asm: Assembler, instruction: Instruction): void {
  const { row, dst, imm } = instruction;
  const bits = row.bits as Bits;
  const division = { bits, signed: row.op.startsWith('s'), modulo: row.op.endsWith('mod') };
  if (row.source === 'imm' && imm === 0) byZero(asm, division, dst);
  else byDivisor(asm, division, instruction);
}

function byZero(asm: Assembler, { bits, modulo }: Division, dst: number): void {
  if (!modulo) asm.emit('xor', mapped(dst, 32), mapped(dst, 32));
  else if (bits === 32) asm.emit('mov', mapped(dst, 32), mapped(dst, 32));
}

/** Divides rax by r11, rax and rdx being kept in r9 and r10. */
function byDivisor(
  asm: Assembler,
  { bits, signed, modulo }: Division,
  { row, dst, src, imm, value }: Instruction,
): void {
  const divisor = register(R11, bits);
  const to = mapped(dst, bits);
  const result = register(modulo ? RDX : RAX, bits);
  const kept = (
    [
      [RAX, R9],
      [RDX, R10],
    ] as const
  ).filter(([number]) => number !== to.number);
  if (row.source === 'reg') asm.emit('mov', divisor, mapped(src, bits));
  else asm.loadImmediate(R11, BigInt.asUintN(bits, value));
  for (const [number, safe] of kept) asm.emit('mov', register(safe), register(number));
  if (to.number !== RAX) asm.emit('mov', register(RAX, bits), to);
  const traps = row.source === 'reg' || (signed && imm === -1);
  const emit = signed ? signedQuotient : unsignedQuotient;
  emit(asm, bits, modulo, divisor, traps);
  if (to.number !== result.number) asm.emit('mov', to, result);
  for (const [number, safe] of kept) asm.emit('mov', register(number), register(safe));
}

/** rax / divisor to rax, or rax % divisor to rdx; `traps`: the divisor may be 0. */
function unsignedQuotient(
  asm: Assembler,
  bits: Bits,
  modulo: boolean,
  divisor: Register,
  traps: boolean,
): void {
  const [low, high] = [register(RAX, bits), register(RDX, bits)];
  const divide = () => asm.emit('div', divisor);
  asm.emit('xor', register(RDX, 32), register(RDX, 32));
  if (traps) {
    asm.emit('test', divisor, divisor);
    branch(asm, 'je', {
      // The result is what the other register holds: for a division 0, for a modulo the dividend.
      taken: () => (modulo ? asm.emit('mov', high, low) : asm.emit('mov', low, high)),
      otherwise: divide,
    });
  } else {
    divide();
  }
}

/** The same, signed; `traps`: the divisor may be 0 or -1. */
function signedQuotient(
  asm: Assembler,
  bits: Bits,
  modulo: boolean,
  divisor: Register,
  traps: boolean,
): void {
  const high = register(RDX, bits);
  const divide = () => {
    asm.emit(bits === 64 ? 'cqo' : 'cdq');
    asm.emit('idiv', divisor);
  };
  if (traps) {
    // Only 0 and -1 are at most 1, unsigned, when 1 is added.
    asm.emit('lea', high, memory(64, divisor.number, 1));
    asm.emit('cmp', high, 1);
    branch(asm, 'jbe', { taken: () => byMask(asm, bits, modulo, divisor), otherwise: divide });
  } else {
    divide();
  }
}

/** By a divisor of 0 or -1, taken as a mask: x / d = -x & d, x % d = x & ~d. */
function byMask(asm: Assembler, bits: Bits, modulo: boolean, divisor: Register): void {
  const [low, high] = [register(RAX, bits), register(RDX, bits)];
  if (modulo) {
    asm.emit('mov', high, divisor);
    asm.emit('not', high);
    asm.emit('and', high, low);
  } else {
    asm.emit('neg', low);
    asm.emit('and', low, divisor);
  }
}

function branch(
  asm: Assembler,
  jump: 'je' | 'jbe',
  { taken, otherwise }: { taken: () => void; otherwise: () => void },
): void {
  const [target, done] = [asm.label(), asm.label()];
  asm.jump(jump, target);
  otherwise();
  asm.jump('jmp', done);
  asm.bind(target);
  taken();
  asm.bind(done);
}
