// Loops that belong to a format. They take longer to make than a few records take to unpack, so they are made when
// enough records have gone by.

import type { BulkCode } from '../jit/target.js';
import type { CodeArena, Routine } from './arena.js';

/** Vector code and what a call has to know of it. */
export interface BulkLoop {
  readonly routine: Routine;
  /** Bytes behind a record that it may read. */
  readonly overread: number;
}

export class LazyLoop {
  readonly #arena: CodeArena;
  readonly #make: () => BulkCode | undefined;
  #left: number;
  #made: BulkLoop | undefined;

  /** @param after how many records go by before the loop is made */
  constructor(arena: CodeArena, make: () => BulkCode | undefined, after: number) {
    this.#arena = arena;
    this.#make = make;
    this.#left = after;
  }

  /** The loop for the next `records` records; undefined while there are too few, and where it cannot be made. */
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
