// One routine for all formats: what it does is in a table of constants, of which every use is one of data. What it reads and writes are the
// bytes that two masks name, which come from the lengths of the format and not from the table.
//
//   vmovdqu8{k}  the record, as far as it goes
//   vpermb, vpmultishiftqb   for each term eight bits of eight bytes of the record, for each byte
//   vpternlogq   of these the bits that are wanted; terms share none
//   vpaddq …     sums, in elements that no carry leaves
//   vpermb       where the bytes belong
//   vmovdqu8{k}  the unpacked record

import { BKEY_BYTES, BKEY_U64S, FORMAT_CURRENT } from '../../format/bkey.js';
import {
  type MachineCode,
  STREAM_STATE,
  TABLE_ROW_BYTES,
  TABLE_ROWS,
  TABLE_STATE,
  TABLE_TERMS,
} from '../target.js';
import { CALLEE_SAVED, move, pop, push } from './abi.js';
import { Assembler } from './assemble.js';
import {
  Masked,
  MaskedMemory,
  MaskRegister,
  Memory,
  memory,
  R8,
  R9,
  R10,
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
  vector,
} from './operands.js';
import { ownCode } from './own-code.js';
import { copyKey } from './vector-record.js';

/** Which tables a routine is for: those of two terms that add in 64 bits only, or any. */
export type TableKind = keyof typeof TABLE_TERMS;

const [READS, WRITES] = [1, 2];
const ARGUMENTS = [RDI, RSI, RDX, RCX, R8, R9];
/** Behind the registers that a record is put together in. */
const FIRST_ROW = 1 + TABLE_TERMS.any;
const zmm = (number: number): Register => vector(number, 512);
const row = (number: number): Register => zmm(FIRST_ROW + number);
const word = (number: number) => memory(64, RDI, number * 8);

/**
 * `u64 run(u64 *state, const u8 *table)`: calls state.target with the rows of the table in registers, where the routines below have
 * them. state: TABLE_STATE.
 */
export function tableRun(): MachineCode {
  const asm = new Assembler();
  asm.emit('push', register(RDI));
  asm.emit('kmovq', new MaskRegister(READS), word(TABLE_STATE.reads));
  asm.emit('kmovq', new MaskRegister(WRITES), word(TABLE_STATE.writes));
  for (let i = 0; i < TABLE_ROWS.count; i++)
    asm.emit('vmovdqu64', row(i), memory(512, RSI, i * TABLE_ROW_BYTES));
  asm.emit('mov', register(RAX), word(TABLE_STATE.target));
  for (const [i, argument] of [...ARGUMENTS.entries()].reverse())
    asm.emit('mov', register(argument), word(TABLE_STATE.args + i));
  asm.emit('call', register(RAX));
  asm.emit('vzeroupper');
  asm.emit('pop', register(RDI));
  asm.emit('ret');
  return ownCode(asm, 'table');
}

/** `void f(u8 *dst, const u8 *src)`: a record. */
export function tableRecord(kind: TableKind): MachineCode {
  const asm = new Assembler();
  emitRecord(asm, kind, memory(512, RDI), memory(512, RSI));
  asm.emit('ret');
  return ownCode(asm, `table record, ${kind}`);
}

/** `void f(u8 *dst, const u8 *src, u64 count, u64 srcStride, u64 dstStride)`: at least one record. */
export function tableStride(kind: TableKind): MachineCode {
  const asm = new Assembler();
  const next = asm.label();
  asm.bind(next);
  emitRecord(asm, kind, memory(512, RDI), memory(512, RSI));
  asm.emit('add', register(RSI), register(RCX));
  asm.emit('add', register(RDI), register(R8));
  asm.emit('sub', register(RDX), 1);
  asm.jump('jne', next);
  asm.emit('ret');
  return ownCode(asm, `table stride, ${kind}`);
}

/**
 * `u64 loop(u64 *state, void *entry, u8 *dst, const u8 *keys, u32 *offsets, void *rest)`: a key-stream loop as in loops.ts, with the
 * record inside. At the first key that is malformed, past the end or one too many it goes on to `rest`, the loop there, which says so.
 */
