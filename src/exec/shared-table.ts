// What an arena tells the other threads of its process, in a SharedArrayBuffer. Its owner alone writes, but for the words of threads.
//
//   header     who it is, the epoch, where the code lies
//   threads    a cache line each: thread id, when it began, and what epoch it calls code in (readers.ts)
//   slots      a word for each routine: the number of its version + 1; 0 for none
//   versions   four words each: where the code is, by what contract it is called, the slot's generation
//   contracts  where each one's text begins and ends; then the texts
//
// A version never changes as long as a thread may know of it, so that one word swaps code and contract at once.

import { randomInt } from 'node:crypto';
import { types } from 'node:util';
import { type Contract, checkContract } from '../bpf/contract.js';
import { ArgumentError, EngineError } from '../errors.js';
import type { Checked } from './boundary.js';

const HEADER = {
  magic: 0,
  pid: 1,
  token: 2,
  epoch: 3,
  closed: 4,
  slots: 5,
  threads: 6,
  granule: 7,
  contracts: 8,
  base: 10,
} as const;
const HEADER_WORDS = 16;
export const THREAD = { id: 0, start: 1, epoch: 2, words: 16 } as const;
const VERSION = { offset: 0, contract: 1, generation: 2, words: 4 } as const;
const MAGIC = 0x62_70_66_75;
const KIND = 'bpf-unpack arena';
const MAX_CONTRACTS = 4096;
const TEXT_BYTES = 2 ** 20;

/** Of the versions of a routine that may be in use at once: the one that is called, and those that are not yet given up. */
const VERSIONS_PER_SLOT = 2;
export const MAX_SLOTS = 2 ** 24;
export const MAX_THREADS = 1024;

/** An arena for `attachArena` in another thread of the process: postMessage and workerData take it there. */
export interface ArenaHandle {
  readonly kind: typeof KIND;
  readonly pid: number;
  readonly token: number;
  readonly memory: SharedArrayBuffer;
}

export interface TableSpec {
  /** How many routines can have a number. */
  readonly slots: number;
  readonly threads: number;
  readonly base: bigint;
  readonly granule: number;
}

export interface Version {
  /** Byte offset in the arena. */
  readonly offset: number;
  readonly contract: number;
  readonly generation: number;
}

const threadsAt = HEADER_WORDS;
const slotsAt = (threads: number): number => threadsAt + threads * THREAD.words;
const versionsAt = (slots: number, threads: number): number => slotsAt(threads) + slots;
const contractsAt = (slots: number, threads: number): number =>
  versionsAt(slots, threads) + slots * VERSIONS_PER_SLOT * VERSION.words;
const bytesFor = (slots: number, threads: number): number =>
  4 * (contractsAt(slots, threads) + 2 * MAX_CONTRACTS) + TEXT_BYTES;

export class SharedTable {
  readonly handle: ArenaHandle;
  readonly words: Int32Array;
  readonly slots: number;
  readonly threads: number;
  readonly base: bigint;
  readonly granule: number;
  /** The address of what calls code. */
  readonly #slotsAt: number;
  readonly #versionsAt: number;
  readonly #contractsAt: number;
  readonly #text: Uint8Array;
  /** Contracts that have been read. */
  readonly #read: Checked[] = [];

  constructor(handle: ArenaHandle) {
    this.handle = handle;
    this.words = new Int32Array(handle.memory);
    this.slots = this.words[HEADER.slots]!;
    this.threads = this.words[HEADER.threads]!;
    this.granule = this.words[HEADER.granule]!;
    this.base = new BigUint64Array(handle.memory, 4 * HEADER.base, 1)[0]!;
    this.#slotsAt = slotsAt(this.threads);
    this.#versionsAt = versionsAt(this.slots, this.threads);
    this.#contractsAt = contractsAt(this.slots, this.threads);
    this.#text = new Uint8Array(handle.memory, 4 * (this.#contractsAt + 2 * MAX_CONTRACTS), TEXT_BYTES);
  }

  get versions(): number {
    return this.slots * VERSIONS_PER_SLOT;
  }

  get epoch(): number {
    return Atomics.load(this.words, HEADER.epoch);
  }

  /** Begins the next epoch; they are odd, so that 0 is none, and go round. @returns the one that ended */
  nextEpoch(): number {
    return Atomics.add(this.words, HEADER.epoch, 2);
  }

  get closed(): boolean {
    return Atomics.load(this.words, HEADER.closed) !== 0;
  }

  /** No call begins any more. */
  close(): void {
    Atomics.store(this.words, HEADER.closed, 1);
  }

  /** Where the words of a thread begin. */
  threadAt(index: number): number {
    return threadsAt + index * THREAD.words;
  }

  writeVersion(index: number, { offset, contract, generation }: Version): void {
    const at = this.#versionsAt + index * VERSION.words;
    this.words[at + VERSION.offset] = offset / this.granule;
    this.words[at + VERSION.contract] = contract;
    this.words[at + VERSION.generation] = generation;
  }

