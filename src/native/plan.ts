// What to store where. The unpacked record falls into units of whole bytes that share nothing with each other; each
// is made in a register from pieces, runs of bits with one origin.
//
// Positions in the packed record are counted as in `referenceUnpack`: the record is one number, little-endian for
// lsb0 fields, big-endian for msb0 ones, and bit 0 is its lowest.

import type { BitOrder, Constant, Field, Format } from '../format/model.js';

/** Bits `at` … `at + width - 1` of the unpacked record. */
interface Extent {
  readonly at: number;
  readonly width: number;
}

export interface ConstantPiece extends Extent {
  readonly kind: 'constant';
  readonly value: bigint;
}

/** `bits` bits of the packed number from bit `from`, zero-extended. */
export interface CopyPiece extends Extent {
  readonly kind: 'copy';
  readonly order: BitOrder;
  readonly from: number;
  readonly bits: number;
}

/** Bits `skip` … `skip + width - 1` of the sum of an offset and `bits` bits of the packed number. */
export interface SumPiece extends Extent {
  readonly kind: 'sum';
  readonly order: BitOrder;
  readonly from: number;
  readonly bits: number;
  readonly signed: boolean;
  /** The sum is taken modulo 2^sumWidth. */
  readonly offset: bigint;
  readonly sumWidth: number;
  readonly skip: number;
}

export type Piece = ConstantPiece | CopyPiece | SumPiece;

/** Bytes `byte` … `byte + bytes - 1`, at most 8, of the unpacked record, and what they consist of. */
export interface Unit {
  readonly byte: number;
  readonly bytes: number;
  readonly pieces: readonly Piece[];
}

/** The units of a format in the order of their bytes; together they cover the unpacked record. */
export function unitsOf(format: Format): Unit[] {
  const pieces = [
    ...format.constants.map(constantPiece),
    ...format.fields.map((field) => fieldPiece(field, format)),
  ].sort((a, b) => a.at - b.at);
  const units: Unit[] = [];
  for (let next = 0, byte = 0; byte < format.unpackedBytes; ) {
    const first = next;
    let end = byte + 1;
    for (; next < pieces.length && pieces[next]!.at < end * 8; next++) {
      end = Math.max(end, Math.ceil((pieces[next]!.at + pieces[next]!.width) / 8));
    }
    units.push(...cut(pieces.slice(first, next), byte, end));
    byte = end;
  }
  return units;
}

/** Bytes that pieces share, in steps of 8. */
function* cut(pieces: readonly Piece[], byte: number, end: number): Generator<Unit> {
  let first = 0;
  for (let start = byte; start < end; start += 8) {
    const stop = Math.min(end, start + 8);
    while (first < pieces.length && pieces[first]!.at + pieces[first]!.width <= start * 8) first++;
    const within: Piece[] = [];
    for (let i = first; i < pieces.length && pieces[i]!.at < stop * 8; i++) {
      within.push(slice(pieces[i]!, start * 8, stop * 8));
    }
    yield { byte: start, bytes: stop - start, pieces: within };
  }
}

function constantPiece({ value, to }: Constant): Piece {
  return { kind: 'constant', at: to.byte * 8 + to.bit, width: to.bits, value };
}

/** A field without bits is a constant, one without an offset a copy. */
function fieldPiece(field: Field, format: Format): Piece {
  const { order, to } = field;
  const at = to.byte * 8 + to.bit;
  const width = to.bits;
  const offset = BigInt.asUintN(width, field.offset);
  if (field.bits === 0) return { kind: 'constant', at, width, value: offset };
  const from = order === 'lsb0' ? field.at : format.packedBytes * 8 - field.at - field.bits;
  const bits = Math.min(field.bits, width);
  const signed = field.signed && field.bits < width;
  if (offset === 0n && !signed) return { kind: 'copy', at, width, order, from, bits };
  return { kind: 'sum', at, width, order, from, bits, signed, offset, sumWidth: width, skip: 0 };
}

/** The part of a piece that lies in bits start … end - 1; some does. */
function slice(piece: Piece, start: number, end: number): Piece {
  const at = Math.max(piece.at, start);
  const width = Math.min(piece.at + piece.width, end) - at;
  const skip = at - piece.at;
  if (width === piece.width) return piece;
  if (piece.kind === 'sum') return { ...piece, at, width, skip };
  if (piece.kind === 'constant') {
    return { ...piece, at, width, value: BigInt.asUintN(width, piece.value >> BigInt(skip)) };
  }
  const bits = Math.min(piece.bits - skip, width);
  if (bits <= 0) return { kind: 'constant', at, width, value: 0n };
  return { ...piece, at, width, from: piece.from + skip, bits };
}
