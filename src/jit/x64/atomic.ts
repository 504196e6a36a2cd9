// Atomic operations. A naturally aligned load is an acquire and a store a release on this machine, and a locked
// instruction is sequentially consistent, as RFC 9669 (section 5.3) wants.

import type { Instruction } from '../../bpf/program.js';
import { mapped } from './abi.js';
import type { Assembler } from './assemble.js';
import { type Bits, memory, R9, R10, RAX, register } from './operands.js';

/** Operations that x86 has as one instruction. */
const DIRECT: Readonly<Record<string, string>> = {
  add: 'lock add',
  or: 'lock or',
  and: 'lock and',
  xor: 'lock xor',
  fetch_add: 'lock xadd',
  xchg: 'xchg',
};

export function atomic(asm: Assembler, instruction: Instruction): void {
  const { row, dst, src, off } = instruction;
  const bits = row.bits as Bits;
  const cell = memory(bits, mapped(dst).number, off);
  const direct = DIRECT[row.op];
  if (direct) {
    asm.emit(direct, cell, mapped(src, bits));
  } else if (row.op === 'cmpxchg') {
    asm.emit('lock cmpxchg', cell, mapped(src, bits));
    // eax is not written, so not zero-extended, when the exchange takes place.
    if (bits === 32) asm.emit('mov', register(RAX, 32), register(RAX, 32));
  } else {
    fetchByLoop(asm, instruction);
  }
}

/** `src = *(dst + off); *(dst + off) op= src` for and, or, xor: tried until nobody came between load and store. */
function fetchByLoop(asm: Assembler, { row, dst, src, off }: Instruction): void {
  const bits = row.bits as Bits;
  const operation = row.op.replace('fetch_', '');
  // The loop needs rax for itself; r0 is in r9 meanwhile, whatever its part in the operation.
  const [r0, changed] = [register(R9), register(R10, bits)];
  const meanwhile = (bpf: number): number => (mapped(bpf).number === RAX ? R9 : mapped(bpf).number);
  const cell = memory(bits, meanwhile(dst), off);
  const old = register(RAX, bits);
  const again = asm.label();
  asm.emit('mov', r0, register(RAX));
  asm.emit('mov', old, cell);
  asm.bind(again);
  asm.emit('mov', changed, old);
  asm.emit(operation, changed, register(meanwhile(src), bits));
  asm.emit('lock cmpxchg', cell, changed);
  asm.jump('jne', again);
  if (mapped(src).number === RAX) return;
  asm.emit('mov', mapped(src, bits), old);
  asm.emit('mov', register(RAX), r0);
}