export function tableStream(kind: TableKind): MachineCode {
  const asm = new Assembler();
  const [state, dst, keys, offsets, rest] = [RDI, RDX, RCX, R8, R9];
  const [header, length, least, next] = [RAX, RBX, RBP, R10];
  const [here, end, offset, last] = [R12, R13, R14, R15];
  const [each, unpacked, decoded, stop] = [asm.label(), asm.label(), asm.label(), asm.label()];
  const stateWord = (name: keyof typeof STREAM_STATE) => memory(64, state, STREAM_STATE[name] * 8);
  const at = (bits: 32 | 64 | 128 | 512, by: number) => new Memory(bits, register(keys), by, register(here));
  const stopIf = (condition: 'a' | 'ae' | 'b' | 'ne', a: Register, b: Register | number) => {
    asm.emit('cmp', a, b);
    asm.jump(`j${condition}`, stop);
  };
  push(asm, CALLEE_SAVED);
  asm.emit('mov', register(here), stateWord('position'));
  asm.emit('mov', register(end), stateWord('end'));
  asm.emit('mov', register(least), stateWord('keyU64s'));
  asm.emit('mov', register(header), stateWord('count'));
  asm.emit('lea', register(offset), new Memory(8, register(offsets), 0, register(header), 4));
  asm.emit('mov', register(header), stateWord('most'));
  asm.emit('lea', register(last), new Memory(8, register(offsets), 0, register(header), 4));
  // So that there are whole words only.
  asm.emit('sub', register(end), register(here));
  asm.jump('jb', stop);
  asm.emit('and', register(end), -8);
  asm.emit('add', register(end), register(here));

  // Everything about the key comes from one load of its header, which may change under our hands.
  asm.bind(each);
  stopIf('ae', register(here), register(end));
  stopIf('ae', register(offset), register(last));
  asm.emit('mov', register(header, 32), at(32, 0));
  asm.emit('movzx', register(length, 32), register(header, 8));
  asm.emit('lea', register(next), new Memory(8, register(here), 0, register(length), 8));
  stopIf('a', register(next), register(end));
  asm.emit('and', register(header, 32), FORMAT_BITS);
  asm.jump('jne', unpacked);
  stopIf('b', register(length), register(least));
  emitRecord(asm, kind, memory(512, dst), at(512, 0));
  asm.bind(decoded);
  asm.emit('mov', memory(32, offset), register(here, 32));
  asm.emit('add', register(offset), 4);
  asm.emit('add', register(dst), BKEY_BYTES);
  move(asm, here, next);
  asm.jump('jmp', each);

  asm.bind(unpacked);
  stopIf('ne', register(header, 32), FORMAT_CURRENT << 8);
  stopIf('b', register(length, 32), BKEY_U64S);
  copyKey(
    asm,
    (bits, by) => at(bits as 64 | 128, by),
    (bits, by) => memory(bits, dst, by),
  );
  asm.jump('jmp', decoded);

  asm.bind(stop);
  asm.emit('mov', stateWord('position'), register(here));
  asm.emit('sub', register(offset), register(offsets));
  asm.emit('shr', register(offset), 2);
  asm.emit('mov', stateWord('count'), register(offset));
  pop(asm, CALLEE_SAVED);
  asm.emit('jmp', register(rest));
  return ownCode(asm, `table stream, ${kind}`);
}

/** Of a key's header: which format it has. */
const FORMAT_BITS = 0x7f00;

/** (a and b) xor c, of a, b and c. */
const AND_XOR = 0x6a;

function emitRecord(asm: Assembler, kind: TableKind, dst: Memory, src: Memory): void {
  const record = zmm(0);
  const terms = Array.from({ length: TABLE_TERMS[kind] }, (_, i) => zmm(1 + i));
  asm.emit('vmovdqu8', new Masked(record, READS, 'clear'), src);
  terms.forEach((term, i) => {
    asm.emit('vpermb', term, row(TABLE_ROWS.term(i)), record);
    asm.emit('vpmultishiftqb', term, row(TABLE_ROWS.term(i) + 1), term);
  });
  let value = row(TABLE_ROWS.flip);
  for (const [i, term] of [...terms.entries()].reverse()) {
    asm.emit('vpternlogq', term, row(TABLE_ROWS.term(i) + 2), value, AND_XOR);
    value = term;
  }
  asm.emit('vpaddq', value, value, row(TABLE_ROWS.add[8]));
  if (kind === 'any') {
    asm.emit('vpaddd', value, value, row(TABLE_ROWS.add[4]));
    asm.emit('vpaddw', value, value, row(TABLE_ROWS.add[2]));
    asm.emit('vpaddb', value, value, row(TABLE_ROWS.add[1]));
    asm.emit('vpandq', value, value, row(TABLE_ROWS.keep));
  }
  asm.emit('vpermb', value, row(TABLE_ROWS.out), value);
  asm.emit('vmovdqu8', new MaskedMemory(dst, WRITES), value);
}
