// Where BPF registers live, and how calls cross the System V ABI: arguments in rdi, rsi, rdx, rcx, r8, the result in
// rax. BPF's calling convention fits, so that a leaf that keeps to r0 … r5 needs no frame at all.

import { FIRST_SAVED, FRAME_POINTER, STACK_BYTES } from '../../bpf/isa.js';
import type { Program } from '../../bpf/program.js';
import type { MachineCode } from '../target.js';
import { Assembler } from './assemble.js';
import {
  type Bits,
  memory,
  R8,
  R9,
  R12,
  R13,
  R14,
  R15,
  RAX,
  RBP,
  RBX,
  RCX,
  RDI,
  RDX,
  type Register,
  RSI,
  RSP,
  register,
} from './operands.js';
import { ownCode } from './own-code.js';

/**
 * The x86 register of each BPF register. r12 is left out: as a base it costs a byte; in programs that call helper
 * functions it holds rsp (helper.ts). r9 to r11 are free.
 */
const REGISTER_MAP: readonly number[] = [RAX, RDI, RSI, RDX, RCX, R8, RBX, R13, R14, R15, RBP];

/** BPF register `bpf` as an x86 operand. */
export const mapped = (bpf: number, bits: Bits = 64): Register => register(REGISTER_MAP[bpf]!, bits);

/** What a function of the program has to keep for its caller. */
export interface Frame {
  /** x86 registers that the program changes and its caller relies on. */
  readonly saved: readonly number[];
  /** Whether r10 is used: 512 bytes below it belong to the function. */
  readonly stack: boolean;
}

/** The frame that serves every function of a program: registers are saved only if some instruction names them. */
export function frameOf(program: Program): Frame {
  const used = new Set<number>();
  for (const { row, dst, src } of program.instructions) {
    if (typeof row.dst !== 'number') used.add(dst);
    if (typeof row.src !== 'number') used.add(src);
  }
  const saved = REGISTER_MAP.filter((_, bpf) => bpf >= FIRST_SAVED && bpf < FRAME_POINTER && used.has(bpf));
  return { saved, stack: used.has(FRAME_POINTER) };
}

/** How many registers a frame pushes. */
export const pushedBy = ({ saved, stack }: Frame): number => saved.length + (stack ? 1 : 0);

/** What a function leaves as it found it, besides rsp. */
export const CALLEE_SAVED: readonly number[] = [RBX, RBP, R12, R13, R14, R15];

export const move = (asm: Assembler, to: number, from: number): void =>
  asm.emit('mov', register(to), register(from));

export function push(asm: Assembler, numbers: readonly number[]): void {
  for (const number of numbers) asm.emit('push', register(number));
}

/** Takes back what `push` of the same registers has put on the stack. */
export function pop(asm: Assembler, numbers: readonly number[]): void {
  for (const number of numbers.toReversed()) asm.emit('pop', register(number));
}

export function enterFrame(asm: Assembler, { saved, stack }: Frame): void {
  push(asm, saved);
  if (!stack) return;
  push(asm, [RBP]);
  move(asm, RBP, RSP);
  asm.emit('sub', register(RSP), STACK_BYTES);
}

export function leaveFrame(asm: Assembler, { saved, stack }: Frame): void {
  if (stack) asm.emit('leave');
  pop(asm, saved);
}

/** Leaves a frame from where only what it pushed is on the stack. */
export function popFrame(asm: Assembler, { saved, stack }: Frame): void {
  pop(asm, stack ? [...saved, RBP] : saved);
}

/**
 * `u64 trampoline(void *entry, u64 a1, …, u64 a6)`: calls `entry(a1, …, a6)`, so that one foreign function serves every
 * routine. The seventh argument is on the stack; a caller that gives fewer leaves the last registers to chance.
 */
export function callTrampoline(): MachineCode {
  const asm = new Assembler();
  const path = [RAX, RDI, RSI, RDX, RCX, R8, R9];
  for (let i = 0; i + 1 < path.length; i++) move(asm, path[i]!, path[i + 1]!);
  asm.emit('mov', register(R9), memory(64, RSP, 8));
  asm.emit('jmp', register(RAX));
  return ownCode(asm, 'call trampoline');
}
