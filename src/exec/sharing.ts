// The owner's side of an arena that other threads call code in: numbers for routines, and what has to wait for threads to leave.

import { requireInteger } from '../bytes.js';
import { ArgumentError, EngineError } from '../errors.js';
import type { Checked } from './boundary.js';
import type { CodeMemory, Span } from './code-memory.js';
import { libc } from './libc.js';
import { isBefore, Readers } from './readers.js';
import {
  type ArenaHandle,
  checkedText,
  createTable,
  MAX_SLOTS,
  MAX_THREADS,
  type SharedTable,
} from './shared-table.js';

export interface ShareOptions {
  /** How many routines can have a number at a time. Default: 65,536, which take 2.4 MB of addresses and what is used of them of memory. */
  readonly routines?: number;
  /** How many threads can be attached at a time. Default: 64. */
  readonly threads?: number;
}

interface Retired {
  /** The epoch that ended when it was swapped out. */
  readonly epoch: number;
  readonly version: number | undefined;
  readonly room: Span | undefined;
}

/** What has retired is taken back when it is so many, or so many bytes: a barrier for all CPUs takes 1 to 10 µs. */
const BATCH = 64;
const BATCH_BYTES = 64 * 1024;
const DISPOSE_MS = 1000;

/** A routine's number: its slot, and how often the slot has been used. */
const numberOf = (slot: number, generation: number): number => generation * MAX_SLOTS + slot;
export const slotOf = (number: number): number => number % MAX_SLOTS;
/** A slot is not used again when its numbers would be no safe integers any more. */
const LAST_GENERATION = Math.floor(Number.MAX_SAFE_INTEGER / MAX_SLOTS) - 1;
export const generationOf = (number: number): number => Math.floor(number / MAX_SLOTS);

export class Sharing {
  readonly #memory: CodeMemory;
  readonly #table: SharedTable;
  readonly #readers: Readers;
  readonly #generations: number[] = [];
  readonly #freeSlots: number[] = [];
  /** The version that is called, by slot. */
  readonly #versions: number[] = [];
  readonly #freeVersions: number[] = [];
  #nextVersion = 0;
  readonly #contracts = new Map<string, number>();
  #retired: Retired[] = [];
  #retiredBytes = 0;

  /** @throws EngineError where the kernel has no membarrier */
  constructor(memory: CodeMemory, { routines, threads }: Required<ShareOptions>) {
    libc().syncCores();
    this.#memory = memory;
    const { base, granule } = memory;
    this.#table = createTable({ slots: routines, threads, base, granule });
    this.#readers = new Readers(this.#table);
  }

  get handle(): ArenaHandle {
    return this.#table.handle;
  }

  get retiredBytes(): number {
    return this.#retiredBytes;
  }

  /**
   * Gives a routine a number.
   * @throws EngineError 'E-FULL'
   */
  add(offset: number, checked: Checked): number {
    const slot = this.#freeSlots.at(-1) ?? this.#generations.length;
    if (slot === this.#table.slots)
      throw new EngineError(
        'E-FULL',
        `${slot} routines have numbers, as many as the arena was shared for: share({ routines }) with more`,
      );
    const generation = (this.#generations[slot] ?? 0) + 1;
    const version = this.#makeVersion(offset, checked, generation);
    this.#freeSlots.pop();
    this.#generations[slot] = generation;
    this.#versions[slot] = version;
    this.#table.swap(slot, version);
    return numberOf(slot, generation);
  }

  /**
   * Makes the version that a routine is going to have. It has to be swapped in.
   * @throws EngineError 'E-FULL'
   */
  prepare(number: number, offset: number, checked: Checked): number {
    return this.#makeVersion(offset, checked, generationOf(number));
  }

  /** Lets threads call a version that was prepared; the one before has retired, and with it the room of its code, if nobody else needs that. */
  swap(number: number, version: number, room: Span | undefined): void {
    const slot = slotOf(number);
    const old = this.#versions[slot];
    this.#versions[slot] = version;
    this.#table.swap(slot, version);
    this.#retire(old, room);
  }

  /** Takes a number back: it is never given again. */
  remove(number: number, room: Span | undefined): void {
    const slot = slotOf(number);
    const old = this.#versions[slot];
    this.#table.swap(slot, undefined);
    if (generationOf(number) < LAST_GENERATION) this.#freeSlots.push(slot);
    this.#retire(old, room);
  }

  /** Gives room up that code without a number was in: threads may be in it under another one, which was freed before. */
  retire(room: Span): void {
    this.#retire(undefined, room);
  }

  /** Takes back what no thread can be in any more. @returns the bytes that are waiting still */
  reclaim(): number {
    const oldest = this.#retired.length > 0 ? this.#readers.oldest() : undefined;
    const waiting = this.#retired.findIndex(({ epoch }) => oldest !== undefined && !isBefore(epoch, oldest));
    const left = this.#retired.splice(0, waiting === -1 ? this.#retired.length : waiting);
    const rooms = left.flatMap(({ room }) => room ?? []);
    for (const { version } of left) if (version !== undefined) this.#freeVersions.push(version);
    for (const { length } of rooms) this.#retiredBytes -= length;
    if (rooms.length === 0 || this.#memory.isSealed) return this.#retiredBytes;
    this.#memory.trap(rooms);
    libc().syncCores();
    this.#memory.release(rooms);
    return this.#retiredBytes;
  }

  /**
   * Lets no call begin any more, and waits for those under way.
   * @throws ArgumentError 'A-IN-USE' if they take too long
   */
  close(): void {
    this.#table.close();
    this.#readers.waitForAll(DISPOSE_MS);
  }

  #retire(version: number | undefined, room: Span | undefined): void {
    if (version === undefined && room === undefined) return;
    this.#retired.push({ epoch: this.#table.nextEpoch(), version, room });
    this.#retiredBytes += room?.length ?? 0;
    if (this.#retired.length % BATCH === 0 || this.#retiredBytes > BATCH_BYTES) this.reclaim();
  }

  #makeVersion(offset: number, checked: Checked, generation: number): number {
    if (this.#freeVersions.length === 0 && this.#nextVersion === this.#table.versions) this.reclaim();
    const full = this.#freeVersions.length === 0 && this.#nextVersion === this.#table.versions;
    if (full) {
      throw new EngineError(
        'E-FULL',
        'as much code as has numbers waits for threads that are in calls of it: wait, or share({ routines }) with more',
      );
    }
    const contract = this.#contractNumber(checked);
    const version = this.#freeVersions.pop() ?? this.#nextVersion++;
    this.#table.writeVersion(version, { offset, contract, generation });
    return version;
  }

  #contractNumber(checked: Checked): number {
    const text = checkedText(checked);
    const known = this.#contracts.get(text);
    if (known !== undefined) return known;
    const number = this.#table.addContract(text);
    this.#contracts.set(text, number);
    return number;
  }
}

/** The options, each read once, with the defaults filled in. */
export function takeShareOptions(options: ShareOptions | undefined): Required<ShareOptions> {
  const { routines = 65_536, threads = 64 } = options ?? {};
  requireInteger(routines, 1, MAX_SLOTS, 'routines');
  requireInteger(threads, 1, MAX_THREADS, 'threads');
  return { routines, threads };
}

export const notShareable = (name: string) =>
  new ArgumentError(
    'A-NOT-SHARED',
    `routine '${name}' calls helper functions or has data, which are of the thread that placed it: it cannot be called by others`,
  );
