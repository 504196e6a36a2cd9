// What a user holds: a format made ready to unpack one record, many, or a stream of bcachefs keys.

import { constants } from 'node:buffer';
import { byteLength, overlap, overlapAny, part, requireBytes, requireInteger } from './bytes.js';
import {
  type Column,
  type ColumnOptions,
  type ColumnTarget,
  columnArrays,
  spreadRecords,
  targetOf,
  wantedColumns,
} from './columns.js';
import { ArgumentError } from './errors.js';
import { BKEY_BYTES, BKEY_U64S } from './format/bkey.js';
import type { Format } from './format/model.js';
import { STREAM_END, type StreamWalk, streamReason } from './format/stream.js';

export const ENGINES = ['bpf', 'native', 'table', 'interpreter', 'reference'] as const;
export type EngineName = (typeof ENGINES)[number];

/** A way to unpack. Buffers have been checked: long enough, and apart. */
export interface Engine {
  readonly name: EngineName;
  one(packed: Uint8Array, out: Uint8Array): void;
  many(packed: Uint8Array, count: number, stride: number, out: Uint8Array): void;
  /** `offsets` has an entry for each of the span's records. */
  stream(span: StreamSpan, offsets: Uint32Array): StreamWalk;
  /** Several streams, where that is faster than one after the other. */
  streams?(spans: readonly StreamSpan[]): Walked[];
  /** Columns straight from packed records; false where it cannot, and nothing is done. */
  columns?(packed: Uint8Array, count: number, stride: number, targets: readonly ColumnTarget[]): boolean;
  /** Where it runs as machine code: its bytes. */
  readonly codeBytes?: number;
  /** What it uses of the CPU for many records. */
  readonly tier?: () => string;
  readonly addressOf?: (bytes: Uint8Array) => bigint;
  dispose(): void;
}

/** Bytes start … end - 1 of `keys`, and room for `records` keys. */
export interface StreamSpan {
  readonly keys: Uint8Array;
  readonly start: number;
  readonly end: number;
  readonly out: Uint8Array;
  readonly records: number;
}

export interface Walked {
  readonly walk: StreamWalk;
  /** Those of `walk.count` keys, or room for more. */
  readonly offsets: Uint32Array;
}

export interface StreamOptions {
  /** The stream is bytes `start` (default 0) to `end` (default: all) of the keys. */
  readonly start?: number;
  readonly end?: number;
  /** How many keys to unpack at most. */
  readonly maxRecords?: number;
  /** 40 bytes a key; default: a new buffer for as many keys as there can be. */
  readonly out?: Uint8Array;
}

export interface StreamResult {
  /** 40 bytes for each key. */
  readonly out: Uint8Array;
  readonly count: number;
  /** Byte offset behind the last key decoded. */
  readonly end: number;
  /** Byte offset of each key in `keys`. Streams that were walked at once have theirs in one buffer. */
  readonly offsets: Uint32Array;
  /** Set when a malformed key ended the walk; `offset` is its byte offset in `keys`. */
  readonly stoppedAt?: { readonly offset: number; readonly reason: string };
}

export class Unpacker {
  readonly format: Format;
  /** The engine in use. */
  readonly engine: EngineName;
  readonly #reason: () => string;
  #engine: Engine | undefined;
  /** Where a record goes before it is copied: V8 takes 0.3 µs to give a new small buffer an address, and 0.02 to copy it. */
  #record: Uint8Array | undefined;

  /** @internal Unpackers come from `createUnpacker`. */
  constructor(format: Format, engine: Engine, reason: () => string) {
    this.format = format;
    this.engine = engine.name;
    this.#reason = reason;
    this.#engine = engine;
  }

  /** Why it is in use: it was asked for, or what 'auto' found, and then after how many records the format gets loops of its own. */
  get reason(): string {
    return this.#reason();
  }

  /** Bytes of machine code of the routine; undefined where there is none. */
  get codeBytes(): number | undefined {
    return this.#live().codeBytes;
  }

  /**
   * The best that it may use of the CPU for many records: 'scalar', 'avx2' or 'avx512'; undefined where that is not its choice. Formats that
   * do not lend themselves to vectors stay with scalar code.
   */
  get tier(): string | undefined {
    return this.#live().tier?.();
  }

