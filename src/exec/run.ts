// Many records in one crossing from JavaScript: the loops around a routine are fixed pieces of machine code,
// placed once an arena. They give the routine, by their own checks, exactly what it was proven under; that the
// buffers are long enough for the counts and strides is the caller's to check.

import { byteLength } from '../bytes.js';
import { hostTarget } from '../jit/host.js';
import { LINE_STATE, STREAM_STATE, STREAM_WORDS, STRIDE_STATE } from '../jit/target.js';
import { type CodeArena, callLoop, callRecord, type Routine } from './arena.js';
import { libc, type NativeArg } from './libc.js';

const words = (state: object): BigUint64Array => new BigUint64Array(Object.keys(state).length);
// The loops' states. A call is over before the next one begins, so one of each is enough; making one takes 0.3 µs.
const STRIDE = words(STRIDE_STATE);
const LINES = words(LINE_STATE);
const STREAM = words(STREAM_STATE);
const STREAM_LENGTH = Object.keys(STREAM_WORDS).length;

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
  STRIDE[STRIDE_STATE.fast] = BigInt(count - slow);
  STRIDE[STRIDE_STATE.count] = BigInt(slow);
  STRIDE[STRIDE_STATE.stride] = BigInt(stride);
  callLoop(arena, loop, [STRIDE, routine.address, address(out), address(packed), rest.address, 0n]);
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
  LINES[LINE_STATE.count] = BigInt(count);
  LINES[LINE_STATE.stride] = BigInt(stride);
  LINES[LINE_STATE.late] = BigInt(Math.ceil(lines.overread / stride));
  LINES[LINE_STATE.slow] = BigInt(Math.ceil(vector.overread / stride));
  LINES[LINE_STATE.vector] = vector.routine.address;
  LINES[LINE_STATE.streaming] = count * outStride > STREAMING_BYTES ? 1n : 0n;
  callLoop(arena, lines.routine, [LINES, routine.address, address(out), address(packed), rest.address, 0n]);
}

/** The key stream in bytes [start, end) of `keys`. */
export interface StreamRun {
  readonly out: Uint8Array;
  readonly keys: Uint8Array;
  readonly start: number;
  readonly end: number;
  readonly keyU64s: number;
  /** An entry for each record that `out` has room for. */
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
  begin(STREAM, 0, run);
  const offsets = run.offsets.length === 0 ? 0n : run.offsets;
  const rest = vector ? loop.address : 0n;
  callLoop(arena, vector?.routine ?? loop, [
    STREAM,
    routine.address,
    address(run.out),
    address(run.keys),
    offsets,
    rest,
  ]);
  return ended(STREAM, 0);
}

/**
 * Walks as many key streams of at least 8 bytes at once as STREAM_PLACES says, and where in one array their `offsets` are.
 * @param single is the vector loop for what is left of each
 */
export function callStreams(
  arena: CodeArena,
  loop: BulkLoop,
  single: BulkLoop,
  rest: Routine,
  routine: Routine,
  runs: readonly StreamRun[],
): StreamEnded[] {
  const { addressOf } = libc();
  const state = new BigUint64Array(STREAM_LENGTH * runs.length);
  const first = runs[0]!.offsets;
  const offsets = addressOf(first) - BigInt(first.byteOffset);
  runs.forEach((run, i) => {
    begin(state, i * STREAM_LENGTH, run);
    state[i * STREAM_LENGTH + STREAM_WORDS.out] = addressOf(run.out);
    state[i * STREAM_LENGTH + STREAM_WORDS.keys] = addressOf(run.keys);
    state[i * STREAM_LENGTH + STREAM_WORDS.offsets] = offsets + BigInt(run.offsets.byteOffset);
  });
  const most = BigInt(Math.min(...runs.map((run) => run.offsets.length)));
  callLoop(arena, loop.routine, [state, routine.address, single.routine.address, rest.address, most, 0n]);
  return runs.map((_, i) => ended(state, i * STREAM_LENGTH));
}

/** The words of a stream, from word `at` of a state on. */
function begin(state: BigUint64Array, at: number, { start, end, offsets, keyU64s }: StreamRun): void {
  state[at + STREAM_STATE.position] = BigInt(start);
  state[at + STREAM_STATE.end] = BigInt(end);
  state[at + STREAM_STATE.most] = BigInt(offsets.length);
  state[at + STREAM_STATE.count] = 0n;
  state[at + STREAM_STATE.keyU64s] = BigInt(keyU64s);
}

const ended = (state: BigUint64Array, at: number): StreamEnded => ({
  position: Number(state[at + STREAM_STATE.position]),
  count: Number(state[at + STREAM_STATE.count]),
  ended: Number(state[at + STREAM_STATE.ended]),
});

/** koffi passes a view by its address; an empty one has none. */
const address = (bytes: Uint8Array): NativeArg => (byteLength(bytes) === 0 ? 0n : bytes);
