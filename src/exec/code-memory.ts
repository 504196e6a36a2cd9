// The memory of an arena: one region of reserved addresses, so that all of its code lies within one 4 GiB (a call from one 4 GiB
// region to another costs two cycles more, measured) and chunks that are neighbours are one mapping to the kernel. Chunks of it are backed by
// pages as they are needed, and given back when they are empty; whatever is not code is full of traps.

import { isMainThread } from 'node:worker_threads';
import { EngineError } from '../errors.js';
import { Extents } from './extents.js';
import { type Libc, libc } from './libc.js';
import { enterRegion, leaveRegion } from './maps.js';
import { PAGE_BYTES, type Pages, pagesBy, type Strategy } from './pages.js';
import { keepAfterThread, unmapWithThread } from './thread-exit.js';

export const CHUNK_BYTES = 64 * 1024;
/** An arena has at most so many addresses; fewer where the system does not give as many (ulimit -v). */
const REGION_BYTES = 2 ** 30;
/** An arena grows by a thirty-second of what it has, and keeps as many empty chunks beside those in use. */
const GROWTH_SHIFT = 5;

export interface CodeMemoryOptions {
  readonly name: string;
  readonly granule: number;
  readonly strategy: Strategy;
  readonly trap: number;
}

/** Bytes of the region. */
export interface Span {
  readonly offset: number;
  readonly length: number;
}

export class CodeMemory {
  readonly base: bigint;
  readonly granule: number;
  readonly #libc: Libc = libc();
  readonly #pages: Pages;
  readonly #trap: number;
  readonly #traps: Uint8Array;
  readonly #free = new Extents();
  readonly #chunkGranules: number;
  /** Granules in use of each chunk; undefined for one without pages. */
  readonly #used: (number | undefined)[] = [];
  readonly #empty = new Set<number>();
  /** Of the chunks, those whose mapping can never be changed any more, nor unmapped. */
  readonly #sealed = new Set<number>();
  readonly #regionBytes: number;
  #chunks = 0;
  #isSealed = false;
  #closed = false;
  /** For memory that other threads use: sees to it that they do no longer, or throws. */
  #takeBack: (() => void) | undefined;

