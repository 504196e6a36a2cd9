// A format as a table of constants, for the routine that serves all formats (jit/x64/table.ts says what it does with them). The
// table is made from the format alone; a wrong one would give wrong bytes, and touch no others.
//
// Fields whose destinations share bytes make a unit. Each unit is given bytes of one of eight lanes of eight bytes, and its fields the
// bytes of the record that they are in, in a term of that lane. Whether carries can leave a unit decides where it may be:
//
//   plain   one such unit a lane, at its end; the others anywhere. One addition, of 64 bits, serves all.
//   any     each at a multiple of its size, rounded up to 1, 2, 4 or 8 bytes, which is the width of its addition

import { EngineError } from '../errors.js';
import {
  type Constant,
  type Field,
  type Format,
  firstBit,
  type Size,
  sizeFor,
  sourceShift,
} from '../format/model.js';
import { TABLE_ROW_BYTES, TABLE_ROWS, TABLE_TERMS } from '../jit/target.js';

export interface Table {
  readonly kind: keyof typeof TABLE_TERMS;
  /** The rows. */
  readonly bytes: Uint8Array;
}

const LANE_BYTES = 8;

/**
 * @throws EngineError 'E-FORMAT' for a format that no table describes: of more than 64 bytes, packed or unpacked, or whose fields share
 *   bytes in a way that it has no room for
 */
export function tableOf(format: Format): Table {
  const { name, packedBytes, unpackedBytes } = format;
  if (packedBytes > TABLE_ROW_BYTES || unpackedBytes > TABLE_ROW_BYTES) {
    const sizes = `${packedBytes} and ${unpackedBytes} bytes`;
    throw notInTable(
      name,
      `its records have ${sizes}, packed and unpacked, and at most ${TABLE_ROW_BYTES} fit`,
    );
  }
  const units = unitsOf(format);
  if (units.some(({ bytes }) => bytes > LANE_BYTES))
    throw notInTable(name, 'fields share more than eight bytes');
  if (units.some(({ entangled }) => entangled))
    throw notInTable(name, 'a sum may carry into a field above it');
  const table = fill(units, 'plain') ?? fill(units, 'any');
  if (!table) throw notInTable(name, 'too many fields share lanes of eight bytes');
  return table;
}

const notInTable = (name: string, why: string): EngineError =>
  new EngineError('E-FORMAT', `no table describes the format ${name}: ${why}; use the engine 'bpf'`);

/** A field or a constant, at a bit of its unit. */
interface Part {
  readonly at: number;
  readonly to: number;
  readonly run: Run | undefined;
  /** To flip, a bit of the unit; -1 where none is. */
  readonly flip: number;
  /** Modulo 2^to. */
  readonly plus: bigint;
}

/** Bits of the record: from bit `low` of the first of these bytes, upwards. */
interface Run {
  readonly bytes: readonly number[];
  readonly low: number;
  readonly bits: number;
}

interface Unit {
  readonly byte: number;
  readonly bytes: number;
  readonly parts: readonly Part[];
  /** Whether a carry may leave its bytes. */
  readonly carries: boolean;
  /** Whether one may leave a part of it, and is then to be cut off. */
  readonly cut: boolean;
  /** Whether one may come into another part. */
  readonly entangled: boolean;
}

function unitsOf({ fields, constants, packedBytes }: Format): Unit[] {
  const writers = [...fields, ...constants].sort((a, b) => firstBit(a.to) - firstBit(b.to));
  const units: Unit[] = [];
  for (let i = 0; i < writers.length; ) {
    const byte = firstBit(writers[i]!.to) >> 3;
    let end = byte;
    const group: (Field | Constant)[] = [];
    do {
      const writer = writers[i++]!;
      end = Math.max(end, (firstBit(writer.to) + writer.to.bits + 7) >> 3);
      group.push(writer);
    } while (i < writers.length && firstBit(writers[i]!.to) >> 3 < end);
    units.push(unitOf(group, byte, end - byte, packedBytes));
  }
  return units;
}

