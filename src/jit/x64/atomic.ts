// Atomic operations. A naturally aligned load is an acquire and a store a release on this machine, and a locked
// instruction is sequentially consistent, as RFC 9669 (section 5.3) wants.

import type { Instruction } from '../../bpf/program.js';
import { mapped } from './abi.js';
import { load, store } from './access.js';
import type { Assembler } from './assemble.js';
import { type Bits, type Memory, memory, R9, R10, RAX, type Register, register } from './operands.js';

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
  switch (instruction.row.op) {
    case 'load_acquire':
      load(asm, instruction);
      break;
    case 'store_release':
      store(asm, instruction);
      break;
    case 'cmpxchg':
      compareExchange(asm, instruction);
      break;
    case 'fetch_or':
    case 'fetch_and':
    case 'fetch_xor':
      fetchByLoop(asm, instruction);
      break;
    default:
      asm.emit(DIRECT[instruction.row.op]!, cellOf(instruction), operandOf(instruction));
  }
}

const cellOf = ({ row, dst, off }: Instruction): Memory => memory(row.bits as Bits, mapped(dst).number, off);
const operandOf = ({ row, src }: Instruction): Register => mapped(src, row.bits as Bits);

/** r0 is rax, which is where the machine wants what it compares with, and where it leaves what it found. */
function compareExchange(asm: Assembler, instruction: Instruction): void {
  asm.emit('lock cmpxchg', cellOf(instruction), operandOf(instruction));
  // eax is not written, so not zero-extended, when the exchange takes place.
  if (instruction.row.bits === 32) asm.emit('mov', register(RAX, 32), register(RAX, 32));
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
