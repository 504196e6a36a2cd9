// What the C library calls when a thread ends: it unmaps memory, and itself last.

import type { MachineCode } from '../target.js';
import { move, pop, push } from './abi.js';
import { Assembler } from './assemble.js';
import { memory, R12, R13, RAX, RBX, RDI, RSI, register } from './operands.js';
import { ownCode } from './own-code.js';

const PAIR = 16;

/**
 * `void exit(u64 *list)`: unmaps `count` pieces of memory, address and length of each in the list, but for those of no length; then, by
 * a jump that does not come back here, the piece behind them.
 * @param munmap where the function of the C library is
 */
export function unmapAtExit(munmap: bigint, count: number): MachineCode {
  const asm = new Assembler();
  const [next, skip] = [asm.label(), asm.label()];
  const saved = [RBX, R12, R13];
  const loadPair = () => {
    asm.emit('mov', register(RDI), memory(64, RBX));
    asm.emit('mov', register(RSI), memory(64, RBX, 8));
  };
  push(asm, saved);
  move(asm, RBX, RDI);
  asm.emit('mov', register(R12, 32), count);
  asm.loadImmediate(R13, munmap);
  asm.bind(next);
  loadPair();
  asm.emit('test', register(RSI), register(RSI));
  asm.jump('je', skip);
  asm.emit('call', register(R13));
  asm.bind(skip);
  asm.emit('add', register(RBX), PAIR);
  asm.emit('sub', register(R12, 32), 1);
  asm.jump('jne', next);
  loadPair();
  move(asm, RAX, R13);
  pop(asm, saved);
  asm.emit('jmp', register(RAX));
  return ownCode(asm, 'unmap at exit');
}
