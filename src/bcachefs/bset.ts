// Sets of keys (bsets) of a btree node, appended one after the other, each with a checksum of its own and encrypted by
// itself. The first one belongs to the node's header.
//
//   header   0 csum:128 | 16 magic, flags, min and max, format | 136 bset | 160 keys
//   further  0 csum:128 | 16 bset | 40 keys                       each at the start of a block
//   bset     0 seq:64 | 8 journal_seq:64 | 16 flags:32 | 20 version:16 | 22 u64s:16

import type { Where } from '../errors.js';
import { type Checksums, isMac } from './checksum.js';
import { advance, bsetNonce, type ChaChaKey, chacha20 } from './crypt.js';
import { damage } from './damage.js';
import { SECTOR_BYTES } from './device.js';
import { VERSION_SNAPSHOTS, versionText } from './names.js';
import type { Superblock } from './superblock.js';
import { viewOf } from './view.js';

export interface BsetHeader {
  /** Byte of the node at which the keys start. */
  readonly start: number;
  readonly end: number;
  readonly journalSeq: bigint;
  readonly version: number;
  readonly checksumType: number;
}

/** What it takes to verify and decrypt. */
export interface Sealed {
  readonly superblock: Superblock;
  readonly checksums: Checksums;
  readonly key: ChaChaKey | undefined;
}

/** Byte of a node at which its first bset, and so the seq of the node, is. */
export const FIRST_BSET_BYTE = 136;
const ENCRYPTED_HEADER = { start: 24, end: 136 };
const ENTRY_HEADER_BYTES = 40;
const ENTRY_BSET_BYTE = 16;
const BSET_BYTES = 24;

/** Goes through the bsets of a node, and verifies and decrypts each. */
export class BsetWalk {
  readonly #view: DataView;
  #next = 0;
  #seq = 0n;

  constructor(
    private readonly reader: Sealed,
    private readonly node: Uint8Array,
    private readonly at: (byte: number) => Where,
  ) {
    this.#view = viewOf(node);
  }

  first(): BsetHeader {
    this.#seq = this.#view.getBigUint64(FIRST_BSET_BYTE, true);
    return this.#bset(0, FIRST_BSET_BYTE);
  }

  /** The next bset that is not blacklisted. */
  next(): BsetHeader | undefined {
    while (this.#next + ENTRY_HEADER_BYTES <= this.node.length) {
      const offset = this.#next;
      if (this.#view.getBigUint64(offset + ENTRY_BSET_BYTE, true) !== this.#seq) return undefined;
      const found = this.#bset(offset, offset + ENTRY_BSET_BYTE);
      if (!this.reader.superblock.blacklist.has(found.journalSeq)) return found;
    }
    return undefined;
  }

  /** Throws unless the bsets reach to where the pointer says that they do. */
  requireAll(sectorsWritten: number): void {
    if (this.#next >= sectorsWritten * SECTOR_BYTES) return;
    const sectors = this.#next / SECTOR_BYTES;
    throw damage(
      'node_cut',
      `the node has ${sectors} sectors of keys instead of ${sectorsWritten}`,
      this.at(this.#next),
    );
  }

  #bset(offset: number, header: number): BsetHeader {
    const view = this.#view;
    const start = header + BSET_BYTES;
    const end = start + view.getUint16(header + 22, true) * 8;
    const flags = view.getUint32(header + 16, true);
    const version = view.getUint16(header + 20, true);
    const checksumType = flags & 15;
    const where = this.at(header);
    if (flags & 0b10000) throw damage('big_endian', 'a bset is big-endian, which is not supported', where);
    if (version < VERSION_SNAPSHOTS) {
      throw damage(
        'old_version',
        `a bset is of version ${versionText(version)}; those before 0.12 are not read`,
        where,
      );
    }
    if (end > this.node.length)
      throw damage('bset_length', `a bset ends at byte ${end} of its node, past the end`, where);
    const journalSeq = view.getBigUint64(header + 8, true);
    this.#open(offset, start, end, checksumType, journalSeq);
    // What follows is only worth a look once the checksum vouches for it.
    if (flags & 0b100000)
      throw damage('bset_whiteouts', 'a bset keeps its whiteouts apart, which is unknown on disk', where);
    const sector = flags >>> 16;
    if (sector !== 0 && sector * SECTOR_BYTES !== offset) {
      throw damage(
        'bset_offset',
        `a bset at byte ${offset} of its node claims to be at sector ${sector}`,
        where,
      );
    }
    const { blockBytes } = this.reader.superblock;
    this.#next = Math.ceil(end / blockBytes) * blockBytes;
    return { start, end, journalSeq, version, checksumType };
  }

  /** Verifies and decrypts the bset at byte `offset`, and with the first one the node's header. */
  #open(offset: number, start: number, end: number, checksumType: number, journalSeq: bigint): void {
    const { checksums, key } = this.reader;
    const nonce = bsetNonce(offset, this.#seq, journalSeq);
    const mac = key && { key, nonce };
    checksums.require(checksumType, this.node.subarray(offset, end), 'bset', this.at(offset), mac);
    if (!mac || !isMac(checksumType)) return;
    if (offset > 0) {
      chacha20(key, nonce, this.node.subarray(start, end));
      return;
    }
    const header = this.node.subarray(ENCRYPTED_HEADER.start, ENCRYPTED_HEADER.end);
    chacha20(key, nonce, header);
    chacha20(key, advance(nonce, header.length), this.node.subarray(start, end));
  }
}
