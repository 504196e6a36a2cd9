// The other way: a page for each routine, mapped by a call of its own. Written through the descriptor, as in the arena.

import { closeSync, ftruncateSync, openSync } from 'node:fs';
import { libc } from '../../dist/exec/libc.js';

export const PAGE_BYTES = 4096;
const TRAP = 0xcc;

export class Pages {
  /** Where each routine starts. */
  addresses = [];
  #lib = libc();

  /** Addresses and offsets in the file rise together, so that the kernel sees one mapping: it allows 65,530. */
  constructor(codes) {
    const first = this.#lib.reserve(codes.length * PAGE_BYTES);
    const writable = this.#lib.memfd('bench-pages');
    const readable = openSync(`/proc/self/fd/${writable}`, 'r');
    try {
      ftruncateSync(writable, codes.length * PAGE_BYTES);
      const page = new Uint8Array(PAGE_BYTES);
      for (const [i, code] of codes.entries()) {
        const address = first + BigInt(i * PAGE_BYTES);
        page.fill(TRAP).set(code.bytes);
        this.#lib.write(writable, page, PAGE_BYTES, i * PAGE_BYTES);
        this.#lib.mapCode(readable, i * PAGE_BYTES, address, PAGE_BYTES);
        this.addresses.push(address);
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
