// Format to BPF: r1 = unpacked record, r2 = packed record, r0 = 0 at exit. Straight-line code; no load touches
// a byte outside the packed record, and every byte of the unpacked record is stored once.
//
// The unpacked record is cut into pieces that no writer (field or constant) crosses. A piece whose writers only
// copy bits over one distance, or are constants, is plain: neighbours of that kind join, and are stored in words
// as wide as there is room for, whatever the fields' borders. Any other piece is computed field by field.

import { requireFormat } from '../format/define.js';
import { type Field, type Format, firstBit, SIZES, type Size } from '../format/model.js';
import { Builder } from './build.js';
import { fetchBits, fetchWord } from './fetch.js';
import { SIZE_LETTER } from './isa.js';
import type { Program } from './program.js';

const DST = 1;
const ACC = 0;
const VALUE = 3;
const SPARE = 4;

/** A field or constant as this file sees it: bits [start, end) of the unpacked record, lsb0. */
interface Writer {
  readonly start: number;
  readonly end: number;
  /** Bits of a field that are copied as they are from lsb0 bit `start - distance` of the packed record. */
  readonly distance?: number;
  /** Of those bits, how many from `start` on; the rest are 0. */
  readonly copied?: number;
  /** What a constant, or a field of no bits, writes. */
  readonly constant?: bigint;
  readonly field?: Field;
}

interface Piece {
  readonly start: number; // bytes
  readonly end: number;
  readonly writers: readonly Writer[];
  /** Whether its writers are constants and copies over one distance. */
  readonly plain: boolean;
  readonly distance: number | undefined;
}

/** A word of a piece, and the writers that reach into it. */
interface Word {
  readonly byte: number;
  readonly size: Size;
  readonly writers: readonly Writer[];
  readonly distance: number | undefined;
}

export interface LowerOptions {
  /** Whether plain neighbours are joined and stored together; false keeps the slow twin. Default: true. */
  readonly merge?: boolean;
}

/**
 * Lowers a format to the program that unpacks one record of it: r1 = where the `unpackedBytes` bytes go, r2 = the
 * `packedBytes` bytes, r0 = 0 at exit; it uses r3 and r4, no stack, and proves under `contractFor(format)`.
 * @throws FormatError for what is no format
 */
export function lower(format: Format, options: LowerOptions = {}): Program {
  requireFormat(format);
  const asm = new Builder();
  const pieces = cutPieces(writersOf(format));
  for (const piece of (options?.merge ?? true) ? joinPlain(pieces) : pieces) {
    for (const word of words(piece)) {
      if (piece.plain) storePlain(asm, word, format.packedBytes);
      else storeComputed(asm, word, format.packedBytes);
    }
  }
  return asm.emit('mov64.imm', { dst: 0, imm: 0 }).emit('exit').build();
}

function writersOf(format: Format): Writer[] {
  const span = ({ to }: Pick<Field, 'to'>) => ({ start: firstBit(to), end: firstBit(to) + to.bits });
  const fields = format.fields.map((field): Writer => {
    const { start, end } = span(field);
    if (field.bits === 0) return { start, end, constant: BigInt.asUintN(end - start, field.offset) };
    const at = lowestBit(field);
    if (at === undefined || field.offset !== 0n) return { start, end, field };
    if (field.signed && field.bits < end - start) return { start, end, field };
    return { start, end, field, distance: start - at, copied: Math.min(field.bits, end - start) };
  });
  const constants = format.constants.map(({ value, to }): Writer => ({ ...span({ to }), constant: value }));
  return [...fields, ...constants].sort((a, b) => a.start - b.start);
}

/** The lsb0 number of a field's lowest bit; undefined for an msb0 field that is not within one byte. */
function lowestBit({ order, at, bits }: Field): number | undefined {
  if (order === 'lsb0') return at;
  const inByte = at % 8;
  return inByte + bits <= 8 ? at - inByte + (8 - inByte - bits) : undefined;
}

/** Writers that share a byte belong to one piece. */
function cutPieces(writers: readonly Writer[]): Piece[] {
  const pieces: Piece[] = [];
  let group: Writer[] = [];
  let end = 0;
  const close = () => {
    if (group.length > 0) pieces.push(makePiece(group));
    group = [];
  };
  for (const writer of writers) {
    if (writer.start >> 3 >= end) close();
    group.push(writer);
    end = (writer.end + 7) >> 3;
  }
  close();
  return pieces;
}

