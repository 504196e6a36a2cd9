// How bytes get to pages that run. A region of addresses is reserved; parts of it are backed by pages, filled with traps, and given
// back. No page is writable and executable at once, either way:
//
//   memfd      bytes ──pwrite──► file ◄──mmap, read+execute, shared── read-only reopening of the file
//   mprotect   private memory, writable while bytes are copied to it, executable before and afterwards
//
// A mapping from a descriptor that cannot write can never become writable: mprotect answers EACCES.

import { type BigIntStats, closeSync, fstatSync, ftruncateSync, openSync } from 'node:fs';
import { EngineError } from '../errors.js';
import { type Libc, libc } from './libc.js';

export const PAGE_BYTES = 4096;
export const STRATEGIES = ['memfd', 'mprotect'] as const;
export type Strategy = (typeof STRATEGIES)[number];

/** Offsets and lengths are bytes of the region, those of pages multiples of a page. */
export interface Pages {
  /** Whether what it holds can be run now. */
  readonly runnable: boolean;
  /** Puts pages full of `fill` to reserved addresses. If that fails, the addresses stay reserved. */
  back(offset: number, length: number, fill: number): void;
  write(bytes: Uint8Array, length: number, offset: number): void;
  /** Takes the pages from their addresses, which stay reserved. */
  unmap(offset: number, length: number): void;
  /** Gives pages that have no addresses any more back to the system. */
  discard(offset: number, length: number): void;
  /** Makes the pages unchangeable, for good; false for those whose mapping the kernel cannot fix. */
  seal(offset: number, length: number): boolean;
  /** Gives back what the pages came from. */
  close(): void;
}

/** Fills pages in steps of at most so many bytes. */
const FILL_BYTES = 2 ** 20;

class MemfdPages implements Pages {
  readonly runnable = true;
  readonly #libc: Libc = libc();
  readonly #base: bigint;
  readonly #file: BigIntStats;
  #isClosing = false;
  #readable: number;
  #writable: number;
  #size = 0;

  constructor(base: bigint, name: string) {
    this.#base = base;
    const fd = this.#libc.memfd(name);
    // Node closes what it opened itself when a worker ends, and so both descriptors are reopenings.
    const opened: number[] = [];
    try {
      for (const flags of ['r', 'r+']) opened.push(reopen(fd, flags));
    } catch (error) {
      opened.forEach(closeSync);
      throw error;
    } finally {
      this.#libc.close(fd);
    }
    [this.#readable, this.#writable] = opened as [number, number];
    this.#file = fstatSync(this.#readable, { bigint: true });
  }

  back(offset: number, length: number, fill: number): void {
    this.#enlarge(offset + length);
    try {
      const traps = new Uint8Array(Math.min(length, FILL_BYTES)).fill(fill);
      for (let at = 0; at < length; at += FILL_BYTES)
        this.write(traps, Math.min(length - at, FILL_BYTES), offset + at);
      this.#libc.mapCode(this.#readable, offset, this.#base + BigInt(offset), length);
    } catch (error) {
      this.#libc.punchHole(this.#writable, offset, length);
      throw error;
    }
  }

  write(bytes: Uint8Array, length: number, offset: number): void {
    this.#libc.write(this.#writable, bytes, length, offset);
  }

  unmap(offset: number, length: number): void {
    this.#libc.reserveAgain(this.#base + BigInt(offset), length);
  }

  discard(offset: number, length: number): void {
    this.#libc.punchHole(this.#writable, offset, length);
  }

  seal(offset: number, length: number): boolean {
    if (this.#writable >= 0) {
      this.#libc.sealFile(this.#writable);
      closeSync(this.#writable);
      this.#writable = -1;
    }
    return this.#libc.sealMapping(this.#base + BigInt(offset), length);
  }

  close(): void {
    const again = this.#isClosing;
    this.#isClosing = true;
    for (const fd of [this.#writable, this.#readable])
      if (fd >= 0 && (!again || this.#isOpen(fd))) closeSync(fd);
    [this.#writable, this.#readable] = [-1, -1];
  }

  /** Should closing have been cut off, the number may be another file's by now. */
  #isOpen(fd: number): boolean {
    try {
      const { dev, ino } = fstatSync(fd, { bigint: true });
      return dev === this.#file.dev && ino === this.#file.ino;
    } catch {
      return false;
    }
  }

  #enlarge(size: number): void {
    if (size <= this.#size) return;
    system('enlarging the code file', () => ftruncateSync(this.#writable, size));
    this.#size = size;
  }
}

class MprotectPages implements Pages {
  readonly #libc: Libc = libc();
  readonly #base: bigint;
  /** Pages that were made writable, and not executable again: it was refused, or cut off by node:vm. */
  #open: { readonly address: bigint; readonly length: number } | undefined;

  constructor(base: bigint) {
    this.#base = base;
  }

  get runnable(): boolean {
    return this.#open === undefined;
  }

  back(offset: number, length: number, fill: number): void {
    const address = this.#base + BigInt(offset);
    this.#libc.mapWritable(address, length);
    try {
      this.#libc.copyTo(address, new Uint8Array(length).fill(fill));
      this.#libc.protect(address, length, 'execute');
    } catch (error) {
      this.#libc.reserveAgain(address, length);
      throw error;
    }
  }

  write(bytes: Uint8Array, length: number, offset: number): void {
    this.#close();
    const start = offset - (offset % PAGE_BYTES);
    const span = Math.ceil((offset + length - start) / PAGE_BYTES) * PAGE_BYTES;
    this.#open = { address: this.#base + BigInt(start), length: span };
    this.#libc.protect(this.#open.address, span, 'write');
    this.#libc.copyTo(this.#base + BigInt(offset), bytes.subarray(0, length));
    this.#close();
  }

  #close(): void {
    if (this.#open) this.#libc.protect(this.#open.address, this.#open.length, 'execute');
    this.#open = undefined;
  }

  unmap(offset: number, length: number): void {
    this.#libc.reserveAgain(this.#base + BigInt(offset), length);
  }

  /** They were the mapping's own. */
  discard(): void {}

  /** @throws EngineError where the kernel has no mseal: nothing else makes private memory unchangeable */
  seal(offset: number, length: number): boolean {
    if (this.#libc.sealMapping(this.#base + BigInt(offset), length)) return true;
    throw new EngineError(
      'E-SEAL',
      "this kernel has no mseal (Linux 6.10), and nothing else seals an arena of strategy 'mprotect'; one of strategy 'memfd' can be sealed",
    );
  }

  close(): void {}
}

/**
 * Pages for addresses that are reserved from `base` on.
 * @param name of the memfd, where there is one
 * @throws EngineError where the system refuses
 */
export const pagesBy = (strategy: Strategy, base: bigint, name: string): Pages =>
  strategy === 'memfd' ? new MemfdPages(base, name) : new MprotectPages(base);

const reopen = (fd: number, flags: string): number =>
  system('reopening the code file', () => openSync(`/proc/self/fd/${fd}`, flags));

function system<T>(what: string, call: () => T): T {
  try {
    return call();
  } catch (cause) {
    throw new EngineError('E-SYSTEM', `${what} was refused: ${(cause as Error).message}`, {}, { cause });
  }
}
