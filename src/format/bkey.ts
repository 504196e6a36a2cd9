// bcachefs: every btree node has its own `struct bkey_format`, and its keys unpack to the 40-byte struct bkey.
//
//   struct bkey_format   0 key_u64s:8 | 1 nr_fields:8 | 2 bits_per_field[6]:8 | 8 field_offset[6]:64
//   packed key           0 u64s:8 | 8 format:7 needs_whiteout:1 | 16 type:8 | 24 … the fields, from the top bit down
//   struct bkey          0 u64s | 1 format:7 needs_whiteout:1 | 2 type | 3 pad | 4 version.lo | 12 version.hi
//                        16 size | 20 snapshot | 24 offset | 32 inode

import { FormatError } from '../errors.js';
import { type Constant, type Destination, type Field, type Format, makeFormat } from './model.js';

export interface BkeyFormatSpec {
  /** Length of a packed key in 8-byte words. */
  readonly keyU64s: number;
  /** Bits of inode, offset, snapshot, size, version.hi, version.lo. */
  readonly bitsPerField: readonly number[];
  /** What is added to each field, in the same order. */
  readonly fieldOffset: readonly bigint[];
}

/** Length of `struct bkey_format` in bytes. */
export const BKEY_FORMAT_BYTES = 56;
/** Length of `struct bkey` in bytes, and in 8-byte words. */
export const BKEY_BYTES = 40;
export const BKEY_U64S = 5;
/** bkey.format of an unpacked key (KEY_FORMAT_CURRENT). */
export const FORMAT_CURRENT = 1;

const HEADER_BITS = 24;

/** Words of a packed key whose fields have these bits. */
export const bkeyU64s = (bitsPerField: readonly number[]): number =>
  Math.ceil((HEADER_BITS + bitsPerField.reduce((sum, bits) => sum + bits, 0)) / 64);

const FIELDS: readonly { name: string; byte: number; size: 4 | 8 }[] = [
  { name: 'inode', byte: 32, size: 8 },
  { name: 'offset', byte: 24, size: 8 },
  { name: 'snapshot', byte: 20, size: 4 },
  { name: 'size', byte: 16, size: 4 },
  { name: 'version_hi', byte: 12, size: 4 },
  { name: 'version_lo', byte: 4, size: 8 },
];

/**
 * The format of a bcachefs key, if bcachefs accepts it.
 * @throws FormatError with code 'nr_fields', 'field_too_large' or 'key_u64s' and bcachefs's own sentence, checked in
 *   bcachefs's order (bch2_bkey_format_invalid); 'bad_argument' for what is no format at all
 */
export function bkeyFormat(spec: BkeyFormatSpec): Format {
  const { keyU64s, bitsPerField, fieldOffset } = checkShape(spec);
  const nrFields = Math.max(bitsPerField.length, fieldOffset.length);
  if (bitsPerField.length !== FIELDS.length || fieldOffset.length !== FIELDS.length)
    throw wrongFieldCount(nrFields);
  FIELDS.forEach((field, i) => {
    checkFits(i, field.size * 8, bitsPerField[i]!, fieldOffset[i]!);
  });
  const words = bkeyU64s(bitsPerField);
  if (keyU64s !== words) {
    throw new FormatError('key_u64s', `incorrect key_u64s: got ${keyU64s}, should be ${words}`, {
      field: 'key_u64s',
    });
  }
  return build(keyU64s, bitsPerField, fieldOffset);
}

/**
 * The format in a node's header.
 * @param raw at least 56 bytes, the on-disk `struct bkey_format`
 * @throws FormatError as `bkeyFormat`
 */
export function bkeyFormatFromBytes(raw: Uint8Array): Format {
  if (!(raw instanceof Uint8Array) || raw.length < BKEY_FORMAT_BYTES) {
    throw new FormatError(
      'bad_argument',
      `struct bkey_format is a Uint8Array of ${BKEY_FORMAT_BYTES} bytes, got ${raw?.length ?? typeof raw}`,
    );
  }
  const view = new DataView(raw.buffer, raw.byteOffset, BKEY_FORMAT_BYTES);
  if (raw[1] !== FIELDS.length) throw wrongFieldCount(raw[1]!);
  return bkeyFormat({
    keyU64s: raw[0]!,
    bitsPerField: FIELDS.map((_, i) => raw[2 + i]!),
    fieldOffset: FIELDS.map((_, i) => view.getBigUint64(8 + i * 8, true)),
  });
}

function checkShape(spec: BkeyFormatSpec): BkeyFormatSpec {
  const { keyU64s, bitsPerField, fieldOffset } = spec ?? {};
  const bad = (message: string) => new FormatError('bad_argument', message);
  const isByte = (value: unknown) =>
    Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 255;
  if (!isByte(keyU64s)) throw bad(`keyU64s must be a whole number from 0 to 255, got ${keyU64s}`);
  if (!Array.isArray(bitsPerField) || !bitsPerField.every(isByte)) {
    throw bad('bitsPerField must be an array of whole numbers from 0 to 255');
  }
  const isU64 = (value: unknown) => typeof value === 'bigint' && value >= 0n && value < 1n << 64n;
  if (!Array.isArray(fieldOffset) || !fieldOffset.every(isU64)) {
    throw bad('fieldOffset must be an array of bigints from 0 to 2^64 - 1');
  }
  return { keyU64s, bitsPerField, fieldOffset };
}

function wrongFieldCount(got: number): FormatError {
  return new FormatError('nr_fields', `incorrect number of fields: got ${got}, should be ${FIELDS.length}`, {
    field: 'nr_fields',
  });
}

function checkFits(index: number, width: number, bits: number, offset: bigint): void {
  const unpackedMax = (1n << BigInt(width)) - 1n;
  const packedMax = (1n << BigInt(Math.min(bits, 64))) - 1n;
  if (bits > width || packedMax + offset > unpackedMax) {
    throw new FormatError(
      'field_too_large',
      `field ${index} too large: ${packedMax} + ${offset} > ${unpackedMax}`,
      {
        field: FIELDS[index]!.name,
      },
    );
  }
}

function build(keyU64s: number, bitsPerField: readonly number[], fieldOffset: readonly bigint[]): Format {
  const member = (byte: number, size: 1 | 4 | 8, bit = 0, bits = size * 8): Destination => ({
    byte,
    size,
    bit,
    bits,
  });
  const header = (name: string, at: number, bits: number, to: Destination, offset = 0n): Field => ({
    name,
    bits,
    at,
    order: 'lsb0',
    signed: false,
    offset,
    to,
  });
  // The length grows by what unpacking adds to the key, modulo 256 as in C.
  const growth = BigInt.asUintN(64, BigInt(BKEY_U64S - keyU64s));
  const fields: Field[] = [
    header('u64s', 0, 8, member(0, 1), growth),
    header('needs_whiteout', 15, 1, member(1, 1, 7, 1)),
    header('type', 16, 8, member(2, 1)),
  ];
  let top = keyU64s * 64;
  FIELDS.forEach(({ name, byte, size }, i) => {
    top -= bitsPerField[i]!;
    fields.push(header(name, top, bitsPerField[i]!, member(byte, size), fieldOffset[i]!));
  });
  const constants: Constant[] = [
    { value: BigInt(FORMAT_CURRENT), to: member(1, 1, 0, 7) },
    { value: 0n, to: member(3, 1) },
  ];
  return makeFormat('bkey', keyU64s * 8, BKEY_BYTES, fields, constants, keyU64s);
}