function makePiece(writers: readonly Writer[]): Piece {
  const distances = new Set(writers.flatMap(({ distance }) => (distance === undefined ? [] : [distance])));
  return {
    start: writers[0]!.start >> 3,
    end: (writers.at(-1)!.end + 7) >> 3,
    writers,
    plain:
      distances.size <= 1 &&
      writers.every((writer) => writer.constant !== undefined || writer.distance !== undefined),
    distance: [...distances][0],
  };
}

function joinPlain(pieces: readonly Piece[]): Piece[] {
  const runs: Piece[][] = [];
  let distance: number | undefined;
  for (const piece of pieces) {
    const run = runs.at(-1);
    const agree = distance === undefined || piece.distance === undefined || distance === piece.distance;
    if (run?.[0]?.plain && piece.plain && agree) {
      run.push(piece);
      distance ??= piece.distance;
    } else {
      runs.push([piece]);
      distance = piece.distance;
    }
  }
  return runs.map((run) => makePiece(run.flatMap(({ writers }) => writers)));
}

/** Cuts a piece into words of 8, 4, 2 and 1 bytes, widest first. */
function* words({ start, end, writers, distance }: Piece): Generator<Word> {
  let from = 0;
  for (let byte = start; byte < end; ) {
    const size = SIZES.findLast((candidate) => byte + candidate <= end)!;
    while (writers[from]!.end <= byte * 8) from++;
    let to = from;
    while (to < writers.length && writers[to]!.start < (byte + size) * 8) to++;
    yield { byte, size, writers: writers.slice(from, to), distance };
    byte += size;
  }
}

const ones = (bits: number): bigint => (1n << BigInt(bits)) - 1n;
const shift = (value: bigint, left: number): bigint =>
  left >= 0 ? value << BigInt(left) : value >> BigInt(-left);

/** One word of copied bits and constants. */
function storePlain(asm: Builder, { byte, size, writers, distance }: Word, packedBytes: number): void {
  const first = byte * 8;
  const bits = size * 8;
  let mask = 0n;
  let constant = 0n;
  for (const writer of writers) {
    if (writer.constant !== undefined) constant |= shift(writer.constant, writer.start - first);
    else mask |= shift(ones(writer.copied!), writer.start - first);
  }
  mask &= ones(bits);
  constant &= ones(bits);
  if (mask === 0n) {
    storeConstant(asm, byte, size, constant);
    return;
  }
  const source = first - distance!;
  const load = SIZES.find((candidate) => mask <= ones(candidate * 8))!;
  if (source >= 0 && source % 8 === 0 && source / 8 + load <= packedBytes) {
    fetchWord(asm, { size: load, byte: source / 8, into: VALUE });
    if (mask !== ones(load * 8)) andMask(asm, VALUE, mask, bits);
  } else {
    const low = trailingZeros(mask);
    const high = mask.toString(2).length;
    const holes = mask !== (ones(high) ^ ones(low));
    const exact = !holes && high < bits;
    fetchBits(asm, { at: source + low, bits: high - low, exact, packedBytes, into: VALUE, spare: SPARE });
    if (low > 0) asm.emit('lsh64.imm', { dst: VALUE, imm: low });
    if (holes) andMask(asm, VALUE, mask, bits);
  }
  if (constant !== 0n) orConstant(asm, VALUE, constant, bits);
  asm.emit(`stx${SIZE_LETTER[size]}`, { dst: DST, off: byte, src: VALUE });
}

function trailingZeros(value: bigint): number {
  let count = 0;
  while (((value >> BigInt(count)) & 1n) === 0n) count++;
  return count;
}

function storeConstant(asm: Builder, byte: number, size: Size, value: bigint): void {
  const imm = BigInt.asIntN(32, value);
  if (size < 8 || BigInt.asUintN(64, imm) === value) {
    asm.emit(`st${SIZE_LETTER[size]}`, {
      dst: DST,
      off: byte,
      imm: Number(BigInt.asIntN(Math.min(size * 8, 32), value)),
    });
    return;
  }
  asm.constant(VALUE, value).emit('stxdw', { dst: DST, off: byte, src: VALUE });
}

