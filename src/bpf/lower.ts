// Format to BPF: r1 = unpacked record, r2 = packed record, r0 = 0 at exit. Straight-line code; no load touches
// a byte outside the packed record, and every byte of the unpacked record is stored once.
//
// The unpacked record is cut into pieces that no writer (field or constant) crosses. A piece whose writers only
// copy bits over one distance, or are constants, is plain: neighbours of that kind join, and are stored in words
// as wide as there is room for, whatever the fields' borders. Any other piece is computed field by field.

import { requireFormat } from '../format/define.js';
import {
  type Destination,
  type Field,
  type Format,
  firstBit,
  largestSize,
  type Size,
  sizeFor,
} from '../format/model.js';
import {
  bitLength,
  type Halves,
  halvesOf,
  isEqual,
  isZero,
  lowestBit,
  onesAt,
  or,
  shiftLeft,
  signExtend,
  signedImmediate,
  truncate,
  ZERO,
} from '../halves.js';
import { Builder } from './build.js';
import { fetchBits, fetchWord } from './fetch.js';
import type { Program } from './program.js';

const DST = 1;
const ACC = 0;
const VALUE = 3;
const SPARE = 4;

/** A field or constant as this file sees it: bits [start, end) of the unpacked record, lsb0. */
interface Writer {
  readonly start: number;
  readonly end: number;
  /** Of a field that is copied as it is, from lsb0 bit `start - distance` of the packed record on. */
  readonly distance: number | undefined;
  /** How many bits are copied, from `start` on; the rest are 0. */
  readonly copied: number;
  /** What a constant, or a field of no bits, writes. */
  readonly constant: Halves | undefined;
  readonly field: Field | undefined;
  /** What is added to the field: the signed number nearest 0, modulo the width of its destination. */
  readonly added: Halves;
}

/** Writers `from` … `to - 1`, which share no byte with others. */
interface Piece {
  from: number;
  to: number;
  start: number; // bytes
  end: number;
  /** Whether its writers are constants and copies over one distance. */
  plain: boolean;
  distance: number | undefined;
}

/** A word of a piece: the writers that reach into it are `from` … `to - 1`. */
interface Word {
  readonly byte: number;
  readonly size: Size;
  readonly from: number;
  readonly to: number;
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
  const writers = writersOf(format);
  const { packedBytes } = format;
  for (const piece of cutPieces(writers, options?.merge ?? true)) {
    let { from } = piece;
    for (let byte = piece.start; byte < piece.end; ) {
      const size = largestSize(piece.end - byte);
      while (writers[from]!.end <= byte * 8) from++;
      let to = from;
      while (to < piece.to && writers[to]!.start < (byte + size) * 8) to++;
      const word = { byte, size, from, to };
      if (piece.plain) storePlain(asm, writers, word, piece.distance, packedBytes);
      else storeComputed(asm, writers, word, packedBytes);
      byte += size;
    }
  }
  return asm.immediate('mov64.imm', ACC, 0).emit('exit').build();
}

function writersOf({ fields, constants }: Format): Writer[] {
  const writers: Writer[] = [];
  for (const field of fields) writers.push(writerOf(field));
  for (const { value, to } of constants) writers.push(constantWriter(to, value));
  return inOrder(writers);
}

function constantWriter(to: Destination, value: bigint): Writer {
  const start = firstBit(to);
  return {
    start,
    end: start + to.bits,
    distance: undefined,
    copied: 0,
    constant: halvesOf(value),
    field: undefined,
    added: ZERO,
  };
}

function writerOf(field: Field): Writer {
  const { to, bits, signed } = field;
  if (bits === 0) return constantWriter(to, BigInt.asUintN(to.bits, field.offset));
  const offset = halvesOf(field.offset);
  const start = firstBit(to);
  const at = lowestBitOf(field);
  const isCopy = at !== undefined && isZero(offset) && !(signed && bits < to.bits);
  const distance = isCopy ? start - at : undefined;
  return {
    start,
    end: start + to.bits,
    distance,
    copied: Math.min(bits, to.bits),
    constant: undefined,
    field,
    added: signExtend(offset, to.bits),
  };
}

