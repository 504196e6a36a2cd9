// A btree node on disk: a header, and sets of keys, see bset.ts.
//
//   0 csum:128 | 16 magic:64 | 24 flags:64 | 32 min_key:160 | 52 max_key:160 | 80 format:448 | 136 first bset | 160 keys

import { FormatError, type ImageError, type Where } from '../errors.js';
import { BKEY_BYTES, BKEY_FORMAT_BYTES, type Field, type Format, type Unpacker } from '../index.js';
import { type BsetHeader, BsetWalk, FIRST_BSET_BYTE, type Sealed } from './bset.js';
import { asImageError, damage } from './damage.js';
import type { FormatCache } from './formats.js';
import { isUnpacked, storedBytes } from './key.js';
import type { NodePointer } from './pointer.js';
import { type Position, positionAt, positionText } from './position.js';
import type { Superblock } from './superblock.js';
import { viewOf } from './view.js';

/** A set of keys, as a range of bytes of its node, and unpacked. */
export interface Bset extends BsetHeader {
  readonly keyCount: number;
  /** The keys in the unpacked form, 40 bytes each. */
  readonly unpacked: Uint8Array;
  /** Byte of the node at which each key starts. */
  readonly offsets: Uint32Array;
}

export interface BtreeNode {
  readonly btreeId: number;
  readonly btreeName: string;
  readonly level: number;
  /** First address of the key that points to the node, even if another replica was read. */
  readonly dev: number;
  readonly sector: number;
  /** Where it was read: the image, and its first byte there. */
  readonly where: Where;
  /** Smallest and largest position, both inclusive. */
  readonly min: Position;
  readonly max: Position;
  readonly format: Format;
  /** struct bkey_format: 56 bytes. */
  readonly formatBytes: Uint8Array;
  /** The node as far as it is written, decrypted. */
  readonly bytes: Uint8Array;
  readonly bsets: readonly Bset[];
  readonly keyCount: number;
  /** Shared by all nodes of this format; the file system disposes of it. */
  readonly unpacker: Unpacker;
}

export interface NodeKey {
  /** Byte of the node at which the key starts. */
  readonly o: number;
  readonly packed: boolean;
  /** struct bkey: 40 bytes. */
  readonly unpacked: Uint8Array;
  readonly value: Uint8Array;
}

/** What is known of a node before it is read. */
export interface Expected {
  readonly btreeId: number;
  readonly btreeName: string;
  readonly level: number;
  readonly pointer: NodePointer;
}

/** What reading any node of a file system takes. */
export interface NodeReader extends Sealed {
  readonly formats: FormatCache;
}

export const NODE_HEADER_BYTES = 160;
const NODE_MAGIC = 0x90135c78b99e07f5n;
const FORMAT_BYTE = 80;

/**
 * Every key of a node as it is stored, bset by bset: deleted keys and keys that later bsets replace are among them.
 */
export function* nodeKeys(node: BtreeNode): Generator<NodeKey> {
  const packedBytes = node.format.packedBytes;
  for (const bset of node.bsets) {
    for (let i = 0; i < bset.keyCount; i++) {
      const o = bset.offsets[i]!;
      const packed = !isUnpacked(node.bytes, o);
      const keyBytes = packed ? packedBytes : BKEY_BYTES;
      const value = node.bytes.subarray(o + keyBytes, o + storedBytes(node.bytes, o));
      yield { o, packed, unpacked: bset.unpacked.subarray(i * BKEY_BYTES, (i + 1) * BKEY_BYTES), value };
    }
  }
}

/** The fields that struct bkey_format describes: inode, offset, snapshot, size, version_hi and version_lo. */
export function packedFields(format: Format): readonly Field[] {
  return format.fields.filter(({ name }) => !['u64s', 'needs_whiteout', 'type'].includes(name));
}

