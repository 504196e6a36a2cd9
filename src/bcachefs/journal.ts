// The journal of a file system that was not shut down cleanly: it has the roots, and changes to interior nodes.
//
//   0 csum:128 | 16 magic:64 | 24 seq:64 | 32 version:32 | 36 flags:32 | 40 u64s:32 | 48 last_seq:64 | 56 entries
//
// The newest entry that was flushed ends the journal, and says which is the oldest one still needed.

import type { Where } from '../errors.js';
import { type Checksums, isMac } from './checksum.js';
import { type ChaChaKey, chacha20, journalNonce } from './crypt.js';
import { asImageError, type DamageReport, damage } from './damage.js';
import { type Device, SECTOR_BYTES } from './device.js';
import type { BtreeUpdates } from './jset.js';
import { VERSION_SNAPSHOTS, versionText } from './names.js';
import type { Member, Superblock } from './superblock.js';
import { viewOf } from './view.js';

const MAGIC = 0x245235c1a3625032n;
const HEADER_BYTES = 56;
const ENCRYPTED_FROM = 44;
const MAX_BUCKETS = 1 << 20;

interface Entry {
  readonly device: Device;
  readonly byte: number;
  readonly length: number;
  readonly seq: bigint;
  readonly lastSeq: bigint;
  readonly isFlush: boolean;
}

export class Journal {
  readonly #entries = new Map<bigint, Entry>();

  constructor(
    private readonly superblock: Superblock,
    private readonly checksums: Checksums,
    private readonly key: ChaChaKey | undefined,
    private readonly report: DamageReport,
  ) {}

  /** Finds the entries in the journal buckets of one device; the journals of all devices make one. */
  scan(superblock: Superblock, member: Member): void {
    const bucketBytes = member.bucketSectors * SECTOR_BYTES;
    for (const bucket of journalBuckets(superblock, bucketBytes, this.report)) {
      this.#scanBucket(superblock.device, bucket * bucketBytes, bucketBytes);
    }
  }

  /** Applies the entries that are needed, oldest first. */
  replay(updates: BtreeUpdates): void {
    const entries = [...this.#entries.values()].sort((a, b) => (a.seq < b.seq ? -1 : 1));
    const newest = entries.findLast((entry) => entry.isFlush);
    if (!newest) {
      const where = { file: this.superblock.device.name };
      this.report.lost(
        damage(
          'no_journal',
          'the file system was not shut down cleanly, and its journal has no entry to start from',
          where,
        ),
      );
      return;
    }
    const needed = entries.filter((entry) => entry.seq >= newest.lastSeq && entry.seq <= newest.seq);
    this.#requireComplete(needed, newest);
    for (const entry of needed) {
      const bytes = this.#verified(entry);
      updates.apply(bytes.subarray(HEADER_BYTES), {
        file: entry.device.name,
        byte: entry.byte + HEADER_BYTES,
      });
    }
  }

  #scanBucket(device: Device, start: number, length: number): void {
    let previous = 0n;
    for (let at = 0; at + HEADER_BYTES <= length; ) {
      const where = { file: device.name, byte: start + at };
      const header = device.read(start + at, HEADER_BYTES);
      const view = viewOf(header);
      const seq = view.getBigUint64(24, true);
      if (view.getBigUint64(16, true) !== (MAGIC ^ this.superblock.uuidSeed) || seq < previous) return;
      const bytes = HEADER_BYTES + view.getUint32(40, true) * 8;
      if (at + bytes > length) {
        this.report.recovered(
          damage('journal_length', `journal entry ${seq} reaches past the end of its bucket`, where),
        );
        return;
      }
      const isFlush = (view.getUint32(36, true) & 0b100000) === 0;
      this.#offer({
        device,
        byte: start + at,
        length: bytes,
        seq,
        lastSeq: view.getBigUint64(48, true),
        isFlush,
      });
      previous = seq;
      at += roundUp(bytes, this.superblock.blockBytes);
    }
  }

  /** Keeps an entry if it is sound. A torn one is what an unclean shutdown leaves, so by itself it is no loss. */
  #offer(entry: Entry): void {
    if (this.superblock.blacklist.has(entry.seq) || this.#entries.has(entry.seq)) return;
    try {
      const bytes = this.#verified(entry);
      // Part of an encrypted entry's header is encrypted, too.
      const lastSeq = viewOf(bytes).getBigUint64(48, true);
      this.#entries.set(entry.seq, { ...entry, lastSeq });
    } catch (error) {
      this.report.recovered(asImageError(error));
    }
  }

  /** The bytes of an entry, decrypted. */
  #verified(entry: Entry): Uint8Array {
    const where = { file: entry.device.name, byte: entry.byte };
    const bytes = entry.device.read(entry.byte, entry.length).slice();
    const view = viewOf(bytes);
    const flags = view.getUint32(36, true);
    if (flags & 0b10000) throw damage('big_endian', `journal entry ${entry.seq} is big-endian`, where);
    const version = view.getUint32(32, true);
    if (version < VERSION_SNAPSHOTS) throw tooOld(entry.seq, version, where);
    const type = flags & 15;
    const mac = this.key && { key: this.key, nonce: journalNonce(entry.seq) };
    this.checksums.require(type, bytes, `journal entry ${entry.seq}`, where, mac);
    if (mac && isMac(type)) chacha20(mac.key, mac.nonce, bytes.subarray(ENCRYPTED_FROM));
    return bytes;
  }

  #requireComplete(needed: readonly Entry[], newest: Entry): void {
    let next = newest.lastSeq;
    for (const { seq } of needed) {
      const missing = this.superblock.blacklist.skip(next);
      if (missing < seq) {
        const where = { file: newest.device.name, byte: newest.byte };
        const what = `journal entries from ${missing} to ${seq - 1n} are needed and missing`;
        this.report.lost(damage('journal_missing', what, where));
      }
      next = seq + 1n;
    }
  }
}

function journalBuckets(superblock: Superblock, bucketBytes: number, report: DamageReport): Set<number> {
  const { device, sector } = superblock;
  const buckets = new Set<number>();
  const bucketsInImage = Math.floor(device.size / bucketBytes);
  for (const { first, count } of superblock.journalBuckets) {
    const end = first + count;
    const readable = Number(end < BigInt(bucketsInImage) ? end : BigInt(bucketsInImage));
    if (readable < end || buckets.size + Number(count) > MAX_BUCKETS) {
      const where = { file: device.name, byte: sector * SECTOR_BYTES };
      const what = `journal buckets from ${first} to ${end - 1n} are not all in the image`;
      report.lost(damage('journal_buckets', what, where));
    }
    for (let bucket = Number(first); bucket < readable && buckets.size < MAX_BUCKETS; bucket++)
      buckets.add(bucket);
  }
  return buckets;
}

function tooOld(seq: bigint, version: number, where: Where) {
  return damage(
    'old_version',
    `journal entry ${seq} is of version ${versionText(version)}; those before 0.12 are not read`,
    where,
  );
}

const roundUp = (bytes: number, to: number): number => Math.ceil(bytes / to) * to;