/** The lsb0 number of a field's lowest bit; undefined for an msb0 field that is not within one byte. */
function lowestBitOf({ order, at, bits }: Field): number | undefined {
  if (order === 'lsb0') return at;
  const inByte = at % 8;
  return inByte + bits <= 8 ? at - inByte + (8 - inByte - bits) : undefined;
}

/** Of so few, sorting by insertion takes a quarter of the time. */
const FEW = 32;

function inOrder(writers: Writer[]): Writer[] {
  if (writers.length > FEW) return writers.sort((a, b) => a.start - b.start);
  for (let i = 1; i < writers.length; i++) {
    const writer = writers[i]!;
    let place = i;
    for (; place > 0 && writers[place - 1]!.start > writer.start; place--)
      writers[place] = writers[place - 1]!;
    writers[place] = writer;
  }
  return writers;
}

/** Writers that share a byte belong to one piece; plain neighbours are joined to one, if `merge` says so. */
function cutPieces(writers: readonly Writer[], merge: boolean): Piece[] {
  const pieces: Piece[] = [];
  let last: Piece | undefined;
  for (let from = 0; from < writers.length; ) {
    const piece = pieceAt(writers, from);
    if (merge && last && canJoin(last, piece)) {
      last.to = piece.to;
      last.end = piece.end;
      last.distance ??= piece.distance;
    } else {
      pieces.push(piece);
      last = piece;
    }
    from = piece.to;
  }
  return pieces;
}

function pieceAt(writers: readonly Writer[], from: number): Piece {
  const start = writers[from]!.start >> 3;
  let end = start;
  let to = from;
  let plain = true;
  let distance: number | undefined;
  for (; to < writers.length && (to === from || writers[to]!.start >> 3 < end); to++) {
    const writer = writers[to]!;
    end = (writer.end + 7) >> 3;
    if (writer.constant) continue;
    distance ??= writer.distance;
    if (writer.distance === undefined || writer.distance !== distance) plain = false;
  }
  return { from, to, start, end, plain, distance };
}

const canJoin = (a: Piece, b: Piece): boolean =>
  a.plain && b.plain && (a.distance === undefined || b.distance === undefined || a.distance === b.distance);

/** One word of copied bits and constants. */
function storePlain(
  asm: Builder,
  writers: readonly Writer[],
  { byte, size, from, to }: Word,
  distance: number | undefined,
  packedBytes: number,
): void {
  const first = byte * 8;
  const bits = size * 8;
  let mask = ZERO;
  let constant = ZERO;
  for (let i = from; i < to; i++) {
    const writer = writers[i]!;
    const left = writer.start - first;
    if (writer.constant) constant = or(constant, shiftLeft(writer.constant, left));
    else mask = or(mask, onesAt(writer.copied, left));
  }
  mask = truncate(mask, bits);
  constant = truncate(constant, bits);
  if (isZero(mask)) {
    storeConstant(asm, byte, size, constant);
    return;
  }
  const source = first - distance!;
  const end = bitLength(mask);
  const load = sizeFor(end);
  if (source >= 0 && source % 8 === 0 && source / 8 + load <= packedBytes) {
    fetchWord(asm, load, source / 8, VALUE);
    if (!isEqual(mask, onesAt(load * 8, 0))) andMask(asm, VALUE, mask, bits);
  } else {
    const low = lowestBit(mask);
    const holes = !isEqual(mask, onesAt(end - low, low));
    const exact = !holes && end < bits;
    const run = { at: source + low, bits: end - low, bigEndian: false, signed: false, exact };
    fetchBits(asm, run, packedBytes, VALUE, SPARE);
    if (low > 0) asm.immediate('lsh64.imm', VALUE, low);
    if (holes) andMask(asm, VALUE, mask, bits);
  }
  if (!isZero(constant)) orConstant(asm, VALUE, constant, bits);
  asm.store(size, DST, byte, VALUE);
}

