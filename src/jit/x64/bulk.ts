// Loops with a format's own vector code inside of them. Each does the records whose loads stay inside of the buffer, or the
// keys that need no explanation, and then goes on to the loop around the record routine (loops.ts) with what is left.

import { BKEY_BYTES, BKEY_U64S, FORMAT_CURRENT } from '../../format/bkey.js';
import type { Lifted } from '../lift.js';
import { type BulkCode, type MachineCode, makeCode, STREAM_STATE, STRIDE_STATE } from '../target.js';
import { CALLEE_SAVED, move, pop, push } from './abi.js';
import { Assembler, CONSTANTS_ALIGNMENT } from './assemble.js';
import {
  Memory,
  memory,
  R8,
  R9,
  R10,
  R11,
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
  register,
} from './operands.js';
import { copyKey, type Place, planRecord, type RecordPlan, VectorRecord } from './vector-record.js';

const at =
  (base: number): Place =>
  (bits, offset) =>
    memory(bits, base, offset);

function finish(asm: Assembler, name: string): MachineCode {
  return makeCode({
    isa: 'x64',
    bytes: asm.finish().bytes,
    offsets: [],
    abi: undefined,
    alignment: CONSTANTS_ALIGNMENT,
    name,
  });
}

/**
 * `u64 loop(u64 *state, void *entry, u8 *dst, const u8 *src, void *rest)`: unpacks state.fast records, and state.count more by
 * `rest(entry, dst, src, count, srcStride, dstStride)`. state: STRIDE_STATE. Reads `overread` bytes behind each of the first.
 * @returns undefined for records that do not lend themselves to it
 */
export function vectorStrideLoop(lifted: Lifted): BulkCode | undefined {
  const plan = planRecord(lifted);
  if (!plan) return undefined;
  const asm = new Assembler();
  const [state, entry, dst, src, rest] = [RDI, RSI, RDX, RCX, R8];
  const [stride, fast, constants] = [RAX, R9, R11];
  const [next, done] = [asm.label(), asm.label()];
  const record = new VectorRecord(asm, plan, constants);
  asm.emit('mov', register(fast), memory(64, state, STRIDE_STATE.fast * 8));
  asm.emit('mov', register(stride), memory(64, state, STRIDE_STATE.stride * 8));
  asm.emit('test', register(fast), register(fast));
  asm.jump('je', done);
  record.prepare();
  asm.bind(next);
  record.emit(at(src), at(dst));
  asm.emit('add', register(src), register(stride));
  asm.emit('add', register(dst), plan.outputBytes);
  asm.emit('sub', register(fast), 1);
  asm.jump('jne', next);
  asm.emit('vzeroupper');
  asm.bind(done);
  move(asm, R10, rest);
  move(asm, R8, stride);
  asm.emit('mov', register(R9, 32), plan.outputBytes);
  move(asm, RAX, src);
  asm.emit('mov', register(RCX), memory(64, state, STRIDE_STATE.count * 8));
  move(asm, RDI, entry);
  move(asm, RSI, dst);
  move(asm, RDX, RAX);
  asm.emit('jmp', register(R10));
  return { code: finish(asm, 'vector stride loop'), overread: overreadOf(plan, lifted) };
}

const overreadOf = ({ reach }: RecordPlan, { input }: Lifted): number => Math.max(0, reach - input.bytes);

/**
 * `u64 loop(u64 *state, void *entry, u8 *dst, const u8 *keys, u32 *offsets, void *rest)`: a key-stream loop as in loops.ts.
 * At the first key that is malformed, past the end or one too many it goes on to `rest`, the loop there, which says so.
 * state.count is at most state.most.
 * @returns undefined for records that do not lend themselves to it
 */
