// Columns as a caller gives and gets them, and how any engine makes them: records are unpacked, and spread.

import { constants } from 'node:buffer';
import { types } from 'node:util';
import { byteLength, part, requireAttached, shown } from './bytes.js';
import { ArgumentError } from './errors.js';
import { type ColumnSpec, columnOf } from './format/column.js';
import type { Format, Size } from './format/model.js';

/** One element for each record. */
export type Column =
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | BigUint64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array;

export interface ColumnOptions {
  /** Bytes from one record to the next, at least 1; default: `format.packedBytes`. */
  readonly stride?: number;
  /** Names of the fields wanted; default: all. */
  readonly columns?: readonly string[];
  /** Arrays for some or all of them, of the right kind and at least `count` elements; default: new ones. */
  readonly out?: Readonly<Record<string, Column>>;
}

/** Where a column goes: `count * spec.bytes` bytes, that lie at a multiple of `spec.bytes`. */
export interface ColumnTarget {
  readonly spec: ColumnSpec;
  readonly bytes: Uint8Array;
}

interface Kind {
  readonly name: string;
  readonly prototype: object;
  readonly is: (value: unknown) => boolean;
  readonly at: (buffer: ArrayBufferLike, byteOffset: number, length: number) => Column;
}

function kind(make: new (buffer: ArrayBufferLike, byteOffset: number, length: number) => Column): Kind {
  const { name, prototype } = make;
  const is = types[`is${name}` as 'isUint8Array'];
  return { name, prototype, is, at: (buffer, byteOffset, length) => new make(buffer, byteOffset, length) };
}

const UNSIGNED: Readonly<Record<Size, Kind>> = {
  1: kind(Uint8Array),
  2: kind(Uint16Array),
  4: kind(Uint32Array),
  8: kind(BigUint64Array),
};
const SIGNED: Readonly<Record<Size, Kind>> = {
  1: kind(Int8Array),
  2: kind(Int16Array),
  4: kind(Int32Array),
  8: kind(BigInt64Array),
};

const kindOf = ({ signed, bytes }: ColumnSpec): Kind => (signed ? SIGNED : UNSIGNED)[bytes];

/** A column that is wanted, and the array that was given for it, not looked at yet. */
export interface Wanted {
  readonly spec: ColumnSpec;
  readonly given: unknown;
}

/**
 * Reads what a caller says of columns, each property once.
 * @throws ArgumentError 'A-TYPE' or 'A-COLUMN'
 */
export function wantedColumns(format: Format, columns: unknown, out: unknown): Wanted[] {
  if (columns !== undefined && !Array.isArray(columns))
    throw new ArgumentError('A-TYPE', `columns must be an array of names, got ${shown(columns)}`);
  if (out !== undefined && (typeof out !== 'object' || out === null))
    throw new ArgumentError('A-TYPE', `out must be an object of typed arrays, got ${shown(out)}`);
  const names: unknown[] = columns ? Array.from(columns) : format.fields.map(({ name }) => name);
  const wanted = names.map((name) => ({ spec: specOf(format, name), given: givenIn(out, name as string) }));
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw new ArgumentError('A-COLUMN', `the column ${shown(twice)} is wanted twice`);
  return wanted;
}

const known = new WeakMap<Format, ReadonlyMap<unknown, ColumnSpec>>();

/** The columns of fields whose names no other has. */
function specsOf(format: Format): ReadonlyMap<unknown, ColumnSpec> {
  const found = known.get(format);
  if (found) return found;
  const specs = new Map(format.fields.map((field) => [field.name, columnOf(field)]));
  format.fields.forEach(({ name }, i) => {
    if (format.fields.findIndex((field) => field.name === name) !== i) specs.delete(name);
  });
  known.set(format, specs);
  return specs;
}

function specOf(format: Format, name: unknown): ColumnSpec {
  const spec = specsOf(format).get(name);
  if (spec) return spec;
  const names = format.fields.map((field) => field.name);
  const message = names.includes(name as string)
    ? `several fields of ${format.name} are named ${shown(name)}, and columns go by their names`
    : `no field of ${format.name} is named ${shown(name)}; it has ${names.join(', ') || 'none'}`;
  throw new ArgumentError('A-COLUMN', message);
}

const givenIn = (out: object | undefined, name: string): unknown =>
  out && Object.hasOwn(out, name) ? (out as Record<string, unknown>)[name] : undefined;