/** register &= mask, where only the low `bits` bits of the register matter. */
function andMask(asm: Builder, register: number, mask: bigint, bits: number): void {
  const imm = Number(BigInt.asIntN(32, mask));
  if (bits <= 32 || mask <= ones(32)) asm.emit('and32.imm', { dst: register, imm });
  else if (BigInt.asUintN(64, BigInt(imm)) === mask) asm.emit('and64.imm', { dst: register, imm });
  else asm.constant(SPARE, mask).emit('and64.reg', { dst: register, src: SPARE });
}

function orConstant(asm: Builder, register: number, value: bigint, bits: number): void {
  const imm = Number(BigInt.asIntN(32, value));
  if (bits <= 32) asm.emit('or32.imm', { dst: register, imm });
  else if (BigInt.asUintN(64, BigInt(imm)) === value) asm.emit('or64.imm', { dst: register, imm });
  else asm.constant(SPARE, value).emit('or64.reg', { dst: register, src: SPARE });
}

/** One word into which fields are computed: each its value, moved to its place; the word is their sum. */
function storeComputed(asm: Builder, { byte, size, writers }: Word, packedBytes: number): void {
  const first = byte * 8;
  const bits = size * 8;
  let constant = 0n;
  let filled = false;
  for (const writer of writers) {
    const left = writer.start - first;
    if (writer.constant !== undefined) {
      constant |= shift(writer.constant, left) & ones(bits);
      continue;
    }
    computeField(asm, filled ? VALUE : ACC, writer.field!, left, bits, packedBytes);
    if (filled) asm.emit('or64.reg', { dst: ACC, src: VALUE });
    filled = true;
  }
  if (!filled) {
    storeConstant(asm, byte, size, constant);
    return;
  }
  if (constant !== 0n) orConstant(asm, ACC, constant, bits);
  asm.emit(`stx${SIZE_LETTER[size]}`, { dst: DST, off: byte, src: ACC });
}

/** into = the field's bits of a word of `wordBits` in which the field begins at bit `left` (before it, if negative). */
function computeField(
  asm: Builder,
  into: number,
  field: Field,
  left: number,
  wordBits: number,
  packedBytes: number,
): void {
  const { bits: width } = field.to;
  // Bits above the field are dropped by the store, if the field reaches the word's end.
  const dropped = left >= 0 && left + width >= wordBits;
  const extends_ = field.signed && field.bits < width;
  const adds = addend(field) !== 0n;
  const exact = extends_ || field.bits < width || (!dropped && !adds);
  const at = lowestBit(field);
  const bits = { bits: field.bits, exact, packedBytes, into, spare: SPARE };
  if (at === undefined) fetchBits(asm, { ...bits, at: field.at, bigEndian: true, signed: extends_ });
  else fetchBits(asm, { ...bits, at, signed: extends_ });
  addOffset(asm, into, field);
  const clean = !adds && !extends_ && field.bits <= width && exact;
  if (!dropped && !clean) maskLow(asm, into, width);
  if (left > 0) asm.emit('lsh64.imm', { dst: into, imm: left });
  else if (left < 0) asm.emit('rsh64.imm', { dst: into, imm: -left });
}

/** The offset modulo the width of its destination, as the signed number nearest 0. */
function addend({ offset, to }: Field): bigint {
  return BigInt.asIntN(to.bits, offset);
}

function addOffset(asm: Builder, into: number, field: Field): void {
  const value = addend(field);
  if (value === 0n) return;
  if (value === BigInt.asIntN(32, value)) {
    asm.emit(field.to.bits <= 32 ? 'add32.imm' : 'add64.imm', { dst: into, imm: Number(value) });
  } else {
    asm.constant(SPARE, BigInt.asUintN(64, value)).emit('add64.reg', { dst: into, src: SPARE });
  }
}

function maskLow(asm: Builder, into: number, bits: number): void {
  if (bits === 64) return;
  if (bits <= 32) asm.emit('and32.imm', { dst: into, imm: Number(BigInt.asIntN(32, ones(bits))) });
  else asm.emit('lsh64.imm', { dst: into, imm: 64 - bits }).emit('rsh64.imm', { dst: into, imm: 64 - bits });
}