  /** @throws EngineError where the system gives no executable memory, with the reason */
  constructor({ name, granule, strategy, trap }: CodeMemoryOptions) {
    const region = reserveRegion(this.#libc);
    this.base = region.address;
    this.#regionBytes = region.length;
    this.granule = granule;
    this.#chunkGranules = CHUNK_BYTES / granule;
    this.#trap = trap;
    this.#traps = new Uint8Array(PAGE_BYTES).fill(trap);
    try {
      this.#pages = pagesBy(strategy, this.base, name);
    } catch (error) {
      this.#libc.unmap(this.base, this.#regionBytes);
      throw error;
    }
    open.add(this);
    if (!isMainThread) unmapWithThread(this.base, this.#regionBytes);
    enterRegion(name, this.base, this.#regionBytes);
  }

  /** How many bytes of addresses it has. */
  get regionBytes(): number {
    return this.#closed ? 0 : this.#regionBytes;
  }

  get isSealed(): boolean {
    return this.#isSealed;
  }

  get mappedBytes(): number {
    return this.#chunks * CHUNK_BYTES;
  }

  get freeBytes(): number {
    return this.#closed ? 0 : this.#free.granules * this.granule;
  }

  get freeRuns(): number {
    return this.#closed ? 0 : this.#free.runs;
  }

  /** Whether what lies here can be called now. */
  get runnable(): boolean {
    return this.#pages.runnable;
  }

  /** The chunks that have pages, by their offsets. */
  *chunks(): Generator<{ readonly offset: number; readonly sealed: boolean }> {
    for (const [chunk, used] of this.#used.entries())
      if (used !== undefined) yield { offset: chunk * CHUNK_BYTES, sealed: this.#sealed.has(chunk) };
  }

  addressOf(offset: number): bigint {
    return this.base + BigInt(offset);
  }

  /**
   * Takes room for `length` bytes, a multiple of the granule; returns its offset.
   * @throws EngineError 'E-FULL', and if memory is refused
   */
  allocate(length: number, alignment: number): number {
    const granules = length / this.granule;
    const multiple = Math.max(1, alignment / this.granule);
    let start = this.#free.take(granules, multiple);
    if (start === undefined) {
      this.#grow(granules + multiple - 1);
      start = this.#free.take(granules, multiple);
      if (start === undefined)
        throw new EngineError('E-FULL', 'the room that was made for code is not there');
    }
    this.#count(start, granules, 1);
    return start * this.granule;
  }

  /**
   * Publishes the first `length` of `bytes` at an offset, and reads them back.
   * @throws EngineError 'E-READ-BACK' if they are not what was written
   */
  publish(bytes: Uint8Array, length: number, offset: number): void {
    this.#pages.write(bytes, length, offset);
    if (this.#libc.holds(this.addressOf(offset), bytes, length)) return;
    throw new EngineError(
      'E-READ-BACK',
      `code at byte ${offset} of the arena does not read back as it was written; it was not published`,
    );
  }

  /** A copy of what lies there. */
  read(offset: number, length: number): Uint8Array {
    return this.#libc.copyFrom(this.addressOf(offset), length);
  }

  /** Fills room with traps. */
  trap(spans: readonly Span[]): void {
    for (const { offset, length } of joined(spans)) {
      const traps = length > PAGE_BYTES ? new Uint8Array(length).fill(this.#trap) : this.#traps;
      this.#pages.write(traps, length, offset);
    }
  }

  /** Takes back room that is full of traps, and gives chunks that got empty back to the system. */
  release(spans: readonly Span[]): void {
    for (const { offset, length } of spans) {
      const [start, granules] = [offset / this.granule, length / this.granule];
      this.#free.give(start, granules);
      this.#count(start, granules, -1);
    }
    try {
      this.#shrink();
    } catch (error) {
      // Where the system refuses (vm.max_map_count), chunks stay, and are tried again when more is released.
      if (!(error instanceof EngineError)) throw error;
    }
  }

  /**
   * No code can be published, nor changed, any more.
   * @throws EngineError where the system refuses
   */
  seal(): void {
    const chunks = [...this.#used.keys()].filter((chunk) => this.#used[chunk] !== undefined);
    if (chunks.length === 0) this.#pages.seal(0, 0);
    for (const [first, count] of runsOf(chunks)) {
      if (!this.#pages.seal(first * CHUNK_BYTES, count * CHUNK_BYTES)) continue;
      for (let chunk = first; chunk < first + count; chunk++) this.#sealed.add(chunk);
    }
    this.#isSealed = true;
  }

  /**
   * Says that other threads use it, too: so it stays when this one is terminated, and goes when it ends by itself.
   * @param takeBack sees to it that they do no longer, or throws
   */
  outliveThread(takeBack: () => void): void {
    this.#takeBack = takeBack;
    keepAfterThread(this.base);
  }

  /** The thread is about to end. The memory goes when no JavaScript can run in it any more: until then it may be called. */
  leaveWithThread(): void {
    if (!this.#takeBack) return;
    this.#takeBack();
    unmapWithThread(this.base, this.#regionBytes);
  }

  /** Gives everything back that is not sealed. Closing twice is harmless. */
  close(): void {
    if (this.#closed) return;
    open.delete(this);
    keepAfterThread(this.base);
    leaveRegion(this.base);
    this.#pages.close();
    this.#closed = true;
    let start = 0;
    for (const [first, count] of runsOf([...this.#sealed].sort((a, b) => a - b))) {
      this.#unmap(start, first * CHUNK_BYTES);
      start = (first + count) * CHUNK_BYTES;
    }
    this.#unmap(start, this.#regionBytes);
    this.#used.length = 0;
    this.#chunks = 0;
  }

  #unmap(start: number, end: number): void {
    if (end > start) this.#libc.unmap(this.addressOf(start), end - start);
  }

  #count(start: number, granules: number, sign: 1 | -1): void {
    const end = start + granules;
    for (let at = start; at < end; ) {
      const chunk = Math.floor(at / this.#chunkGranules);
      const next = Math.min(end, (chunk + 1) * this.#chunkGranules);
      const before = this.#used[chunk]!;
      this.#used[chunk] = before + sign * (next - at);
      if (before === 0) this.#empty.delete(chunk);
      else if (this.#used[chunk] === 0) this.#empty.add(chunk);
      at = next;
    }
  }

  #grow(granules: number): void {
    const needed = Math.ceil(granules / this.#chunkGranules);
    const wanted = Math.max(needed, this.#chunks >> GROWTH_SHIFT);
    const roomy = this.#hole(wanted);
    const [first, count] = roomy === undefined ? [this.#hole(needed), needed] : [roomy, wanted];
    if (first === undefined)
      throw new EngineError(
        'E-FULL',
        `this arena's ${this.regionBytes} bytes of addresses have no room for ${needed * CHUNK_BYTES} more in a row: make another one`,
      );
    this.#pages.back(first * CHUNK_BYTES, count * CHUNK_BYTES, this.#trap);
    for (let chunk = first; chunk < first + count; chunk++) {
      this.#used[chunk] = 0;
      this.#empty.add(chunk);
    }
    this.#chunks += count;
    this.#free.give(first * this.#chunkGranules, count * this.#chunkGranules);
  }

  /** The first of `count` chunks in a row without pages. */
  #hole(count: number): number | undefined {
    const end = this.regionBytes / CHUNK_BYTES;
    let run = 0;
    for (let chunk = 0; chunk < end; chunk++) {
      run = this.#used[chunk] === undefined ? run + 1 : 0;
      if (run === count) return chunk + 1 - count;
    }
    return undefined;
  }

  /** Keeps some empty chunks, and half of those when there are more, so that the same are not given and taken all the time. */
  #shrink(): void {
    const kept = 2 + ((this.#chunks - this.#empty.size) >> GROWTH_SHIFT);
    if (this.#empty.size <= kept) return;
    const given = [...this.#empty].sort((a, b) => a - b).slice(kept >> 1);
    for (const [first, count] of runsOf(given)) this.#giveBack(first, count);
  }

  #giveBack(first: number, count: number): void {
    const [offset, length] = [first * CHUNK_BYTES, count * CHUNK_BYTES];
    const [start, granules] = [first * this.#chunkGranules, count * this.#chunkGranules];
    if (!this.#free.takeAt(start, granules)) return;
    try {
      this.#pages.unmap(offset, length);
    } catch (error) {
      this.#free.give(start, granules);
      throw error;
    }
    for (let chunk = first; chunk < first + count; chunk++) {
      this.#used[chunk] = undefined;
      this.#empty.delete(chunk);
    }
    this.#chunks -= count;
    this.#pages.discard(offset, length);
  }
}

/** What a worker has not disposed of when it ends. The process's own mappings and descriptors end with it. */
const open = new Set<CodeMemory>();
if (!isMainThread) process.on('exit', leaveAll);

function leaveAll(): void {
  for (const memory of open) {
    try {
      memory.leaveWithThread();
    } catch {
      // Another thread is in a call that does not end: what it runs stays.
    }
  }
}

/** Addresses within one 4 GiB: a power of two of them, from a multiple of it on. */
function reserveRegion(libc: Libc): { address: bigint; length: number } {
  for (let length = REGION_BYTES; length >= CHUNK_BYTES; length /= 2) {
    const reserved = libc.reserve(2 * length);
    if (reserved === undefined) continue;
    const size = BigInt(length);
    const address = (reserved + size - 1n) & -size;
    const skipped = Number(address - reserved);
    if (skipped > 0) libc.unmap(reserved, skipped);
    libc.unmap(address + size, length - skipped);
    return { address, length };
  }
  throw new EngineError(
    'E-SYSTEM',
    `there are not even ${2 * CHUNK_BYTES} addresses left to reserve for code: see ulimit -v and vm.max_map_count`,
  );
}

/** Spans that follow each other as one, ascending. */
export function joined(spans: readonly Span[]): readonly Span[] {
  if (spans.length <= 1) return spans;
  const all: { offset: number; length: number }[] = [];
  for (const { offset, length } of [...spans].sort((a, b) => a.offset - b.offset)) {
    const last = all.at(-1);
    if (last && last.offset + last.length === offset) last.length += length;
    else all.push({ offset, length });
  }
  return all;
}

/** [first, how many] of numbers that follow each other, which are ascending. */
const runsOf = (numbers: readonly number[]): [number, number][] =>
  joined(numbers.map((offset) => ({ offset, length: 1 }))).map(({ offset, length }) => [offset, length]);
