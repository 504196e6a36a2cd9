// A format as every rival generator wants it: pieces of little- or big-endian loads, and the units that are stored.

const SIZES = [1, 2, 4, 8];

/** Thrown for a format that a rival cannot do as it is written here. */
export class NotWritten extends Error {}

/** @returns { fields: { field, pieces }, units: { byte, bytes, parts: { at, bits, value | field } } } */
export function planOf(format) {
  const fields = new Map(format.fields.map((field) => [field, piecesOf(field, format.packedBytes)]));
  return { fields, units: unitsOf(format) };
}

/** Loads whose parts, each shifted right by `shift`, cut to `bits`, and shifted left by `at`, make the field. */
function piecesOf({ order, at, bits }, packedBytes) {
  const from = order === 'lsb0' ? at : packedBytes * 8 - at - bits;
  const pieces = [];
  for (let done = 0; done < bits; ) {
    const start = from + done;
    const byte = start >> 3;
    const whole = SIZES.find((size) => (start & 7) + bits - done <= size * 8 && byte + size <= packedBytes);
    const size =
      whole ??
      windowBefore(start, bits - done, packedBytes) ??
      SIZES.findLast((size) => byte + size <= packedBytes);
    const first = Math.min(byte, packedBytes - size);
    const shift = start - first * 8;
    const taken = Math.min(bits - done, size * 8 - shift);
    const load = order === 'lsb0' ? first : packedBytes - first - size;
    pieces.push({ byte: load, size, order, shift, bits: taken, at: done });
    done += taken;
  }
  return pieces;
}

/** The size of a load that ends with the record and holds the bits. */
const windowBefore = (start, bits, packedBytes) =>
  SIZES.find(
    (size) => size <= packedBytes && start >= (packedBytes - size) * 8 && start + bits <= packedBytes * 8,
  );

/** Destinations that share bytes make a unit, of at most eight bytes. */
function unitsOf({ fields, constants }) {
  const parts = [...fields.map((field) => ({ field, to: field.to })), ...constants]
    .map(({ to, ...what }) => ({ ...what, at: to.byte * 8 + to.bit, bits: to.bits }))
    .sort((a, b) => a.at - b.at);
  const units = [];
  for (const part of parts) {
    const last = units.at(-1);
    const end = Math.ceil((part.at + part.bits) / 8);
    if (last && part.at < (last.byte + last.bytes) * 8) {
      last.bytes = Math.max(last.bytes, end - last.byte);
      last.parts.push(part);
    } else units.push({ byte: part.at >> 3, bytes: end - (part.at >> 3), parts: [part] });
  }
  if (units.some(({ bytes }) => bytes > 8)) throw new NotWritten('members that share more than eight bytes');
  return units;
}

/** Steps in which `bytes` bytes are stored: { byte, size }. */
export function steps(bytes) {
  const result = [];
  for (let byte = 0; byte < bytes; ) {
    const size = SIZES.findLast((size) => byte + size <= bytes);
    result.push({ byte, size });
    byte += size;
  }
  return result;
}
