// Many records in one crossing from JavaScript: the loops around a routine are fixed pieces of machine code,
// placed once an arena. They give the routine, by their own checks, exactly what it was proven under; that the
// buffers are long enough for the counts and strides is the caller's to check.

import { byteLength } from '../bytes.js';
import { hostTarget } from '../jit/host.js';
import { LINE_STATE, STREAM_PLACES, STREAM_STATE, STREAM_WORDS, STRIDE_STATE } from '../jit/target.js';
import { type CodeArena, callLoop, callRecord, type Routine } from './arena.js';
import { libc, type NativeArg } from './libc.js';

/** 64-bit words of a loop's state, written and read as two halves each: numbers take a third of the time that BigInts do. */
export class Words {
  readonly all: BigUint64Array;
  readonly #halves: Uint32Array;

  constructor(length: number) {
    this.all = new BigUint64Array(length);
    this.#halves = new Uint32Array(this.all.buffer);
  }

  set(at: number, value: number): void {
    this.#halves[2 * at] = value;
    this.#halves[2 * at + 1] = value / 2 ** 32;
  }

  get(at: number): number {
    return this.#halves[2 * at]! + this.#halves[2 * at + 1]! * 2 ** 32;
  }
}

const wordsOf = (state: object): Words => new Words(Object.keys(state).length);
const OFFSET_BYTES = Uint32Array.BYTES_PER_ELEMENT;
const STREAM_LENGTH = Object.keys(STREAM_WORDS).length;
// The loops' states. A call is over before the next one begins, so one of each is enough; making one takes 0.3 µs.
const STRIDE = wordsOf(STRIDE_STATE);
const LINES = wordsOf(LINE_STATE);
const STREAM = wordsOf(STREAM_STATE);
const STREAMS = new Words(STREAM_LENGTH * STREAM_PLACES.length);

/** The loops around any record routine. */
export interface Loops {
  readonly stride: Routine;
  readonly stream: Routine;
}

const placed = new WeakMap<CodeArena, Loops>();

/** The loops of an arena, placed there at their first use. */
export function loopsIn(arena: CodeArena): Loops {
  const found = placed.get(arena);
  if (found) return found;
  const target = hostTarget();
  const loops = {
    stride: arena.place(target.fixedStrideLoop()),
    stream: arena.place(target.keyStreamLoop()),
  };
  placed.set(arena, loops);
  return loops;
}

/** Vector code and what a call has to know of it. */
export interface BulkLoop {
  readonly routine: Routine;
  /** Bytes behind a record that it may read. */
  readonly overread: number;
}

export interface StrideRun {
  readonly out: Uint8Array;
  readonly packed: Uint8Array;
  readonly count: number;
  readonly stride: number;
  readonly outStride: number;
}

/** Calls `routine(out, packed)`. */
export function callOnce(arena: CodeArena, routine: Routine, out: Uint8Array, packed: Uint8Array): void {
  callRecord(arena, routine, address(out), address(packed));
}

/** Calls `routine(out + i * outStride, packed + i * stride)` for each i below `count`. */
export function callStride(arena: CodeArena, loop: Routine, routine: Routine, run: StrideRun): void {
  callLoop(arena, loop, [
    routine.address,
    address(run.out),
    address(run.packed),
    BigInt(run.count),
    BigInt(run.stride),
    BigInt(run.outStride),
  ]);
}

/** The same by vector code; the last records, behind which too few bytes are left to read, by `routine` in the loop `rest`. */
export function callVectorStride(
  arena: CodeArena,
  { routine: loop, overread }: BulkLoop,
  rest: Routine,
  routine: Routine,
  { out, packed, count, stride }: StrideRun,
): void {
  const slow = Math.min(count, Math.ceil(overread / stride));
  STRIDE.set(STRIDE_STATE.fast, count - slow);
  STRIDE.set(STRIDE_STATE.count, slow);
  STRIDE.set(STRIDE_STATE.stride, stride);
  callLoop(arena, loop, [STRIDE.all, routine.address, address(out), address(packed), rest.address, 0n]);
}

/** Output beyond this many bytes is stored past the caches: the second-level cache of CPUs with AVX-512 has 1 or 2 MiB. */
const STREAMING_BYTES = 2 ** 21;

