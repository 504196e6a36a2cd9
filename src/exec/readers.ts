// Which threads may be in code that has been replaced or freed: reclamation by epochs (K. Fraser, "Practical lock-freedom", 2004).
//
// A thread that calls says first in what epoch, then looks up the code; and takes its word back when the call is over. The owner
// swaps the code first, then ends the epoch, then looks at the words. All of it is sequentially consistent: either the owner sees the
// word, or the thread sees the new code. What was swapped out in an epoch is given up when no thread calls in that one or an earlier one.

import { readFileSync } from 'node:fs';
import { ArgumentError, EngineError } from '../errors.js';
import { type SharedTable, THREAD } from './shared-table.js';

/** Whether a thread is still there is looked up at most this often: it takes some 10 µs. */
const LOOK_EVERY_MS = 10;
const TAKING = -1;

/** The thread that asks, as the kernel knows it. Thread ids are used again, but not with the same start. */
function thisThread(): { id: number; start: number } {
  const stat = ownStat();
  return { id: Number.parseInt(stat, 10), start: startIn(stat) };
}

function ownStat(): string {
  try {
    return readFileSync('/proc/thread-self/stat', 'utf8');
  } catch (cause) {
    throw new EngineError(
      'E-SYSTEM',
      `/proc/thread-self/stat cannot be read: ${(cause as Error).message}`,
      {},
      { cause },
    );
  }
}

/** Clock ticks since the machine started, field 22; the second one may hold spaces and parentheses. */
const startIn = (stat: string): number => Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]) | 0;

function isAlive(id: number, start: number): boolean {
  try {
    return startIn(readFileSync(`/proc/self/task/${id}/stat`, 'utf8')) === start;
  } catch (error) {
    return !['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code!);
  }
}

/** A thread's place in the table, from which it calls code. */
export class Reader {
  readonly #table: SharedTable;
  readonly #at: number;
  #isAttached = true;

  /** @throws EngineError 'E-THREADS' where all places are taken by threads that live */
  constructor(table: SharedTable) {
    this.#table = table;
    this.#at = takePlace(table);
  }

  enter(): void {
    Atomics.store(this.#table.words, this.#at + THREAD.epoch, this.#table.epoch);
  }

  leave(): void {
    Atomics.store(this.#table.words, this.#at + THREAD.epoch, 0);
  }

  /** Detaching twice is harmless: by then somebody else may have the place. */
  detach(): void {
    if (!this.#isAttached) return;
    this.#isAttached = false;
    this.leave();
    Atomics.store(this.#table.words, this.#at + THREAD.id, 0);
  }
}

/** Takes a place that nobody has, or whose thread is gone. While it is being taken its id is TAKING, so that nobody else takes it. */
function takePlace(table: SharedTable): number {
  const { words } = table;
  const { id, start } = thisThread();
  for (let index = 0; index < table.threads; index++) {
    const at = table.threadAt(index);
    const holder = Atomics.load(words, at + THREAD.id);
    if (holder === TAKING) continue;
    if (holder !== 0 && isAlive(holder, Atomics.load(words, at + THREAD.start))) continue;
    if (Atomics.compareExchange(words, at + THREAD.id, holder, TAKING) !== holder) continue;
    Atomics.store(words, at + THREAD.epoch, 0);
    Atomics.store(words, at + THREAD.start, start);
    Atomics.store(words, at + THREAD.id, id);
    return at;
  }
  throw new EngineError(
    'E-THREADS',
    `${table.threads} threads are attached to this arena, as many as it was shared for: share({ threads }) with more`,
  );
}

interface Found {
  readonly id: number;
  readonly start: number;
  readonly gone: boolean;
  readonly looked: number;
}

/** The owner's view of the threads. */
export class Readers {
  readonly #table: SharedTable;
  /** What was last found of the threads that were in calls, by place. */
  readonly #found = new Map<number, Found>();

  constructor(table: SharedTable) {
    this.#table = table;
  }

  /** The earliest epoch that a thread calls code in; undefined if none does. */
  oldest(): number | undefined {
    const { words, threads } = this.#table;
    let oldest: number | undefined;
    for (let index = 0; index < threads; index++) {
      const at = this.#table.threadAt(index);
      const epoch = Atomics.load(words, at + THREAD.epoch);
      if (epoch === 0 || (oldest !== undefined && !isBefore(epoch, oldest)) || this.#isGone(at)) continue;
      oldest = epoch;
    }
    return oldest;
  }

  /**
   * Whether the thread whose epoch has just been read ended in the middle of a call, by worker.terminate(). Its word is not taken back:
   * a thread that takes the place meanwhile may have written the same.
   */
  #isGone(at: number): boolean {
    const id = Atomics.load(this.#table.words, at + THREAD.id);
    const start = Atomics.load(this.#table.words, at + THREAD.start);
    if (id === TAKING) return true;
    const found = this.#found.get(at);
    const now = performance.now();
    if (found?.id === id && found.start === start && (found.gone || now - found.looked < LOOK_EVERY_MS))
      return found.gone;
    const gone = !isAlive(id, start);
    this.#found.set(at, { id, start, gone, looked: now });
    return gone;
  }

  /**
   * Waits until no thread calls code.
   * @throws ArgumentError 'A-IN-USE' if one still does after `ms` milliseconds
   */
  waitForAll(ms: number): void {
    const end = performance.now() + ms;
    const pause = new Int32Array(new SharedArrayBuffer(4));
    while (this.oldest() !== undefined) {
      if (performance.now() > end) {
        throw new ArgumentError(
          'A-IN-USE',
          'another thread is in a call of a routine of this arena. No new one begins any more: dispose of it again when that has returned',
        );
      }
      Atomics.wait(pause, 0, 0, 1);
    }
  }
}

/** Epochs go round after 2^31 of them. */
export const isBefore = (a: number, b: number): boolean => ((a - b) | 0) < 0;
