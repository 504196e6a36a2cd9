// Loops with a format's own vector code inside of them. Each does the records whose loads stay inside of the buffer, or the
// keys that need no explanation, and then goes on to the loop around the record routine (loops.ts) with what is left.

import { BKEY_BYTES, BKEY_U64S, FORMAT_CURRENT } from '../../format/bkey.js';
import { STREAM_END } from '../../format/stream.js';
import type { Lifted } from '../lift.js';
import { type BulkCode, STREAM_STATE, STRIDE_STATE, type Tier } from '../target.js';
import { CALLEE_SAVED, move, pop, push } from './abi.js';
import { Assembler } from './assemble.js';
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
  type Register,
  RSI,
  register,
} from './operands.js';
import { codeWithConstants } from './own-code.js';
import { planRecord, type RecordPlan, VBMI_BYTES } from './record-plan.js';
import { copyKey, type Place, VectorRecord } from './vector-record.js';

/** Of a key's header. */
const LENGTH_BITS = 0xff;
export const FORMAT_BITS = 0x7f00;

const at =
  (base: number): Place =>
  (bits, offset) =>
    memory(bits, base, offset);

/**
 * `u64 loop(u64 *state, void *entry, u8 *dst, const u8 *src, void *rest)`: unpacks state.fast records, and state.count more by
 * `rest(entry, dst, src, count, srcStride, dstStride)`. state: STRIDE_STATE. Reads `overread` bytes behind each of the first.
 * @returns undefined for records that do not lend themselves to it
 */
export function vectorStrideLoop(lifted: Lifted, tier: Tier = 'avx2'): BulkCode | undefined {
  const plan = planRecord(lifted, tier, Math.max(lifted.input.bytes, VBMI_BYTES));
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
  return { code: codeWithConstants(asm, 'vector stride loop'), overread: overreadOf(plan, lifted) };
}

const overreadOf = ({ reach }: RecordPlan, { input }: Lifted): number => Math.max(0, reach - input.bytes);

/**
 * `u64 loop(u64 *state, void *entry, u8 *dst, const u8 *keys, u32 *offsets, void *rest)`: a key-stream loop as in loops.ts.
 * At a key that is malformed or past the end it goes on to `rest`, the loop there, which says so.
 * state.count is at most state.most.
 * @returns undefined for records that do not lend themselves to it
 */
export function vectorStreamLoop(lifted: Lifted, tier: Tier = 'avx2'): BulkCode | undefined {
  const plan = planRecord(lifted, tier);
  if (!plan || plan.reach > lifted.input.bytes || plan.outputBytes !== BKEY_BYTES) return undefined;
  const asm = new Assembler();
  const keyU64s = lifted.input.bytes / 8;
  const [state, dst, keys, first, rest] = [RDI, RDX, RCX, R8, R9];
  const [header, length, ignored, constants] = [RAX, RBX, RBP, R11];
  const [here, next, end, offsets, last] = [R12, R10, R13, R14, R15];
  const word = (name: keyof typeof STREAM_STATE) => memory(64, state, STREAM_STATE[name] * 8);
  const source: Place = (bits, by) => new Memory(bits, register(keys), by, register(here));
  const [each, unpacked, decoded, stop, done, ended] = [
    asm.label(),
    asm.label(),
    asm.label(),
    asm.label(),
    asm.label(),
    asm.label(),
  ];
  const stopIf = (condition: 'a' | 'b' | 'e' | 'ne', a: Register, b: Register | number) => {
    asm.emit('cmp', a, b);
    asm.jump(`j${condition}`, stop);
  };
  const record = new VectorRecord(asm, plan, constants);
  push(asm, CALLEE_SAVED);
  asm.emit('mov', register(here), word('position'));
  asm.emit('mov', register(header), word('count'));
  asm.emit('lea', register(offsets), new Memory(8, register(first), 0, register(header), 4));
  asm.emit('mov', register(header), word('most'));
  asm.emit('lea', register(last), new Memory(8, register(first), 0, register(header), 4));
  asm.emit('cmp', register(offsets), register(last));
  asm.jump('je', done);
  asm.emit('mov', register(end), word('end'));
  asm.emit('sub', register(end), register(here));
  asm.jump('jb', done);
  asm.emit('and', register(end), -8);
  asm.jump('je', done);
  asm.emit('add', register(end), register(here));
  asm.emit('mov', register(ignored, 32), ~(LENGTH_BITS | FORMAT_BITS));
  record.prepare();

  // The walk waits for nothing but one load and one addition a key. All that is checked comes from another load of the
  // header, which may change under our hands, and the first has to agree with it.
  asm.bind(each);
  asm.emit('movzx', register(length, 32), source(8, 0));
  asm.emit('andn', register(header, 32), register(ignored, 32), source(32, 0));
  asm.emit('lea', register(next), new Memory(8, register(here), 0, register(length), 8));
  asm.emit('cmp', register(header, 32), register(length, 32));
  asm.jump('jne', unpacked);
  stopIf('b', register(length, 32), keyU64s);
  stopIf('a', register(next), register(end));
  record.emit(source, at(dst));
  asm.bind(decoded);
  asm.emit('mov', memory(32, offsets), register(here, 32));
  move(asm, here, next);
  asm.emit('add', register(dst), BKEY_BYTES);
  asm.emit('add', register(offsets), 4);
  stopIf('e', register(offsets), register(last));
  asm.emit('cmp', register(next), register(end));
  asm.jump('jb', each);
  asm.jump('jmp', stop);

  asm.bind(unpacked);
  asm.emit('sub', register(header, 32), FORMAT_CURRENT << 8);
  stopIf('ne', register(header, 32), register(length, 32));
  stopIf('b', register(length, 32), BKEY_U64S);
  stopIf('a', register(next), register(end));
  copyKey(asm, source, at(dst));
  asm.jump('jmp', decoded);

  asm.bind(stop);
  asm.emit('vzeroupper');
  asm.bind(done);
  asm.emit('mov', word('position'), register(here));
  asm.emit('sub', register(offsets), register(first));
  asm.emit('shr', register(offsets), 2);
  asm.emit('mov', word('count'), register(offsets));
  const endedIf = (is: number, most: 'end' | 'most', why: number) => {
    asm.emit('mov', word('ended'), why);
    asm.emit('cmp', register(is), word(most));
    asm.jump('je', ended);
  };
  endedIf(here, 'end', STREAM_END.end);
  endedIf(offsets, 'most', STREAM_END.count);
  pop(asm, CALLEE_SAVED);
  asm.emit('jmp', register(rest));
  asm.bind(ended);
  pop(asm, CALLEE_SAVED);
  asm.emit('ret');
  return { code: codeWithConstants(asm, 'vector stream loop'), overread: 0 };
}