  /** Makes a version the one that is called; undefined for none. */
  swap(slot: number, version: number | undefined): void {
    Atomics.store(this.words, this.#slotsAt + slot, version === undefined ? 0 : version + 1);
  }

  /** The version that a slot has now. A thread may look at it from when it has announced itself until it leaves. */
  current(slot: number): Version | undefined {
    const version = Atomics.load(this.words, this.#slotsAt + slot) - 1;
    if (version < 0) return undefined;
    const at = this.#versionsAt + version * VERSION.words;
    return {
      offset: this.words[at + VERSION.offset]! * this.granule,
      contract: this.words[at + VERSION.contract]!,
      generation: this.words[at + VERSION.generation]!,
    };
  }

  /** @throws EngineError 'E-FULL' */
  addContract(text: string): number {
    const number = this.words[HEADER.contracts]!;
    const start = number === 0 ? 0 : this.words[this.#contractsAt + 2 * number - 1]!;
    const bytes = Buffer.from(text);
    if (number === MAX_CONTRACTS || start + bytes.length > TEXT_BYTES) {
      throw new EngineError(
        'E-FULL',
        `the shared arena has room for ${MAX_CONTRACTS} different contracts, of ${TEXT_BYTES} bytes in all`,
      );
    }
    this.#text.set(bytes, start);
    this.words[this.#contractsAt + 2 * number] = start;
    this.words[this.#contractsAt + 2 * number + 1] = start + bytes.length;
    this.words[HEADER.contracts] = number + 1;
    return number;
  }

  contract(number: number): Checked {
    return (this.#read[number] ??= this.#readContract(number));
  }

  #readContract(number: number): Checked {
    const at = this.#contractsAt + 2 * number;
    return checkedFrom(Buffer.from(this.#text.slice(this.words[at], this.words[at + 1])).toString());
  }
}

/** @throws EngineError where there is not so much memory */
export function createTable({ slots, threads, base, granule }: TableSpec): SharedTable {
  const memory = allocate(bytesFor(slots, threads));
  const words = new Int32Array(memory);
  const token = randomInt(1, 2 ** 31);
  const header = { magic: MAGIC, pid: process.pid, token, epoch: 1, slots, threads, granule };
  for (const [name, value] of Object.entries(header)) words[HEADER[name as keyof typeof header]] = value;
  new BigUint64Array(memory, 4 * HEADER.base, 1)[0] = base;
  return new SharedTable(Object.freeze({ kind: KIND, pid: process.pid, token, memory }));
}

function allocate(bytes: number): SharedArrayBuffer {
  try {
    return new SharedArrayBuffer(bytes);
  } catch (cause) {
    const message = `sharing an arena takes ${bytes} bytes for so many routines and threads, and there are not so many`;
    throw new EngineError('E-SYSTEM', message, {}, { cause });
  }
}

/** @throws ArgumentError 'A-HANDLE' for what is no handle of this process */
export function openTable(handle: unknown): SharedTable {
  const { kind, pid, token, memory } = (handle ?? {}) as Partial<ArenaHandle>;
  if (kind !== KIND) throw notOurs('it was not made by CodeArena.share()');
  if (pid !== process.pid)
    throw notOurs(
      `it is of process ${pid}, and this is ${process.pid}: code is shared by threads of one process only`,
    );
  if (!types.isSharedArrayBuffer(memory) || memory.byteLength < 4 * HEADER_WORDS)
    throw notOurs('its shared memory did not come along: send it with postMessage or workerData');
  const words = new Int32Array(memory);
  const size = bytesFor(words[HEADER.slots]!, words[HEADER.threads]!);
  if (words[HEADER.magic] !== MAGIC || words[HEADER.token] !== token || memory.byteLength !== size)
    throw notOurs('its shared memory is of something else');
  return new SharedTable({ kind, pid, token: words[HEADER.token]!, memory });
}

const notOurs = (why: string) => new ArgumentError('A-HANDLE', `this is no handle of an arena: ${why}`);

/** What a call is checked by, as text. */
export const checkedText = ({ abi, needsAlignment }: Checked): string => {
  const contract = abi && { ...abi, helpers: undefined };
  // Not what JSON makes of it first: some give BigInt a toJSON.
  function text(this: Readonly<Record<string, unknown>>, name: string): unknown {
    const value = this[name];
    return typeof value === 'bigint' ? `${value}n` : value;
  }
  return JSON.stringify({ abi: contract, needsAlignment }, text);
};

function checkedFrom(text: string): Checked {
  const number = (_: string, value: unknown) =>
    typeof value === 'string' && /^\d+n$/.test(value) ? BigInt(value.slice(0, -1)) : value;
  const { abi, needsAlignment } = JSON.parse(text, number) as { abi?: Contract; needsAlignment: boolean };
  return { abi: abi && checkContract(abi), needsAlignment };
}