function unitOf(
  group: readonly (Field | Constant)[],
  byte: number,
  bytes: number,
  packedBytes: number,
): Unit {
  let [carries, cut, entangled] = [false, false, false];
  const parts = group.map((writer, i): Part => {
    const at = firstBit(writer.to) - byte * 8;
    const to = writer.to.bits;
    if (!('name' in writer)) return { at, to, run: undefined, flip: -1, plus: writer.value };
    const bits = Math.min(writer.bits, to);
    const extends_ = writer.signed && bits > 0 && bits < to;
    const sign = extends_ ? 1n << BigInt(bits - 1) : 0n;
    const plus = writer.offset === 0n && !extends_ ? 0n : BigInt.asUintN(to, writer.offset - sign);
    if (plus !== 0n && exceeds(bits, plus, to)) {
      if (i < group.length - 1) entangled = true;
      else if (at + to < bytes * 8) cut = true;
      else carries = true;
    }
    const run = bits === 0 ? undefined : runOf(writer, bits, packedBytes);
    return { at, to, run, flip: extends_ ? at + bits - 1 : -1, plus };
  });
  return { byte, bytes, parts, carries, cut, entangled };
}

const exceeds = (bits: number, plus: bigint, to: number): boolean =>
  (1n << BigInt(bits)) - 1n + plus >= 1n << BigInt(to);

/** The lowest `bits` bits of a field. */
function runOf(field: Field, bits: number, packedBytes: number): Run {
  const from = sourceShift(field, packedBytes);
  const bytes: number[] = [];
  for (let byte = from >> 3; byte * 8 < from + bits; byte++)
    bytes.push(field.order === 'lsb0' ? byte : packedBytes - 1 - byte);
  return { bytes, low: from % 8, bits };
}

/** Where in the lanes each unit is; undefined where there is no room. */
function placesOf(units: readonly Unit[], kind: Table['kind']): readonly number[] | undefined {
  const isPlain = kind === 'plain';
  if (isPlain && units.some(({ cut }) => cut)) return undefined;
  const places = new Array<number>(units.length);
  const used = new Uint8Array(TABLE_ROW_BYTES);
  const atEnd = (unit: Unit) => isPlain && unit.carries;
  const rank = (unit: Unit) => unit.bytes + (atEnd(unit) ? LANE_BYTES : 0);
  const ordered = [...units.keys()].sort((a, b) => rank(units[b]!) - rank(units[a]!));
  for (const index of ordered) {
    const unit = units[index]!;
    const bytes = isPlain ? unit.bytes : sizeOf(unit);
    const step = atEnd(unit) ? LANE_BYTES : isPlain ? 1 : bytes;
    let at = atEnd(unit) ? LANE_BYTES - bytes : 0;
    while (at < TABLE_ROW_BYTES && !isFree(used, at, bytes)) at += step;
    if (at >= TABLE_ROW_BYTES) return undefined;
    used.fill(1, at, at + bytes);
    places[index] = at;
  }
  return places;
}

/** Whether bytes are in one lane, and not used. */
function isFree(used: Uint8Array, at: number, bytes: number): boolean {
  if ((at % LANE_BYTES) + bytes > LANE_BYTES) return false;
  for (let i = at; i < at + bytes; i++) if (used[i] !== 0) return false;
  return true;
}

const sizeOf = ({ bytes }: Unit): Size => sizeFor(bytes * 8);

function fill(units: readonly Unit[], kind: Table['kind']): Table | undefined {
  const places = placesOf(units, kind);
  if (!places) return undefined;
  const rows = new Rows(kind);
  for (let i = 0; i < units.length; i++) if (!rows.put(units[i]!, places[i]!)) return undefined;
  return { kind, bytes: rows.bytes };
}

// A buffer for each table takes as long to make as the rest of it: 2 µs.
const TABLES_IN_A_BUFFER = 16;
const TABLE_BYTES = TABLE_ROWS.count * TABLE_ROW_BYTES;
let room = new Uint8Array(0);

function newTable(): Uint8Array {
  if (room.length === 0) room = new Uint8Array(TABLES_IN_A_BUFFER * TABLE_BYTES);
  const bytes = room.subarray(0, TABLE_BYTES);
  room = room.subarray(TABLE_BYTES);
  return bytes;
}

/** Nothing has been put there. */
const FREE = 0xff;

class Rows {
  readonly bytes = newTable();
  readonly #kind: Table['kind'];
  readonly #terms: number;

  constructor(kind: Table['kind']) {
    this.#kind = kind;
    this.#terms = TABLE_TERMS[kind];
    for (let term = 0; term < this.#terms; term++) {
      const permute = TABLE_ROWS.term(term) * TABLE_ROW_BYTES;
      this.bytes.fill(FREE, permute, permute + 2 * TABLE_ROW_BYTES);
    }
  }

