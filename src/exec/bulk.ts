// Loops that belong to a format. They take longer to make than a few records take to unpack, so they are made when
// enough records have gone by.

import { ArgumentError, EngineError } from '../errors.js';
import { type BulkCode, STREAM_PLACES } from '../jit/target.js';
import type { CodeArena, Routine } from './arena.js';
import {
  type BulkLoop,
  callLines,
  callStream,
  callStreams,
  callStride,
  callVectorStride,
  type Loops,
  type Span,
  type StreamEnded,
  type StrideRun,
} from './run.js';

/** Fewer are not worth the way to the first whole line. */
const LEAST_FOR_LINES = 128;

/** Streams of fewer keys, or of lengths that differ by more than this factor, are walked one by one. */
const LEAST_TOGETHER = 8;
const LENGTHS_TOGETHER = 4;

export interface Walked {
  readonly walk: StreamEnded;
  /** Those of `walk.count` keys, or room for more. */
  readonly offsets: Uint32Array;
}

export class LazyLoop {
  readonly #arena: CodeArena;
  readonly #make: () => BulkCode | undefined;
  #left: number;
  #made: BulkLoop | undefined;

  /** @param after how many records go by before it is made */
  constructor(arena: CodeArena, make: () => BulkCode | undefined, after: number) {
    this.#arena = arena;
    this.#make = make;
    this.#left = after;
  }

  /** The loop for the next `records` records; undefined while there were too few, and where it cannot be made. */
  take(records: number): BulkLoop | undefined {
    if (this.#left <= 0) return this.#made;
    this.#left -= records;
    if (this.#left <= 0) this.#made = this.#place();
    return this.#made;
  }

  /**
   * In a sealed arena, and where there is no memory for it, there is no such loop: it only makes things faster. Out of a helper function
   * it may not be placed, and the next call tries again.
   */
  #place(): BulkLoop | undefined {
    const bulk = this.#make();
    try {
      return bulk && { routine: this.#arena.place(bulk.code), overread: bulk.overread };
    } catch (error) {
      if (error instanceof EngineError) return undefined;
      if (!(error instanceof ArgumentError && error.code === 'A-IN-USE')) throw error;
      this.#left = 1;
      return undefined;
    }
  }

  free(): void {
    this.#made?.routine.free();
    this.#made = undefined;
  }
}

export interface FormatLoops {
  readonly stride: LazyLoop;
  readonly stream: LazyLoop;
  /** Several streams at once. */
  readonly streams: LazyLoop;
  /** For records so many bytes apart. */
  readonly lines: (stride: number) => LazyLoop;
}

/** All loops of a format: the best that has been made serves. */
export class BulkLoops {
  readonly #arena: CodeArena;
  readonly #routine: Routine;
  readonly #rest: Loops;
  readonly #own: FormatLoops;
  readonly #keyU64s: number;
  /** Line loops are for one stride; the last one is kept. */
  #lines: { readonly stride: number; readonly loop: LazyLoop } | undefined;

  constructor(arena: CodeArena, routine: Routine, rest: Loops, own: FormatLoops, keyU64s: number) {
    this.#arena = arena;
    this.#routine = routine;
    this.#rest = rest;
    this.#own = own;
    this.#keyU64s = keyU64s;
  }

  stride(run: StrideRun): void {
    const vector = this.#own.stride.take(run.count);
    if (!vector) {
      callStride(this.#arena, this.#rest.stride, this.#routine, run);
      return;
    }
    const lines = this.#linesFor(run);
    if (lines) callLines(this.#arena, lines, vector, this.#rest.stride, this.#routine, run);
    else callVectorStride(this.#arena, vector, this.#rest.stride, this.#routine, run);
  }

  stream(span: Span, offsets: Uint32Array): StreamEnded {
    return this.#walk(span, offsets, this.#own.stream.take(offsets.length));
  }

  /** Streams that are walked at once have their offsets in one array, so all offsets are made here. */
  streams(spans: readonly Span[]): Walked[] {
    let records = 0;
    for (const span of spans) records += span.records;
    const single = this.#own.stream.take(records);
    const isEnough = spans.length >= STREAM_PLACES.length;
    const together = isEnough ? this.#own.streams.take(records) : undefined;
    if (!together || !single) return spans.map((span) => this.#alone(span, single));
    // Most nodes have few: to sort them takes longer than to walk some.
    const all = spans.length === STREAM_PLACES.length && this.#together(spans, together, single);
    if (all) return all;
    const walked: Walked[] = new Array(spans.length);
    const longestFirst = [...spans.keys()].sort((a, b) => spans[b]!.records - spans[a]!.records);
    for (let i = 0; i < longestFirst.length; ) {
      const group = longestFirst.slice(i, i + STREAM_PLACES.length).map((at) => spans[at]!);
      const walks = this.#together(group, together, single) ?? [this.#alone(group[0]!, single)];
      for (const walk of walks) walked[longestFirst[i++]!] = walk;
    }
    return walked;
  }

  #alone(span: Span, vector: BulkLoop | undefined): Walked {
    const offsets = new Uint32Array(span.records);
    return { walk: this.#walk(span, offsets, vector), offsets };
  }

  #walk({ keys, start, end, out }: Span, offsets: Uint32Array, vector: BulkLoop | undefined): StreamEnded {
    const run = { keys, start, end, out, keyU64s: this.#keyU64s, offsets };
    return callStream(this.#arena, this.#rest.stream, this.#routine, run, vector);
  }

  /** A group of streams at once; undefined where there are too few, or too different ones. */
  #together(spans: readonly Span[], together: BulkLoop, single: BulkLoop): Walked[] | undefined {
    if (spans.length < STREAM_PLACES.length) return undefined;
    let [most, least] = [0, Number.POSITIVE_INFINITY];
    for (const { records } of spans) {
      most = Math.max(most, records);
      least = Math.min(least, records);
    }
    if (least < LEAST_TOGETHER || most > least * LENGTHS_TOGETHER) return undefined;
    const offsets = new Uint32Array((STREAM_PLACES.at(-1)! + 1) * most);
    const loops = { together, single, rest: this.#rest.stream };
    const walks = callStreams(this.#arena, loops, this.#routine, {
      spans,
      keyU64s: this.#keyU64s,
      most,
      offsets,
    });
    return walks.map((walk, i) => {
      const start = STREAM_PLACES[i]! * most;
      return { walk, offsets: offsets.subarray(start, start + walk.count) };
    });
  }

  free(): void {
    this.#own.stride.free();
    this.#own.stream.free();
    this.#own.streams.free();
    this.#lines?.loop.free();
  }

  #linesFor({ count, stride }: StrideRun): BulkLoop | undefined {
    if (count < LEAST_FOR_LINES) return undefined;
    if (this.#lines?.stride !== stride) {
      this.#lines?.loop.free();
      this.#lines = { stride, loop: this.#own.lines(stride) };
    }
    return this.#lines.loop.take(count);
  }
}
