// The other way: a page for each routine, mapped by a call of its own. Written through the descriptor, as in the arena.

import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { libc } from '../../dist/exec/libc.js';

export const PAGE_BYTES = 4096;
const TRAP = 0xcc;

export class Pages {
  /** Where each routine starts. */
  addresses = [];
  #lib = libc();

  constructor(codes) {
    const writable = this.#lib.memfd('bench-pages');
    const readable = openSync(`/proc/self/fd/${writable}`, 'r');
    try {
      ftruncateSync(writable, codes.length * PAGE_BYTES);
      const page = new Uint8Array(PAGE_BYTES);
      // Each mapping goes below the one before, and from the end of the file on the kernel sees them as one: it allows 65,530.
      for (let i = codes.length - 1; i >= 0; i--) {
        page.fill(TRAP).set(codes[i].bytes);
        writeSync(writable, page, 0, PAGE_BYTES, i * PAGE_BYTES);
        this.addresses[i] = this.#lib.mapCode(readable, i * PAGE_BYTES, PAGE_BYTES);
      }
    } finally {
      closeSync(writable);
      closeSync(readable);
    }
  }

  dispose() {
    for (const address of this.addresses.splice(0)) this.#lib.unmap(address, PAGE_BYTES);
  }
}