function storeConstant(asm: Builder, byte: number, size: Size, value: Halves): void {
  const immediate = size < 8 ? signExtend(value, Math.min(size * 8, 32)).low : signedImmediate(value);
  if (immediate !== undefined) asm.storeImmediate(size, DST, byte, immediate);
  else asm.constant(VALUE, value).store(8, DST, byte, VALUE);
}

/** register &= mask, where only the low `bits` bits of the register matter. */
function andMask(asm: Builder, register: number, mask: Halves, bits: number): void {
  const immediate = signedImmediate(mask);
  if (bits <= 32 || mask.high === 0) asm.immediate('and32.imm', register, mask.low);
  else if (immediate !== undefined) asm.immediate('and64.imm', register, immediate);
  else asm.constant(SPARE, mask).register('and64.reg', register, SPARE);
}

function orConstant(asm: Builder, register: number, value: Halves, bits: number): void {
  const immediate = signedImmediate(value);
  if (bits <= 32) asm.immediate('or32.imm', register, value.low);
  else if (immediate !== undefined) asm.immediate('or64.imm', register, immediate);
  else asm.constant(SPARE, value).register('or64.reg', register, SPARE);
}

/** One word into which fields are computed: each its value, moved to its place; the word is their sum. */
function storeComputed(
  asm: Builder,
  writers: readonly Writer[],
  { byte, size, from, to }: Word,
  packedBytes: number,
): void {
  const first = byte * 8;
  const bits = size * 8;
  let constant = ZERO;
  let filled = false;
  for (let i = from; i < to; i++) {
    const writer = writers[i]!;
    const left = writer.start - first;
    if (writer.constant) {
      constant = or(constant, truncate(shiftLeft(writer.constant, left), bits));
      continue;
    }
    computeField(asm, filled ? VALUE : ACC, writer, left, bits, packedBytes);
    if (filled) asm.register('or64.reg', ACC, VALUE);
    filled = true;
  }
  if (!filled) {
    storeConstant(asm, byte, size, constant);
    return;
  }
  if (!isZero(constant)) orConstant(asm, ACC, constant, bits);
  asm.store(size, DST, byte, ACC);
}

/** into = the field's bits of a word of `wordBits` in which the field begins at bit `left` (before it, if negative). */
function computeField(
  asm: Builder,
  into: number,
  { field, added }: Writer,
  left: number,
  wordBits: number,
  packedBytes: number,
): void {
  const { bits, at, to } = field!;
  const width = to.bits;
  // Bits above the field are dropped by the store, if the field reaches the word's end.
  const dropped = left >= 0 && left + width >= wordBits;
  const signed = field!.signed && bits < width;
  const adds = !isZero(added);
  const exact = signed || bits < width || (!dropped && !adds);
  const lowest = lowestBitOf(field!);
  const bigEndian = lowest === undefined;
  fetchBits(asm, { at: lowest ?? at, bits, bigEndian, signed, exact }, packedBytes, into, SPARE);
  if (adds) addOffset(asm, into, added, width);
  const clean = !adds && !signed && bits <= width && exact;
  if (!dropped && !clean) maskLow(asm, into, width);
  if (left > 0) asm.immediate('lsh64.imm', into, left);
  else if (left < 0) asm.immediate('rsh64.imm', into, -left);
}

function addOffset(asm: Builder, into: number, offset: Halves, width: number): void {
  const immediate = signedImmediate(offset);
  if (immediate !== undefined) asm.immediate(width <= 32 ? 'add32.imm' : 'add64.imm', into, immediate);
  else asm.constant(SPARE, offset).register('add64.reg', into, SPARE);
}

function maskLow(asm: Builder, into: number, bits: number): void {
  if (bits === 64) return;
  if (bits <= 32) asm.immediate('and32.imm', into, onesAt(bits, 0).low);
  else asm.immediate('lsh64.imm', into, 64 - bits).immediate('rsh64.imm', into, 64 - bits);
}
