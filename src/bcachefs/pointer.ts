// A key of an interior node, of the journal or of the superblock that points to a btree node.
//
//   btree_ptr_v2   0 unused:64 | 8 seq:64 | 16 sectors_written:16 | 18 flags:16 | 20 min_key:160 | 40 pointers:64 …
//   btree_ptr      0 pointers:64 …
//   a pointer      0 type, ends with its lowest set bit | 4 sector:44 | 48 device:8 | 56 generation:8

import type { Where } from '../errors.js';
import { damage } from './damage.js';
import { type Key, keyPosition, keyType } from './key.js';
import { KEY_TYPE_BTREE_PTR, KEY_TYPE_BTREE_PTR_V2 } from './names.js';
import { POSITION_BYTES, type Position, positionAt } from './position.js';
import { viewOf } from './view.js';

export interface Address {
  readonly dev: number;
  readonly sector: number;
}

export interface NodePointer {
  /** Largest position of the node, inclusive. */
  readonly max: Position;
  /** Smallest position and seq of the node; a btree_ptr does not tell them. */
  readonly min: Position | undefined;
  readonly seq: bigint | undefined;
  /** 0 if it is not known how much of the node is written. */
  readonly sectorsWritten: number;
  /** The node's own min and max are out of date. */
  readonly rangeUpdated: boolean;
  /** Where the node is, one address per replica, at least one. */
  readonly replicas: readonly Address[];
  readonly where: Where;
}

const V2_BYTES = 40;
const POINTER_TYPE_BIT = 1n;

/** @throws ImageError 'not_a_pointer' */
export function nodePointer(key: Key): NodePointer {
  const { unpacked, value, where } = key;
  const type = keyType(unpacked);
  const isV2 = type === KEY_TYPE_BTREE_PTR_V2;
  if (!isV2 && type !== KEY_TYPE_BTREE_PTR) {
    throw damage(
      'not_a_pointer',
      `a key of type ${type} is where only a pointer to a btree node may be`,
      where,
    );
  }
  if (isV2 && value.length < V2_BYTES) {
    throw damage('not_a_pointer', `a btree_ptr_v2 of ${value.length} bytes is too short`, where);
  }
  const view = viewOf(value);
  const replicas = addresses(view, isV2 ? V2_BYTES : 0);
  if (replicas.length === 0)
    throw damage('not_a_pointer', 'the key says nowhere where the btree node is', where);
  return {
    max: keyPosition(unpacked),
    min: isV2 ? positionAt(value, V2_BYTES - POSITION_BYTES) : undefined,
    seq: isV2 ? view.getBigUint64(8, true) : undefined,
    sectorsWritten: isV2 ? view.getUint16(16, true) : 0,
    rangeUpdated: isV2 && (view.getUint16(18, true) & 1) === 1,
    replicas,
    where,
  };
}

/** The plain pointers; entries of other types have a length that only their type tells, so they end the list. */
function addresses(view: DataView, start: number): Address[] {
  const found: Address[] = [];
  for (let at = start; at + 8 <= view.byteLength; at += 8) {
    const word = view.getBigUint64(at, true);
    if ((word & POINTER_TYPE_BIT) === 0n) break;
    found.push({ dev: Number((word >> 48n) & 0xffn), sector: Number((word >> 4n) & ((1n << 44n) - 1n)) });
  }
  return found;
}
