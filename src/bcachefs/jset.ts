// Journal-set entries: what a journal entry and the clean section of the superblock are made of. Of interest are the
// roots of the btrees, and keys of interior nodes that were not written to their nodes yet.
//
//   0 u64s:16 | 2 btree_id:8 | 3 level:8 | 4 type:8 | 8 payload

import type { Where } from '../errors.js';
import { BKEY_BYTES } from '../index.js';
import { type DamageReport, damage } from './damage.js';
import { isUnpacked, type Key, keyPosition, storedBytes } from './key.js';
import type { Position } from './position.js';
import { viewOf } from './view.js';

export interface Root {
  readonly btreeId: number;
  /** Level of the root node: 0 if the whole btree is one leaf. */
  readonly level: number;
  readonly key: Key;
}

/** Levels 0 to 3. */
const MAX_DEPTH = 4;

const HEADER_BYTES = 8;
const TYPE_BTREE_KEYS = 0;
const TYPE_BTREE_ROOT = 1;

/** What a run of journal-set entries says of the btrees; entries that come later replace what earlier ones said. */
export class BtreeUpdates {
  /** By btree id. */
  readonly roots = new Map<number, Root>();
  readonly #keys = new Map<number, Map<Position, Key>>();
  readonly #sorted = new Map<number, Position[]>();

  constructor(private readonly report: DamageReport) {}

  /** @param where of the first entry */
  apply(entries: Uint8Array, where: Where): void {
    const view = viewOf(entries);
    for (let at = 0; at + HEADER_BYTES <= entries.length; ) {
      const end = at + HEADER_BYTES + view.getUint16(at, true) * 8;
      const place = { ...where, byte: where.byte! + at };
      if (end > entries.length) {
        this.report.lost(damage('entry_length', 'a journal-set entry reaches past the end', place));
        return;
      }
      const payload = entries.subarray(at + HEADER_BYTES, end);
      const [btreeId, level, type] = entries.subarray(at + 2, at + 5);
      this.report.attempt(() =>
        this.#entry(type!, btreeId!, level!, payload, { ...place, byte: place.byte + HEADER_BYTES }),
      );
      at = end;
    }
  }

  /** The keys of that level from `min` to `max`, in order. */
  *keys(btreeId: number, level: number, min: Position, max: Position): Generator<[Position, Key]> {
    const slot = slotOf(btreeId, level);
    const keys = this.#keys.get(slot);
    if (!keys) return;
    let positions = this.#sorted.get(slot);
    if (!positions) this.#sorted.set(slot, (positions = [...keys.keys()].sort()));
    for (let i = firstNotBelow(positions, min); i < positions.length && positions[i]! <= max; i++) {
      yield [positions[i]!, keys.get(positions[i]!)!];
    }
  }

  #entry(type: number, btreeId: number, level: number, payload: Uint8Array, where: Where): void {
    if (type !== TYPE_BTREE_ROOT && type !== TYPE_BTREE_KEYS) return;
    if (level >= MAX_DEPTH) throw damage('level', `there is no level ${level} in a btree`, where);
    if (type === TYPE_BTREE_KEYS && level === 0) return;
    const keys = [...unpackedKeys(payload, where)];
    if (type === TYPE_BTREE_ROOT) {
      if (keys.length !== 1)
        throw damage('root', `the entry of a btree root has ${keys.length} keys instead of one`, where);
      this.roots.set(btreeId, { btreeId, level, key: keys[0]! });
    } else {
      for (const key of keys) this.#add(slotOf(btreeId, level), key);
    }
  }

  #add(slot: number, key: Key): void {
    let keys = this.#keys.get(slot);
    if (!keys) this.#keys.set(slot, (keys = new Map()));
    keys.set(keyPosition(key.unpacked), key);
    this.#sorted.delete(slot);
  }
}

function* unpackedKeys(payload: Uint8Array, where: Where): Generator<Key> {
  for (let at = 0; at < payload.length; ) {
    const length = storedBytes(payload, at);
    const place = { ...where, byte: where.byte! + at };
    if (length < BKEY_BYTES || at + length > payload.length) {
      throw damage('key_length', `a key of ${length} bytes does not fit here`, place);
    }
    if (!isUnpacked(payload, at)) throw damage('key_format', 'a key in the journal is packed', place);
    yield {
      unpacked: payload.subarray(at, at + BKEY_BYTES),
      value: payload.subarray(at + BKEY_BYTES, at + length),
      where: place,
    };
    at += length;
  }
}

const slotOf = (btreeId: number, level: number): number => btreeId * MAX_DEPTH + level;

function firstNotBelow(sorted: readonly Position[], min: Position): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]! < min) low = middle + 1;
    else high = middle;
  }
  return low;
}