/**
 * Arrays of `count` elements: what was given, if it will do, or new ones.
 * @throws ArgumentError 'A-TYPE', 'A-LENGTH', 'A-DETACHED' or 'A-SIZE'
 */
export function columnArrays(wanted: readonly Wanted[], count: number): Column[] {
  return wanted.map(({ spec, given }) =>
    given === undefined ? made(spec, count) : checked(spec, given, count),
  );
}

function made(spec: ColumnSpec, count: number): Column {
  const bytes = count * spec.bytes;
  if (bytes > constants.MAX_LENGTH)
    throw new ArgumentError(
      'A-SIZE',
      `column ${spec.name} would take ${bytes} bytes, more than a buffer can have`,
    );
  return kindOf(spec).at(new ArrayBuffer(bytes), 0, count);
}

function checked(spec: ColumnSpec, given: unknown, count: number): Column {
  const what = `out.${spec.name}`;
  const { name, is, at, prototype } = kindOf(spec);
  if (!is(given)) throw new ArgumentError('A-TYPE', `${what} must be a ${name}`);
  const array = given as Uint8Array;
  const bytes = byteLength(array);
  if (bytes === 0) requireAttached(array, what);
  if (bytes < count * spec.bytes) {
    const has = bytes / spec.bytes;
    throw new ArgumentError('A-LENGTH', `${what} has ${has} elements, ${count} are needed`);
  }
  if (bytes === count * spec.bytes && Object.getPrototypeOf(given) === prototype) return given as Column;
  const used = part(array, 0, count * spec.bytes);
  return at(used.buffer, used.byteOffset, count);
}

/** The bytes of an array that `columnArrays` returned. */
export function targetOf(spec: ColumnSpec, column: Column): ColumnTarget {
  const bytes = column as Uint8Array;
  return { spec, bytes: part(bytes, 0, byteLength(bytes)) };
}

/** As many bytes of records are unpacked at once before they are spread: they stay in the first-level cache. */
const CHUNK_BYTES = 16384;

/** Unpacks records by `many`, a chunk at a time, and spreads their fields. */
export function spreadRecords(
  { packedBytes, unpackedBytes }: Format,
  many: (packed: Uint8Array, count: number, stride: number, out: Uint8Array) => void,
  { packed, count, stride }: { readonly packed: Uint8Array; readonly count: number; readonly stride: number },
  targets: readonly ColumnTarget[],
): void {
  if (targets.length === 0) return;
  const most = Math.min(count, Math.ceil(CHUNK_BYTES / unpackedBytes));
  const records = new Uint8Array(most * unpackedBytes);
  const view = new DataView(records.buffer);
  for (let first = 0; first < count; first += most) {
    const chunk = Math.min(most, count - first);
    const start = first * stride;
    many(part(packed, start, start + (chunk - 1) * stride + packedBytes), chunk, stride, records);
    for (const target of targets) spread(view, unpackedBytes, chunk, target, first);
  }
}

/** Puts one field of `count` records into a column, from element `first` on; in halves of 32 bits, as bigints take ten times as long. */
function spread(
  records: DataView,
  recordBytes: number,
  count: number,
  { spec: { to, signed, bytes }, bytes: column }: ColumnTarget,
  first: number,
): void {
  const out = new DataView(column.buffer, column.byteOffset + first * bytes, count * bytes);
  const { byte, size, bit, bits } = to;
  for (let i = 0; i < count; i++) {
    const at = i * recordBytes + byte;
    const below =
      size === 1
        ? records.getUint8(at)
        : size === 2
          ? records.getUint16(at, true)
          : records.getUint32(at, true);
    const above = size === 8 ? records.getUint32(at + 4, true) : 0;
    const low = bit === 0 ? below : bit < 32 ? (below >>> bit) | (above << (32 - bit)) : above >>> (bit - 32);
    const high = bit < 32 ? above >>> bit : 0;
    if (bytes === 8) {
      out.setUint32(i * 8, low, true);
      out.setUint32(i * 8 + 4, extended(high, bits - 32, signed), true);
      continue;
    }
    const value = extended(low, bits, signed);
    if (bytes === 1) out.setUint8(i, value);
    else if (bytes === 2) out.setUint16(i * 2, value, true);
    else out.setUint32(i * 4, value, true);
  }
}

/** The low `bits` bits, 1 to 32 of them, as a number of 32 bits. */
function extended(value: number, bits: number, signed: boolean): number {
  const high = value << (32 - bits);
  return signed ? high >> (32 - bits) : high >>> (32 - bits);
}
