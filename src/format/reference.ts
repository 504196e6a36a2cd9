// The oracle: what unpacking means, in the plainest words there are. Slow on purpose.

import { requireBytes } from '../bytes.js';
import { FormatError } from '../errors.js';
import { requireFormat } from './define.js';
import { type Field, type Format, firstBit, sourceShift } from './model.js';

/**
 * Unpacks one record.
 * @param packed at least `format.packedBytes` bytes; what follows them is ignored
 * @returns `format.unpackedBytes` bytes
 */
export function referenceUnpack(format: Format, packed: Uint8Array): Uint8Array {
  requireFormat(format);
  const bytes = requireBytes(packed, format.packedBytes, 'packed');
  const little = littleEndian(bytes, format.packedBytes);
  const big = bigEndian(bytes, format.packedBytes);
  let unpacked = 0n;
  for (const field of format.fields) {
    const source = field.order === 'lsb0' ? little : big;
    const bits = (source >> BigInt(sourceShift(field, format.packedBytes))) & mask(field.bits);
    const value = (field.signed ? BigInt.asIntN(field.bits, bits) : bits) + field.offset;
    unpacked |= (value & mask(field.to.bits)) << destinationShift(field);
  }
  for (const constant of format.constants) unpacked |= constant.value << destinationShift(constant);
  return toLittleEndian(unpacked, format.unpackedBytes);
}

/**
 * Packs one record: the inverse of `referenceUnpack`. Bits of the packed record that no field covers are 0.
 * @param unpacked at least `format.unpackedBytes` bytes
 * @returns `format.packedBytes` bytes
 * @throws FormatError with code 'unpackable', naming the field, when no packed record unpacks to this one
 */
export function referencePack(format: Format, unpacked: Uint8Array): Uint8Array {
  requireFormat(format);
  requireBytes(unpacked, format.unpackedBytes, 'unpacked');
  const record = littleEndian(unpacked, format.unpackedBytes);
  let little = 0n;
  let big = 0n;
  for (const field of format.fields) {
    const value = (record >> destinationShift(field)) & mask(field.to.bits);
    // Of a field wider than its destination, the bits that unpacking drops stay 0.
    const bits = BigInt.asUintN(field.to.bits, value - field.offset) & mask(field.bits);
    if (field.order === 'lsb0') little |= bits << BigInt(sourceShift(field, format.packedBytes));
    else big |= bits << BigInt(sourceShift(field, format.packedBytes));
  }
  const packed = toLittleEndian(little, format.packedBytes);
  const fromTop = toLittleEndian(big, format.packedBytes).reverse();
  for (let i = 0; i < packed.length; i++) packed[i]! |= fromTop[i]!;
  requireUnpacksTo(format, packed, unpacked);
  return packed;
}

/** What a record cannot say shows when it is read back: values out of range, constants and fields that disagree. */
function requireUnpacksTo(format: Format, packed: Uint8Array, unpacked: Uint8Array): void {
  const back = referenceUnpack(format, packed);
  const byte = back.findIndex((value, i) => value !== unpacked[i]);
  if (byte === -1) return;
  const record = littleEndian(unpacked, format.unpackedBytes);
  const backRecord = littleEndian(back, format.unpackedBytes);
  const differs = ({ to }: Pick<Field, 'to'>) =>
    (((record ^ backRecord) >> BigInt(firstBit(to))) & mask(to.bits)) !== 0n;
  const field = format.fields.find(differs);
  const what = field ? `field ${field.name}` : `byte ${byte}`;
  throw new FormatError(
    'unpackable',
    `${what} of the unpacked record has a value that no packed ${format.name} gives; the record must stay unpacked`,
    field ? { field: field.name, byte } : { byte },
  );
}

const mask = (bits: number): bigint => (1n << BigInt(bits)) - 1n;
const destinationShift = ({ to }: Pick<Field, 'to'>): bigint => BigInt(firstBit(to));

function littleEndian(bytes: Uint8Array, length: number): bigint {
  let value = 0n;
  for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
  return value;
}

function bigEndian(bytes: Uint8Array, length: number): bigint {
  let value = 0n;
  for (let i = 0; i < length; i++) value = (value << 8n) | BigInt(bytes[i]!);
  return value;
}

function toLittleEndian(value: bigint, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = Number((value >> BigInt(i * 8)) & 0xffn);
  return bytes;
}
