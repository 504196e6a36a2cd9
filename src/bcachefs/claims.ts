// The places that btree nodes were read from. Nodes never overlap; where pointers say otherwise, one of them is wrong.
// This also bounds the work that an image can ask for by its size.

import { SECTOR_BYTES } from './device.js';
import type { Address } from './pointer.js';

export class Claims {
  readonly #nodeSectors: number;
  /** One node at most starts in each run of as many sectors as a node has. */
  readonly #byRun = new Map<string, number>();

  constructor(nodeBytes: number) {
    this.#nodeSectors = nodeBytes / SECTOR_BYTES;
  }

  /** Claims the place of a node; returns false if part of it is claimed already. */
  claim({ dev, sector }: Address): boolean {
    const run = Math.floor(sector / this.#nodeSectors);
    for (const near of [run - 1, run, run + 1]) {
      const other = this.#byRun.get(`${dev}:${near}`);
      if (other !== undefined && Math.abs(other - sector) < this.#nodeSectors) return false;
    }
    this.#byRun.set(`${dev}:${run}`, sector);
    return true;
  }
}