/** Checks the little that tells a node from anything else: its magic number and seq. */
export function requireNodeHere(
  header: Uint8Array,
  expected: Expected,
  superblock: Superblock,
  where: Where,
): void {
  const view = viewOf(header);
  if (view.getBigUint64(16, true) !== (NODE_MAGIC ^ superblock.uuidSeed)) {
    throw damage('node_magic', 'there is no btree node of this file system here', where);
  }
  const seq = view.getBigUint64(FIRST_BSET_BYTE, true);
  if (expected.pointer.seq === undefined || seq === expected.pointer.seq) return;
  throw damage('node_seq', `the node here has seq ${seq} instead of ${expected.pointer.seq}`, where);
}

/**
 * Reads a node of which `requireNodeHere` approved.
 * @param written a copy of the node, as far as it is written; decrypted in place
 * @param where of its first byte
 * @returns the node; and what is wrong with it, if its first bsets can be read and a later one cannot
 * @throws ImageError if nothing of it can be read
 */
export function readNode(
  reader: NodeReader,
  expected: Expected,
  written: Uint8Array,
  where: Where,
): { node: BtreeNode; fault: ImageError | undefined } {
  const at = (byte: number): Where => ({ ...where, byte: where.byte! + byte });
  const walk = new BsetWalk(reader, written, at);
  const first = walk.first();
  checkIdentity(written, expected, at);
  const formatBytes = written.subarray(FORMAT_BYTE, FORMAT_BYTE + BKEY_FORMAT_BYTES);
  const { format, unpacker } = formatOf(reader.formats, formatBytes, at(FORMAT_BYTE));
  const bsets: Bset[] = [];
  let fault: ImageError | undefined;
  try {
    for (let found: BsetHeader | undefined = first; found; found = walk.next()) {
      const keys = unpacker.unpackStream(written, { start: found.start, end: found.end });
      bsets.push({ ...found, keyCount: keys.count, unpacked: keys.out, offsets: keys.offsets });
      if (keys.stoppedAt) throw damage('bad_key', keys.stoppedAt.reason, at(keys.stoppedAt.offset));
    }
    walk.requireAll(expected.pointer.sectorsWritten);
  } catch (error) {
    fault = asImageError(error);
  }
  const { btreeId, btreeName, level, pointer } = expected;
  const node: BtreeNode = {
    btreeId,
    btreeName,
    level,
    ...pointer.replicas[0]!,
    where,
    min: pointer.min ?? positionAt(written, 32),
    max: pointer.max,
    format,
    formatBytes,
    bytes: written,
    bsets,
    keyCount: bsets.reduce((sum, { keyCount }) => sum + keyCount, 0),
    unpacker,
  };
  return { node, fault };
}

function checkIdentity(node: Uint8Array, expected: Expected, at: (byte: number) => Where): void {
  const flags = viewOf(node).getBigUint64(24, true);
  const btreeId = Number((flags & 15n) | (((flags >> 9n) & 0xffffn) << 4n));
  const level = Number((flags >> 4n) & 15n);
  const { pointer } = expected;
  if (btreeId !== expected.btreeId)
    throw damage('node_btree', `the node here belongs to btree ${btreeId}`, at(24));
  if (level !== expected.level) throw damage('node_level', `the node here is of level ${level}`, at(24));
  if (pointer.rangeUpdated) return;
  const min = positionAt(node, 32);
  const max = positionAt(node, 52);
  if (pointer.min !== undefined && min !== pointer.min) {
    throw damage(
      'node_range',
      `the node starts at ${positionText(min)} instead of ${positionText(pointer.min)}`,
      at(32),
    );
  }
  if (max !== pointer.max) {
    throw damage(
      'node_range',
      `the node ends at ${positionText(max)} instead of ${positionText(pointer.max)}`,
      at(52),
    );
  }
}

function formatOf(formats: FormatCache, raw: Uint8Array, where: Where) {
  try {
    return formats.get(raw);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw damage('bad_format', `the key format is not legal: ${error.message}`, where, error);
  }
}
