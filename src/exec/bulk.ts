// Loops that belong to a format. They take longer to make than a few records take to unpack, so they are made when
// enough records have gone by.

import type { BulkCode } from '../jit/target.js';
import type { CodeArena, Routine } from './arena.js';
import {
  type BulkLoop,
  callLines,
  callStream,
  callStride,
  callVectorStride,
  type Loops,
  type StreamEnded,
  type StreamRun,
  type StrideRun,
} from './run.js';

// A loop takes about RECORDS_FOR_A_LOOP times as long to make as it saves a record.
const RECORDS_FOR_A_LOOP = 100_000;
/** Fewer are not worth the way to the first whole line. */
const LEAST_FOR_LINES = 128;

export class LazyLoop {
  readonly #arena: CodeArena;
  readonly #make: () => BulkCode | undefined;
  #left = RECORDS_FOR_A_LOOP;
  #made: BulkLoop | undefined;

  constructor(arena: CodeArena, make: () => BulkCode | undefined) {
    this.#arena = arena;
    this.#make = make;
  }

  /** The loop for the next `records` records; undefined while there were too few, and where it cannot be made. */
  take(records: number): BulkLoop | undefined {
    if (this.#left <= 0) return this.#made;
    this.#left -= records;
    if (this.#left > 0) return undefined;
    const bulk = this.#make();
    if (bulk) this.#made = { routine: this.#arena.place(bulk.code), overread: bulk.overread };
    return this.#made;
  }

  free(): void {
    this.#made?.routine.free();
    this.#made = undefined;
  }
}

export interface FormatLoops {
  readonly stride: LazyLoop;
  readonly stream: LazyLoop;
  /** For records so many bytes apart; undefined where lines are not to be used. */
  readonly lines: (stride: number) => LazyLoop | undefined;
}

/** All loops of a format: the best that has been made serves. */
export class BulkLoops {
  readonly #arena: CodeArena;
  readonly #routine: Routine;
  readonly #rest: Loops;
  readonly #own: FormatLoops;
  /** Line loops are for one stride; the last one is kept. */
  #lines: { readonly stride: number; readonly loop: LazyLoop | undefined } | undefined;

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

  free(): void {
    this.#own.stride.free();
    this.#own.stream.free();
    this.#lines?.loop?.free();
  }

  #linesFor({ count, stride }: StrideRun): BulkLoop | undefined {
    if (count < LEAST_FOR_LINES) return undefined;
    if (this.#lines?.stride !== stride) {
      this.#lines?.loop?.free();
      this.#lines = { stride, loop: this.#own.lines(stride) };
    }
    return this.#lines.loop?.take(count);
  }
}
