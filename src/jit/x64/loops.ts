// The loops around a record routine, the same machine code for every routine. They meet the routine's contract by
// their own checks, given buffers whose lengths the caller has checked.

import { BKEY_BYTES, BKEY_U64S, FORMAT_CURRENT } from '../../format/bkey.js';
import { STREAM_END } from '../../format/stream.js';
import { type MachineCode, STREAM_STATE } from '../target.js';
import { CALLEE_SAVED, move, pop, push } from './abi.js';
import { Assembler } from './assemble.js';
import type { Condition } from './forms.js';
import {
  indexed,
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
  RSI,
  RSP,
  register,
} from './operands.js';
import { ownCode } from './own-code.js';

/** Keeps the registers of the loop's caller, and `pushed`, which leaves the stack aligned for calls. */
function enterLoop(asm: Assembler, pushed: number): void {
  push(asm, [...CALLEE_SAVED, pushed]);
}

function leaveLoop(asm: Assembler): void {
  pop(asm, [...CALLEE_SAVED, RCX]);
  asm.emit('ret');
}

/**
 * `u64 loop(void *entry, u8 *dst, const u8 *src, u64 count, u64 srcStride, u64 dstStride)`: calls
 * `entry(dst + i * dstStride, src + i * srcStride)` for each i below count; returns 0.
 */
export function fixedStrideLoop(): MachineCode {
  const asm = new Assembler();
  const [entry, dst, src, count, srcStride, dstStride] = [RBX, RBP, R12, R13, R14, R15];
  const [next, done] = [asm.label(), asm.label()];
  enterLoop(asm, RAX);
  move(asm, entry, RDI);
  move(asm, dst, RSI);
  move(asm, src, RDX);
  move(asm, count, RCX);
  move(asm, srcStride, R8);
  move(asm, dstStride, R9);
  asm.emit('test', register(count), register(count));
  asm.jump('je', done);
  asm.bind(next);
  move(asm, RDI, dst);
  move(asm, RSI, src);
  asm.emit('call', register(entry));
  asm.emit('add', register(dst), register(dstStride));
  asm.emit('add', register(src), register(srcStride));
  asm.emit('sub', register(count), 1);
  asm.jump('jne', next);
  asm.bind(done);
  asm.emit('xor', register(RAX, 32), register(RAX, 32));
  leaveLoop(asm);
  return ownCode(asm, 'fixed stride loop');
}

const state = (word: number) => memory(64, RBX, word * 8);

/**
 * `u64 loop(u64 *state, void *entry, u8 *dst, const u8 *keys, u32 *offsets)`: walks a bcachefs key stream as
 * `walkKeys` does and returns why it ended, a STREAM_END. Packed keys go through `entry(dst, key)`.
 * state: STREAM_STATE; position is a byte offset in keys, and on a malformed key stays at it; count keys are done.
 * dst: 40 bytes for each key to come; offsets: one entry for each of state.most keys. Reads nothing outside of keys … keys + end.
 */
export function keyStreamLoop(): MachineCode {
  const asm = new Assembler();
  const [count, dst, keys, offsets, position] = [RBP, R12, R13, R14, R15];
  const [reason, length, remaining, least, format] = [RAX, RCX, RDX, RDI, R8];
  const [next, unpacked, decoded, done] = [asm.label(), asm.label(), asm.label(), asm.label()];
  const stopIf = (condition: Condition, why: number) => {
    asm.emit('mov', register(reason, 32), why);
    asm.jump(`j${condition}`, done);
  };
  enterLoop(asm, RSI);
  move(asm, RBX, RDI);
  move(asm, dst, RDX);
  move(asm, keys, RCX);
  move(asm, offsets, R8);
  asm.emit('mov', register(position), state(STREAM_STATE.position));
  asm.emit('mov', register(count), state(STREAM_STATE.count));

  asm.bind(next);
  asm.emit('mov', register(remaining), state(STREAM_STATE.end));
  asm.emit('sub', register(remaining), register(position));
  stopIf('b', STREAM_END.past);
  stopIf('e', STREAM_END.end);
  asm.emit('cmp', register(count), state(STREAM_STATE.most));
  stopIf('ae', STREAM_END.count);
  asm.emit('cmp', register(remaining), 8);
  stopIf('b', STREAM_END.past);
  // One load of the header: the key may change under our hands.
  asm.emit('movzx', register(length, 32), indexed(16, keys, position));
  asm.emit('mov', register(format, 32), register(length, 32));
  asm.emit('shr', register(format, 32), 8);
  asm.emit('and', register(format, 32), 0x7f);
  asm.emit('movzx', register(length, 32), register(length, 8));
  asm.emit('mov', register(least, 32), BKEY_U64S);
  asm.emit('cmp', register(format, 32), FORMAT_CURRENT);
  stopIf('a', STREAM_END.format);
  asm.emit('cmovb', register(least), state(STREAM_STATE.keyU64s));
  asm.emit('cmp', register(length), register(least));
  stopIf('b', STREAM_END.short);
  asm.emit('shl', register(length, 32), 3);
  asm.emit('cmp', register(length), register(remaining));
  stopIf('a', STREAM_END.past);

  asm.emit('mov', indexed(32, offsets, count, 4), register(position, 32));
  asm.emit('lea', register(RSI), indexed(8, keys, position));
  asm.emit('add', register(position), register(length));
  asm.emit('test', register(format, 32), register(format, 32));
  asm.jump('jne', unpacked);
  move(asm, RDI, dst);
  asm.emit('call', memory(64, RSP));
  asm.bind(decoded);
  asm.emit('add', register(dst), BKEY_BYTES);
  asm.emit('add', register(count), 1);
  asm.jump('jmp', next);

  asm.bind(unpacked);
  for (let byte = 0; byte < BKEY_BYTES; byte += 8) {
    asm.emit('mov', register(RAX), memory(64, RSI, byte));
    asm.emit('mov', memory(64, dst, byte), register(RAX));
  }
  asm.jump('jmp', decoded);

  asm.bind(done);
  asm.emit('mov', state(STREAM_STATE.position), register(position));
  asm.emit('mov', state(STREAM_STATE.count), register(count));
  asm.emit('mov', state(STREAM_STATE.ended), register(reason));
  leaveLoop(asm);
  return ownCode(asm, 'key stream loop');
}
