// Memory between pages that may not be touched: whoever reads or writes past either end is killed.

import { createRequire } from 'node:module';

const koffi: typeof import('koffi') = createRequire(import.meta.url)('koffi');
const lib = koffi.load(null);
const mmap = lib.func('uintptr_t mmap(void *, size_t, int, int, int, int64_t)');
const mprotect = lib.func('int mprotect(uintptr_t address, size_t length, int prot)');

const PAGE = 4096;
const PROT = { none: 0, readWrite: 3 };
const MAP = { private: 2, anonymous: 0x20 };

export class GuardedMemory {
  /** All of the memory between the forbidden pages. */
  readonly bytes: Uint8Array;

  constructor(atLeast: number) {
    const length = Math.ceil(atLeast / PAGE) * PAGE;
    const flags = MAP.private | MAP.anonymous;
    const address = BigInt(mmap(null, length + 2 * PAGE, PROT.none, flags, -1, 0)) + BigInt(PAGE);
    if (mprotect(address, length, PROT.readWrite) !== 0) throw new Error('no memory');
    this.bytes = new Uint8Array(koffi.view(address, length));
  }

  /** `length` bytes that begin, or end, at a forbidden page. */
  buffer(length: number, edge: 'start' | 'end'): Uint8Array {
    return edge === 'start'
      ? this.bytes.subarray(0, length)
      : this.bytes.subarray(this.bytes.length - length);
  }
}
