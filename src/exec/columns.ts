// Calls of column loops. A loop is for some columns at one stride; the last few are kept.

import { COLUMN_STATE } from '../jit/target.js';
import { type CodeArena, callLoop } from './arena.js';
import type { LazyLoop } from './bulk.js';
import { libc } from './libc.js';

const MOST_LOOPS = 4;

export interface ColumnRun {
  readonly packed: Uint8Array;
  readonly count: number;
  readonly stride: number;
  /** For each column its elements. */
  readonly columns: readonly Uint8Array[];
}

export class ColumnLoops {
  readonly #arena: CodeArena;
  /** By the columns and the stride, the one that was used last at the end. */
  readonly #loops = new Map<string, LazyLoop>();

  constructor(arena: CodeArena) {
    this.#arena = arena;
  }

  /**
   * @param key of the columns and the stride; `make` is asked for a loop that is not kept
   * @returns whether there is a loop; else nothing was done
   */
  run(key: string, make: () => LazyLoop, { packed, count, stride, columns }: ColumnRun): boolean {
    const loop = this.#loopFor(key, make).take(count);
    if (!loop) return false;
    const { addressOf } = libc();
    const state = new BigUint64Array(COLUMN_STATE.columns + columns.length);
    const slow = Math.min(count, Math.ceil(loop.overread / stride));
    state[COLUMN_STATE.count] = BigInt(count);
    state[COLUMN_STATE.fast] = BigInt(count - slow);
    columns.forEach((column, i) => {
      state[COLUMN_STATE.columns + i] = addressOf(column);
    });
    callLoop(this.#arena, loop.routine, [state, packed, 0n, 0n, 0n, 0n]);
    return true;
  }

  #loopFor(key: string, make: () => LazyLoop): LazyLoop {
    const loop = this.#loops.get(key) ?? make();
    this.#loops.delete(key);
    this.#loops.set(key, loop);
    const [oldest] = this.#loops.keys();
    if (this.#loops.size > MOST_LOOPS) {
      this.#loops.get(oldest!)!.free();
      this.#loops.delete(oldest!);
    }
    return loop;
  }

  free(): void {
    for (const loop of this.#loops.values()) loop.free();
    this.#loops.clear();
  }
}