export function vectorStreamLoop(lifted: Lifted): BulkCode | undefined {
  const plan = planRecord(lifted);
  if (!plan || plan.reach > lifted.input.bytes || plan.outputBytes !== BKEY_BYTES) return undefined;
  const asm = new Assembler();
  const keyU64s = lifted.input.bytes / 8;
  const state = RDI;
  const [header, length, first, dst, constants] = [RAX, RBX, RCX, RDX, R11];
  const [index, words, left, offset, here, offsets] = [R10, RBP, R12, R13, R14, R15];
  const word = (name: keyof typeof STREAM_STATE) => memory(64, state, STREAM_STATE[name] * 8);
  const [next, unpacked, decoded, step, stop, done] = [
    asm.label(),
    asm.label(),
    asm.label(),
    asm.label(),
    asm.label(),
    asm.label(),
  ];
  const record = new VectorRecord(asm, plan, constants);
  push(asm, CALLEE_SAVED);
  for (const number of [RCX, R8, R9]) asm.emit('push', register(number));
  asm.emit('mov', register(offset), word('position'));
  asm.emit('mov', register(words), word('end'));
  asm.emit('mov', register(left), word('most'));
  asm.emit('mov', register(header), word('count'));
  asm.emit('sub', register(left), register(header));
  asm.emit('lea', register(offsets), new Memory(8, register(R8), 0, register(header), 4));
  asm.emit('xor', register(index, 32), register(index, 32));
  asm.emit('sub', register(words), register(offset));
  asm.jump('jb', done);
  asm.emit('add', register(first), register(offset));
  asm.emit('shr', register(words), 3);
  asm.jump('je', done);
  asm.emit('test', register(left), register(left));
  asm.jump('je', done);
  record.prepare();

  // Everything about the key comes from one load of its header, which may change under our hands.
  asm.bind(next);
  asm.emit('mov', register(header, 32), new Memory(32, register(first), 0, register(index), 8));
  asm.emit('movzx', register(length, 32), register(header, 8));
  move(asm, here, index);
  asm.emit('add', register(index), register(length));
  asm.emit('test', register(header, 32), 0x7f00);
  asm.jump('jne', unpacked);
  asm.emit('cmp', register(length, 32), keyU64s);
  asm.jump('jb', stop);
  asm.emit('cmp', register(index), register(words));
  asm.jump('ja', stop);
  record.emit((bits, by) => new Memory(bits, register(first), by, register(here), 8), at(dst));
  asm.bind(decoded);
  asm.emit('lea', register(header, 32), new Memory(8, register(offset), 0, register(here), 8));
  asm.emit('mov', memory(32, offsets), register(header, 32));
  asm.emit('add', register(offsets), 4);
  asm.emit('add', register(dst), BKEY_BYTES);
  asm.emit('sub', register(left), 1);
  asm.jump('je', step);
  asm.emit('cmp', register(index), register(words));
  asm.jump('jb', next);
  asm.jump('jmp', step);

  asm.bind(unpacked);
  asm.emit('and', register(header, 32), 0x7f00);
  asm.emit('cmp', register(header, 32), FORMAT_CURRENT << 8);
  asm.jump('jne', stop);
  asm.emit('cmp', register(length, 32), BKEY_U64S);
  asm.jump('jb', stop);
  asm.emit('cmp', register(index), register(words));
  asm.jump('ja', stop);
  copyKey(asm, (bits, by) => new Memory(bits, register(first), by, register(here), 8), at(dst));
  asm.jump('jmp', decoded);

  asm.bind(stop);
  move(asm, index, here);
  asm.bind(step);
  asm.emit('vzeroupper');
  asm.bind(done);
  asm.emit('lea', register(offset), new Memory(8, register(offset), 0, register(index), 8));
  asm.emit('mov', word('position'), register(offset));
  asm.emit('mov', register(RAX), word('most'));
  asm.emit('sub', register(RAX), register(left));
  asm.emit('mov', word('count'), register(RAX));
  for (const number of [RAX, R8, RCX]) asm.emit('pop', register(number));
  pop(asm, CALLEE_SAVED);
  asm.emit('jmp', register(RAX));
  return { code: finish(asm, 'vector stream loop'), overread: 0 };
}
