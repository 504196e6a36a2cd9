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

interface KeptLoop {
  readonly stride: number;
  /** What tells its columns from others, one for each. */
  readonly keys: readonly number[];
  readonly loop: LazyLoop;
}

export class ColumnLoops {
  readonly #arena: CodeArena;
  /** The one that was used last comes last. */
  readonly #kept: KeptLoop[] = [];

  constructor(arena: CodeArena) {
    this.#arena = arena;
  }

  /**
   * @param keys tell the columns from others; `make` is asked for a loop that is not kept
   * @returns whether there is a loop; else nothing was done
   */
  run(keys: readonly number[], make: () => LazyLoop, { packed, count, stride, columns }: ColumnRun): boolean {
    const loop = this.#loopFor(keys, stride, make).take(count);
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

  #loopFor(keys: readonly number[], stride: number, make: () => LazyLoop): LazyLoop {
    const found = this.#kept.findIndex(
      (one) =>
        one.stride === stride &&
        one.keys.length === keys.length &&
        one.keys.every((key, i) => key === keys[i]),
    );
    const [kept] = found === -1 ? [{ stride, keys, loop: make() }] : this.#kept.splice(found, 1);
    this.#kept.push(kept!);
    if (this.#kept.length > MOST_LOOPS) this.#kept.shift()!.loop.free();
    return kept!.loop;
  }

  free(): void {
    for (const { loop } of this.#kept.splice(0)) loop.free();
  }
}
