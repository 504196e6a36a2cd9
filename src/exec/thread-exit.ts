// A worker's memory goes with it however it ends. worker.terminate() lets no JavaScript run; but the C library calls, when a thread
// ends, what has been registered with it: here a few instructions that unmap what is on a list, and themselves last.

import { EngineError } from '../errors.js';
import { hostTarget } from '../jit/host.js';
import { libc } from './libc.js';
import { backWithCode } from './own-code.js';
import { PAGE_BYTES } from './pages.js';

const PAIR_BYTES = 16;
/** A page of pairs; the last one is of the list itself. */
const REGIONS = PAGE_BYTES / PAIR_BYTES - 1;

/** Pages of code and of the list, one behind the other. */
class ExitList {
  readonly #list: bigint;
  readonly #places = new Map<bigint, number>();
  readonly #free = Array.from({ length: REGIONS }, (_, i) => i);

  /** @throws EngineError where there is no such memory */
  constructor() {
    const lib = libc();
    const base = lib.reserve(2 * PAGE_BYTES);
    if (base === undefined) throw new EngineError('E-SYSTEM', 'there are no addresses left');
    this.#list = base + BigInt(PAGE_BYTES);
    try {
      backWithCode(base, hostTarget().unmapAtExit(lib.functionAt('munmap'), REGIONS), 'exit', 'memfd');
      lib.mapWritable(this.#list, PAGE_BYTES);
      this.#write(REGIONS, base, 2 * PAGE_BYTES);
      if (!lib.atThreadExit(base, this.#list))
        throw new EngineError('E-SYSTEM', 'this C library calls nothing when a thread ends');
    } catch (error) {
      lib.unmap(base, 2 * PAGE_BYTES);
      throw error;
    }
  }

  get isFull(): boolean {
    return this.#free.length === 0;
  }

  add(address: bigint, length: number): void {
    const place = this.#free.pop()!;
    this.#places.set(address, place);
    this.#write(place, address, length);
  }

  remove(address: bigint): void {
    const place = this.#places.get(address);
    if (place === undefined) return;
    this.#write(place, 0n, 0);
    this.#places.delete(address);
    this.#free.push(place);
  }

  #write(place: number, address: bigint, length: number): void {
    const pair = new BigUint64Array([address, BigInt(length)]);
    libc().copyTo(this.#list + BigInt(place * PAIR_BYTES), new Uint8Array(pair.buffer));
  }
}

const lists: ExitList[] = [];

/** Has memory of the calling thread, which must be a worker's, unmapped when that ends. Where it cannot be done, it stays mapped then. */
export function unmapWithThread(address: bigint, length: number): void {
  try {
    if (lists.every(({ isFull }) => isFull)) lists.push(new ExitList());
  } catch (error) {
    if (error instanceof EngineError) return;
    throw error;
  }
  lists.find(({ isFull }) => !isFull)!.add(address, length);
}

/** Leaves memory alone when the thread ends: it is unmapped, or others may be in it. */
export function keepAfterThread(address: bigint): void {
  for (const list of lists) list.remove(address);
}
