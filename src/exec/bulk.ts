// Loops that belong to a format. They take longer to make than a few records take to unpack, so they are made when
// enough records have gone by.

import { EngineError } from '../errors.js';
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
  type StreamEnded,
  type StreamRun,
  type StrideRun,
} from './run.js';

/** Fewer are not worth the way to the first whole line. */
const LEAST_FOR_LINES = 128;

/** Streams of fewer keys, or of lengths that differ by more than this factor, are walked one by one. */
const LEAST_TOGETHER = 8;
const LENGTHS_TOGETHER = 4;

export type StreamsEnded = StreamEnded & { readonly offsets: Uint32Array };

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
    if (this.#left > 0) return undefined;
    this.#made = this.#place();
    return this.#made;
  }

  /** In a sealed arena, and where there is no memory for it, there is no such loop: it only makes things faster. */
  #place(): BulkLoop | undefined {
    const bulk = this.#make();
    try {
      return bulk && { routine: this.#arena.place(bulk.code), overread: bulk.overread };
    } catch (error) {
      if (error instanceof EngineError) return undefined;
      throw error;
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
  /** Line loops are for one stride; the last one is kept. */
  #lines: { readonly stride: number; readonly loop: LazyLoop } | undefined;

  constructor(arena: CodeArena, routine: Routine, rest: Loops, own: FormatLoops) {
    this.#arena = arena;
    this.#routine = routine;
    this.#rest = rest;
    this.#own = own;
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

  stream(run: StreamRun): StreamEnded {
    const vector = this.#own.stream.take(run.offsets.length);
    return callStream(this.#arena, this.#rest.stream, this.#routine, run, vector);
  }

  /** `runs[i].offsets` is made here, because those of streams that are walked at once are parts of one array. */
  streams(runs: readonly Omit<StreamRun, 'offsets'>[], roomOf: readonly number[]): StreamsEnded[] {
    const ended: StreamsEnded[] = new Array(runs.length);
    const longestFirst = [...runs.keys()].sort((a, b) => roomOf[b]! - roomOf[a]!);
    for (let i = 0; i < longestFirst.length; ) {
      const group = longestFirst.slice(i, i + STREAM_PLACES.length);
      const together = this.#together(
        group.map((at) => runs[at]!),
        group.map((at) => roomOf[at]!),
      );
      if (together) {
        for (const [j, at] of group.entries()) ended[at] = together[j]!;
        i += group.length;
      } else {
        const at = longestFirst[i++]!;
        const offsets = new Uint32Array(roomOf[at]!);
        ended[at] = { ...this.stream({ ...runs[at]!, offsets }), offsets };
      }
    }
    return ended;
  }

  /** A group of streams at once, longest first; undefined where there are too few, or too different ones. */
  #together(
    runs: readonly Omit<StreamRun, 'offsets'>[],
    rooms: readonly number[],
  ): StreamsEnded[] | undefined {
    const [most, least] = [rooms[0]!, rooms.at(-1)!];
    if (runs.length < STREAM_PLACES.length || least < LEAST_TOGETHER || most > least * LENGTHS_TOGETHER)
      return undefined;
    const records = rooms.reduce((sum, room) => sum + room, 0);
    const loop = this.#own.streams.take(records);
    const single = this.#own.stream.take(records);
    if (!loop || !single) return undefined;
    const all = new Uint32Array((STREAM_PLACES.at(-1)! + 1) * most);
    const whole = runs.map((run, i): StreamRun => {
      const start = STREAM_PLACES[i]! * most;
      return { ...run, offsets: all.subarray(start, start + rooms[i]!) };
    });
    const walks = callStreams(this.#arena, loop, single, this.#rest.stream, this.#routine, whole);
    return walks.map((walk, i) => ({ ...walk, offsets: whole[i]!.offsets }));
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