  /**
   * Unpacks one record.
   * @param packed at least `format.packedBytes` bytes
   * @param out at least `format.unpackedBytes` bytes, apart from `packed`; default: a new buffer
   * @returns the `format.unpackedBytes` bytes of `out`
   * @throws ArgumentError 'A-TYPE', 'A-LENGTH', 'A-OVERLAP' or 'A-DISPOSED'
   */
  unpack(packed: Uint8Array, out?: Uint8Array): Uint8Array {
    const engine = this.#live();
    const { packedBytes, unpackedBytes } = this.format;
    const bytes = requireBytes(packed, packedBytes, 'packed');
    if (out === undefined && unpackedBytes <= ON_HEAP_BYTES) {
      this.#record ??= new Uint8Array(new ArrayBuffer(unpackedBytes));
      engine.one(bytes, this.#record);
      return new Uint8Array(this.#record);
    }
    const record = outBuffer(out, unpackedBytes);
    requireApart(engine, bytes, record, 0, packedBytes);
    engine.one(bytes, record);
    return record;
  }

  /**
   * Unpacks `count` records that lie `stride` bytes apart.
   * @param packed at least `(count - 1) * stride + format.packedBytes` bytes, if count is not 0
   * @param options.stride at least 1; default: `format.packedBytes`
   * @param options.out at least `count * format.unpackedBytes` bytes; default: a new buffer
   * @returns the `count * format.unpackedBytes` bytes of `out`
   * @throws ArgumentError as `unpack`, and 'A-RANGE' or 'A-SIZE'
   */
  unpackMany(
    packed: Uint8Array,
    count: number,
    options: { readonly stride?: number; readonly out?: Uint8Array } = {},
  ): Uint8Array {
    const engine = this.#live();
    const { packedBytes, unpackedBytes } = this.format;
    const { stride, out } = options ?? {};
    requireInteger(count, 0, constants.MAX_LENGTH, 'count');
    if (stride !== undefined) requireInteger(stride, 1, constants.MAX_LENGTH, 'stride');
    const distance = stride ?? packedBytes;
    const used = count === 0 ? 0 : (count - 1) * distance + packedBytes;
    const bytes = requireBytes(packed, used, 'packed');
    const records = outBuffer(out, count * unpackedBytes);
    requireApart(engine, bytes, records, 0, used);
    if (count > 0) engine.many(bytes, count, distance, records);
    return records;
  }

  /**
   * Unpacks fields of `count` records into an array for each field. An element has the fewest of 8, 16, 32 and 64 bits that hold the
   * field's destination: Uint8Array, Uint16Array, Uint32Array or BigUint64Array, and for signed fields Int8Array … BigInt64Array.
   * Its value is what the destination's bits hold in the unpacked record.
   * @param packed at least `(count - 1) * stride + format.packedBytes` bytes, if count is not 0
   * @returns a property for each column, by the field's name, with an array of `count` elements
   * @throws ArgumentError as `unpackMany`, and 'A-COLUMN' for a name that no field has, that several have, or that is given twice
   */
  unpackColumns(packed: Uint8Array, count: number, options: ColumnOptions = {}): Record<string, Column> {
    const engine = this.#live();
    const { packedBytes } = this.format;
    const { stride, columns, out } = options ?? {};
    requireInteger(count, 0, constants.MAX_LENGTH, 'count');
    if (stride !== undefined) requireInteger(stride, 1, constants.MAX_LENGTH, 'stride');
    const wanted = wantedColumns(this.format, columns, out);
    const distance = stride ?? packedBytes;
    const used = count === 0 ? 0 : (count - 1) * distance + packedBytes;
    const bytes = part(requireBytes(packed, used, 'packed'), 0, used);
    const arrays = columnArrays(wanted, count);
    const targets = wanted.map(({ spec }, i) => targetOf(spec, arrays[i]!));
    const outs = targets.map((target) => target.bytes);
    if (overlapAny([{ keys: bytes, start: 0, end: used }], outs, engine.addressOf))
      throw overlappingColumns();
    if (count > 0 && !engine.columns?.(bytes, count, distance, targets))
      spreadRecords(this.format, engine.many, { packed: bytes, count, stride: distance }, targets);
    return Object.fromEntries(wanted.map(({ spec }, i) => [spec.name, arrays[i]!]));
  }

  /**
   * Unpacks a stream of bcachefs keys, packed and unpacked ones mixed; unpacked ones are copied. Stops at the
   * first malformed key, and when `maxRecords` or `out` is full.
   * @throws ArgumentError with code 'A-FORMAT' if the format is not a bcachefs key format
   */
  unpackStream(keys: Uint8Array, options: StreamOptions = {}): StreamResult {
    const engine = this.#live();
    const span = this.#streamSpan(keys, options ?? {});
    requireApart(engine, span.keys, span.out, span.start, span.end);
    const { walk, offsets } = walkAlone(engine, span);
    return this.#streamResult(span, walk, offsets);
  }

  /**
   * Unpacks several streams of the format, such as the bsets of a node, as `unpackStream` does each: the engine 'bpf' takes four
   * at a time, which is faster than one after the other.
   * @throws ArgumentError as `unpackStream`, and 'A-OVERLAP' if the `out` of one is in the keys or the `out` of another
   */
  unpackStreams(streams: readonly (StreamOptions & { readonly keys: Uint8Array })[]): StreamResult[] {
    const engine = this.#live();
    if (!Array.isArray(streams)) {
      throw new ArgumentError(
        'A-TYPE',
        'streams must be an array of { keys, start?, end?, maxRecords?, out? }',
      );
    }
    // All are read before any is checked: reading may run code of the caller's.
    const given: ReturnType<typeof read>[] = [];
    for (let i = 0; i < streams.length; i++) given.push(read(streams[i]));
    const spans = given.map((stream) => this.#streamSpan(stream.keys, stream));
    const outs = spans.map(({ out }) => out);
    if (overlapAny(spans, outs, engine.addressOf)) throw overlapping();
    const walks = engine.streams?.(spans) ?? spans.map((span) => walkAlone(engine, span));
    return walks.map(({ walk, offsets }, i) => this.#streamResult(spans[i]!, walk, offsets));
  }

  /** Gives the machine code back. The unpacker cannot be used any more; disposing twice is harmless. */
  dispose(): void {
    this.#engine?.dispose();
    this.#engine = undefined;
  }

  #streamSpan(given: Uint8Array, options: StreamOptions): StreamSpan {
    const { out, maxRecords, start = 0, end: last } = options;
    const { keyU64s } = this.format;
    if (keyU64s === undefined) {
      throw new ArgumentError(
        'A-FORMAT',
        'only bcachefs key formats have streams: make the format with bkeyFormat',
      );
    }
    const keys = requireBytes(given, 0, 'keys');
    const end = last === undefined ? byteLength(keys) : last;
    requireInteger(end, 0, Math.min(byteLength(keys), MAX_STREAM_BYTES), 'end');
    requireInteger(start, 0, end, 'start');
    const possible = Math.floor((end - start) / (8 * Math.min(keyU64s, BKEY_U64S)));
    const most = maxRecords === undefined ? possible : maxRecords;
    requireInteger(most, 0, Number.MAX_SAFE_INTEGER, 'maxRecords');
    const room = out ? Math.floor(byteLength(requireBytes(out, 0, 'out')) / BKEY_BYTES) : possible;
    const records = Math.min(most, possible, room);
    return { keys, start, end, out: outBuffer(out, records * BKEY_BYTES), records };
  }

  #streamResult({ keys, end, out }: StreamSpan, walk: StreamWalk, offsets: Uint32Array): StreamResult {
    const { position, count, ended } = walk;
    const result = {
      out: byteLength(out) === count * BKEY_BYTES ? out : part(out, 0, count * BKEY_BYTES),
      count,
      end: position,
      offsets: offsets.length === count ? offsets : offsets.subarray(0, count),
    };
    if (ended === STREAM_END.end || ended === STREAM_END.count) return result;
    const reason = streamReason(keys, position, end, this.format.keyU64s!, ended);
    return { ...result, stoppedAt: { offset: position, reason } };
  }

  #live(): Engine {
    if (this.#engine) return this.#engine;
    throw new ArgumentError('A-DISPOSED', 'this unpacker has been disposed of');
  }
}

/** Buffers of no more bytes are parts of V8's heap until somebody asks for their address. */
const ON_HEAP_BYTES = 64;

/** Offsets of keys are 32-bit numbers. */
const MAX_STREAM_BYTES = 2 ** 32 - 1;

function outBuffer(out: Uint8Array | undefined, bytes: number): Uint8Array {
  if (out === undefined) {
    if (bytes > constants.MAX_LENGTH) {
      throw new ArgumentError(
        'A-SIZE',
        `the records would take ${bytes} bytes, more than a buffer can have; unpack fewer at a time`,
      );
    }
    return new Uint8Array(bytes);
  }
  const given = requireBytes(out, bytes, 'out');
  return byteLength(given) === bytes ? given : part(given, 0, bytes);
}

/** Each property once. */
function read(stream: StreamOptions & { readonly keys: Uint8Array }): typeof stream {
  const { keys, start, end, maxRecords, out } = stream ?? {};
  return { keys, start, end, maxRecords, out } as typeof stream;
}

function walkAlone(engine: Pick<Engine, 'stream'>, span: StreamSpan): Walked {
  const offsets = new Uint32Array(span.records);
  return { walk: engine.stream(span, offsets), offsets };
}

/** That `out` is apart from bytes start … end - 1 of `packed`. */
function requireApart(engine: Engine, packed: Uint8Array, out: Uint8Array, start: number, end: number): void {
  if (overlap(packed, start, end, out, byteLength(out), engine.addressOf)) throw overlapping();
}

const overlapping = () =>
  new ArgumentError('A-OVERLAP', 'the packed bytes and out overlap; a record cannot be unpacked over itself');

const overlappingColumns = () =>
  new ArgumentError('A-OVERLAP', 'a column overlaps the packed bytes or another column');