/** The same, for at least 128 records, by whole lines of output from the first to the last; by `vector` before and behind them. */
export function callLines(
  arena: CodeArena,
  lines: BulkLoop,
  vector: BulkLoop,
  rest: Routine,
  routine: Routine,
  { out, packed, count, stride, outStride }: StrideRun,
): void {
  LINES.set(LINE_STATE.count, count);
  LINES.set(LINE_STATE.stride, stride);
  LINES.set(LINE_STATE.late, Math.ceil(lines.overread / stride));
  LINES.set(LINE_STATE.slow, Math.ceil(vector.overread / stride));
  LINES.all[LINE_STATE.vector] = vector.routine.address;
  LINES.set(LINE_STATE.streaming, count * outStride > STREAMING_BYTES ? 1 : 0);
  callLoop(arena, lines.routine, [
    LINES.all,
    routine.address,
    address(out),
    address(packed),
    rest.address,
    0n,
  ]);
}

/** Bytes start … end - 1 of `keys`, and 40 bytes of `out` for each record. */
interface Stream {
  readonly keys: Uint8Array;
  readonly start: number;
  readonly end: number;
  readonly out: Uint8Array;
}

export interface StreamRun extends Stream {
  /** Words of a packed key. */
  readonly keyU64s: number;
  /** An entry for each record. */
  readonly offsets: Uint32Array;
}

/** A stream, and how many records there is room for. */
export interface Span extends Stream {
  readonly records: number;
}

/** As many streams as STREAM_PLACES has, each of at least 8 bytes. */
export interface StreamsRun {
  readonly spans: readonly Span[];
  readonly keyU64s: number;
  /** No stream has room for more records. */
  readonly most: number;
  /** Those of each stream at STREAM_PLACES, in units of `most`. */
  readonly offsets: Uint32Array;
}

/** As STREAM_STATE. */
export interface StreamEnded {
  readonly position: number;
  readonly count: number;
  readonly ended: number;
}

/**
 * Walks a key stream.
 * @param vector goes first, as far as it gets
 */
export function callStream(
  arena: CodeArena,
  loop: Routine,
  routine: Routine,
  run: StreamRun,
  vector?: BulkLoop,
): StreamEnded {
  const records = run.offsets.length;
  beginStream(STREAM, 0, run, records, run.keyU64s);
  callLoop(arena, vector?.routine ?? loop, [
    STREAM.all,
    routine.address,
    address(run.out),
    address(run.keys),
    records === 0 ? 0n : run.offsets,
    vector ? loop.address : 0n,
  ]);
  return endedStream(STREAM, 0);
}

/** The loop over all streams at once; the vector loop for what is left of each, and the loop for what that leaves. */
export interface StreamsLoops {
  readonly together: BulkLoop;
  readonly single: BulkLoop;
  readonly rest: Routine;
}

/** Walks several key streams at once. */
export function callStreams(
  arena: CodeArena,
  { together, single, rest }: StreamsLoops,
  routine: Routine,
  { spans, keyU64s, most, offsets }: StreamsRun,
): StreamEnded[] {
  const { addressOf } = libc();
  const { all } = STREAMS;
  const first = Number(addressOf(offsets));
  let least = most;
  for (let i = 0; i < spans.length; i++) {
    const span = spans[i]!;
    const at = i * STREAM_LENGTH;
    const keys = at + STREAM_WORDS.keys;
    beginStream(STREAMS, at, span, span.records, keyU64s);
    all[at + STREAM_WORDS.out] = addressOf(span.out);
    all[keys] = span.keys === spans[i - 1]?.keys ? all[keys - STREAM_LENGTH]! : addressOf(span.keys);
    STREAMS.set(at + STREAM_WORDS.offsets, first + STREAM_PLACES[i]! * most * OFFSET_BYTES);
    least = Math.min(least, span.records);
  }
  callLoop(arena, together.routine, [
    all,
    routine.address,
    single.routine.address,
    rest.address,
    BigInt(least),
    0n,
  ]);
  return spans.map((_, i) => endedStream(STREAMS, i * STREAM_LENGTH));
}

/** Writes the words of a stream of which nothing is done, from word `at` of a state on. */
export function beginStream(
  state: Words,
  at: number,
  { start, end }: Stream,
  records: number,
  keyU64s: number,
): void {
  state.set(at + STREAM_STATE.position, start);
  state.set(at + STREAM_STATE.end, end);
  state.set(at + STREAM_STATE.most, records);
  state.set(at + STREAM_STATE.count, 0);
  state.set(at + STREAM_STATE.keyU64s, keyU64s);
}

/** How far a stream has got, from its words. */
export const endedStream = (state: Words, at: number): StreamEnded => ({
  position: state.get(at + STREAM_STATE.position),
  count: state.get(at + STREAM_STATE.count),
  ended: state.get(at + STREAM_STATE.ended),
});

/** koffi passes a view by its address; an empty one has none. */
const address = (bytes: Uint8Array): NativeArg => (byteLength(bytes) === 0 ? 0n : bytes);
