// What to store where. The unpacked record falls into units of whole bytes that share nothing with each other; each
// is made in a register from parts, runs of bits with one origin.
//
// Positions in the packed record are counted as in `referenceUnpack`: the record is one number, little-endian for
// lsb0 fields, big-endian for msb0 ones, and bit 0 is its lowest.

import {
  type BitOrder,
  type Constant,
  type Field,
  type Format,
  firstBit,
  sourceShift,
} from '../format/model.js';

/** Bits `at` … `at + width - 1` of the unpacked record. */
interface BitRange {
  readonly at: number;
  readonly width: number;
}

interface ConstantPart extends BitRange {
  readonly kind: 'constant';
  readonly value: bigint;
}

/** `bits` bits of the packed number from bit `from`, zero-extended. */
interface CopyPart extends BitRange {
  readonly kind: 'copy';
  readonly order: BitOrder;
  readonly from: number;
  readonly bits: number;
}

/** Bits `skip` … `skip + width - 1` of the sum of an offset and `bits` bits of the packed number. */
export interface SumPart extends BitRange {
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

export type Part = ConstantPart | CopyPart | SumPart;

/** Bytes `byte` … `byte + bytes - 1`, at most 8, of the unpacked record, and what they consist of. */
export interface Unit {
  readonly byte: number;
  readonly bytes: number;
  readonly parts: readonly Part[];
}

/** The units of a format in the order of their bytes; together they cover the unpacked record. */
export function unitsOf(format: Format): Unit[] {
  const parts: Part[] = [];
  for (const constant of format.constants) parts.push(constantPart(constant));
  for (const field of format.fields) parts.push(fieldPart(field, format));
  parts.sort((a, b) => a.at - b.at);
  const units: Unit[] = [];
  for (let next = 0, byte = 0; byte < format.unpackedBytes; ) {
    const first = next;
    let end = byte + 1;
    for (; next < parts.length && parts[next]!.at < end * 8; next++) {
      end = Math.max(end, Math.ceil((parts[next]!.at + parts[next]!.width) / 8));
    }
    appendUnits(units, parts.slice(first, next), byte, end);
    byte = end;
  }
  return units;
}

/** Appends bytes that parts share, in steps of 8. */
function appendUnits(units: Unit[], parts: readonly Part[], byte: number, end: number): void {
  let first = 0;
  for (let start = byte; start < end; start += 8) {
    const stop = Math.min(end, start + 8);
    while (first < parts.length && parts[first]!.at + parts[first]!.width <= start * 8) first++;
    const within: Part[] = [];
    for (let i = first; i < parts.length && parts[i]!.at < stop * 8; i++) {
      within.push(slice(parts[i]!, start * 8, stop * 8));
    }
    units.push({ byte: start, bytes: stop - start, parts: within });
  }
}

function constantPart({ value, to }: Constant): Part {
  return { kind: 'constant', at: firstBit(to), width: to.bits, value };
}

/** A field without bits is a constant, one without an offset a copy. */
function fieldPart(field: Field, format: Format): Part {
  const { order, to } = field;
  const at = firstBit(to);
  const width = to.bits;
  const offset = BigInt.asUintN(width, field.offset);
  if (field.bits === 0) return { kind: 'constant', at, width, value: offset };
  const from = sourceShift(field, format.packedBytes);
  const bits = Math.min(field.bits, width);
  const signed = field.signed && field.bits < width;
  if (offset === 0n && !signed) return { kind: 'copy', at, width, order, from, bits };
  return { kind: 'sum', at, width, order, from, bits, signed, offset, sumWidth: width, skip: 0 };
}

/** The part of a part that lies in bits start … end - 1; some does. */
function slice(part: Part, start: number, end: number): Part {
  const at = Math.max(part.at, start);
  const width = Math.min(part.at + part.width, end) - at;
  const skip = at - part.at;
  if (width === part.width) return part;
  if (part.kind === 'sum') return { ...part, at, width, skip };
  if (part.kind === 'constant') {
    return { ...part, at, width, value: BigInt.asUintN(width, part.value >> BigInt(skip)) };
  }
  const bits = Math.min(part.bits - skip, width);
  if (bits <= 0) return { kind: 'constant', at, width, value: 0n };
  return { ...part, at, width, from: part.from + skip, bits };
}