  /** Makes a unit at byte `at` of the lanes, and moves it to its place; false where there is no room in the terms. */
  put(unit: Unit, at: number): boolean {
    const isPlain = this.#kind === 'plain';
    const width = isPlain ? LANE_BYTES : sizeOf(unit);
    for (const { at: bit, to: bits, run, flip, plus } of unit.parts) {
      const to = at * 8 + bit;
      if (run && !this.#take(run, to)) return false;
      if (flip >= 0) this.#set(TABLE_ROWS.flip, at * 8 + flip, 1);
      if (plus !== 0n) this.#add(width, to, plus);
      if (!isPlain) this.#set(TABLE_ROWS.keep, to, bits);
    }
    const out = TABLE_ROWS.out * TABLE_ROW_BYTES + unit.byte;
    for (let i = 0; i < unit.bytes; i++) this.bytes[out + i] = at + i;
    return true;
  }

  /** Brings bits of the record to a bit of the lanes; what lies in nine bytes comes in two parts. */
  #take(run: Run, to: number): boolean {
    const { bytes, low, bits } = run;
    if (bytes.length <= LANE_BYTES) return this.#takeWhole(run, to);
    const first = LANE_BYTES * 8 - low;
    const rest = { bytes: bytes.slice(LANE_BYTES), low: 0, bits: bits - first };
    return (
      this.#takeWhole({ bytes: bytes.slice(0, LANE_BYTES), low, bits: first }, to) &&
      this.#takeWhole(rest, to + first)
    );
  }

  #takeWhole(run: Run, to: number): boolean {
    for (let term = 0; term < this.#terms; term++) if (this.#takeInTerm(run, to, term)) return true;
    return false;
  }

  #takeInTerm(run: Run, to: number, term: number): boolean {
    const { bytes, low, bits } = run;
    const permute = TABLE_ROWS.term(term) * TABLE_ROW_BYTES;
    const lane = (to >> 6) << 3;
    for (let first = 0; first + bytes.length <= LANE_BYTES; first++) {
      if (!this.#hasRoom(run, to, permute, lane + first)) continue;
      bytes.forEach((byte, i) => {
        this.bytes[permute + lane + first + i] = byte;
      });
      for (let byte = to >> 3; byte * 8 < to + bits; byte++)
        this.bytes[permute + TABLE_ROW_BYTES + byte] = controlOf(first * 8 + low, byte, to);
      this.#set(TABLE_ROWS.term(term) + 2, to, bits);
      return true;
    }
    return false;
  }

  #hasRoom({ bytes, low, bits }: Run, to: number, permute: number, at: number): boolean {
    for (let i = 0; i < bytes.length; i++) {
      const there = this.bytes[permute + at + i]!;
      if (there !== FREE && there !== bytes[i]) return false;
    }
    for (let byte = to >> 3; byte * 8 < to + bits; byte++) {
      const there = this.bytes[permute + TABLE_ROW_BYTES + byte]!;
      if (there !== FREE && there !== controlOf((at % LANE_BYTES) * 8 + low, byte, to)) return false;
    }
    return true;
  }

  /** Sets bits of a row. */
  #set(row: number, at: number, bits: number): void {
    const first = row * TABLE_ROW_BYTES;
    for (let bit = at; bit < at + bits; ) {
      const count = Math.min(8 - (bit % 8), at + bits - bit);
      this.bytes[first + (bit >> 3)]! |= ((1 << count) - 1) << (bit % 8);
      bit += count;
    }
  }

  /** Puts a number at a bit of what is added in elements of so many bytes. */
  #add(width: Size, at: number, value: bigint): void {
    let byte = TABLE_ROWS.add[width] * TABLE_ROW_BYTES + (at >> 3);
    for (let rest = value << BigInt(at % 8); rest !== 0n; rest >>= 8n)
      this.bytes[byte++]! |= Number(rest & 0xffn);
  }
}

/** The bit of its lane that a byte's lowest bit comes from, if bit `first` goes to bit `to`. */
const controlOf = (first: number, byte: number, to: number): number =>
  (first + byte * 8 - to + LANE_BYTES * 8) % (LANE_BYTES * 8);
