// A key in the unpacked form, struct bkey, and what follows it.
//
//   0 u64s | 1 format:7 needs_whiteout:1 | 2 type | 4 version.lo | 12 version.hi | 16 size | 20 position, struct bpos

import type { Where } from '../errors.js';
import { FORMAT_CURRENT } from '../index.js';
import { type Position, positionAt } from './position.js';
import { viewOf } from './view.js';

/** A key as it is found, with its value: what follows the key's 40 bytes in the unpacked form. */
export interface Key {
  /** struct bkey: 40 bytes. */
  readonly unpacked: Uint8Array;
  readonly value: Uint8Array;
  /** Where the key was found. */
  readonly where: Where;
}

/** The members of struct bkey. */
export interface Bkey {
  /** Length of key and value as they are stored, in 8-byte words. */
  readonly u64s: number;
  readonly format: number;
  readonly needsWhiteout: number;
  readonly type: number;
  readonly versionLo: bigint;
  readonly versionHi: number;
  readonly size: number;
  readonly snapshot: number;
  readonly offset: bigint;
  readonly inode: bigint;
}

const BYTE = { u64s: 0, format: 1, type: 2, versionLo: 4, versionHi: 12, size: 16, position: 20 } as const;

/** @param unpacked struct bkey: 40 bytes */
export function readBkey(unpacked: Uint8Array): Bkey {
  const view = viewOf(unpacked);
  return {
    u64s: unpacked[BYTE.u64s]!,
    format: unpacked[BYTE.format]! & 0x7f,
    needsWhiteout: unpacked[BYTE.format]! >> 7,
    type: keyType(unpacked),
    versionLo: view.getBigUint64(BYTE.versionLo, true),
    versionHi: view.getUint32(BYTE.versionHi, true),
    size: view.getUint32(BYTE.size, true),
    snapshot: view.getUint32(BYTE.position, true),
    offset: view.getBigUint64(BYTE.position + 4, true),
    inode: view.getBigUint64(BYTE.position + 12, true),
  };
}

export const keyType = (unpacked: Uint8Array): number => unpacked[BYTE.type]!;
export const keyPosition = (unpacked: Uint8Array): Position => positionAt(unpacked, BYTE.position);

/** Bytes that the key at byte `at`, packed or not, takes with its value. */
export const storedBytes = (bytes: Uint8Array, at: number): number => bytes[at + BYTE.u64s]! * 8;
/** Whether the key at byte `at` is struct bkey as it stands. */
export const isUnpacked = (bytes: Uint8Array, at: number): boolean =>
  (bytes[at + BYTE.format]! & 0x7f) === FORMAT_CURRENT;
