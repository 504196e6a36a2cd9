// One routine for all formats: what it does is in a table of constants, of which every use is one of data. What it reads and writes are the
// bytes that two masks name, which come from the lengths of the format and not from the table.
//
//   vmovdqu8{k}  the record, as far as it goes
//   vpermb, vpmultishiftqb   for each term eight bits of eight bytes of the record, for each byte
//   vpternlogq   of these the bits that are wanted; terms share none
//   vpaddq …     sums, in elements that no carry leaves
//   vpermb       where the bytes belong
//   vmovdqu8{k}  the unpacked record

import {
  type MachineCode,
  makeCode,
  TABLE_ROW_BYTES,
  TABLE_ROWS,
  TABLE_STATE,
  TABLE_TERMS,
} from '../target.js';
import { Assembler } from './assemble.js';
import {
  Masked,
  MaskedMemory,
  MaskRegister,
  memory,
  R8,
  R9,
  RAX,
  RCX,
  RDI,
  RDX,
  type Register,
  RSI,
  register,
  vector,
} from './operands.js';

/** Which tables a routine is for: those of two terms that add in 64 bits only, or any. */
export type TableKind = keyof typeof TABLE_TERMS;

const [READS, WRITES] = [1, 2];
const ARGUMENTS = [RDI, RSI, RDX, RCX, R8, R9];
/** Behind the registers that a record is put together in. */
const FIRST_ROW = 1 + TABLE_TERMS.any;
const zmm = (number: number): Register => vector(number, 512);
const row = (number: number): Register => zmm(FIRST_ROW + number);
const word = (number: number) => memory(64, RDI, number * 8);

function finish(asm: Assembler, name: string): MachineCode {
  return makeCode({ isa: 'x64', bytes: asm.finish().bytes, offsets: [], abi: undefined, name });
}

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
  return finish(asm, 'table');
}

/** `void f(u8 *dst, const u8 *src)`: a record. */
export function tableRecord(kind: TableKind): MachineCode {
  const asm = new Assembler();
  emitRecord(asm, kind, RDI, RSI);
  asm.emit('ret');
  return finish(asm, `table record, ${kind}`);
}

/** `void f(u8 *dst, const u8 *src, u64 count, u64 srcStride, u64 dstStride)`: at least one record. */
export function tableStride(kind: TableKind): MachineCode {
  const asm = new Assembler();
  const next = asm.label();
  asm.bind(next);
  emitRecord(asm, kind, RDI, RSI);
  asm.emit('add', register(RSI), register(RCX));
  asm.emit('add', register(RDI), register(R8));
  asm.emit('sub', register(RDX), 1);
  asm.jump('jne', next);
  asm.emit('ret');
  return finish(asm, `table stride, ${kind}`);
}

/** (a and b) xor c, of a, b and c. */
const AND_XOR = 0x6a;

function emitRecord(asm: Assembler, kind: TableKind, dst: number, src: number): void {
  const record = zmm(0);
  const terms = Array.from({ length: TABLE_TERMS[kind] }, (_, i) => zmm(1 + i));
  asm.emit('vmovdqu8', new Masked(record, READS, 'clear'), memory(512, src));
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
  asm.emit('vmovdqu8', new MaskedMemory(memory(512, dst), WRITES), value);
}
