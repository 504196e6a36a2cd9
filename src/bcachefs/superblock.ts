// The superblock, layout from struct bch_sb. Byte 3584 of a device holds a list of its copies, the first of which is at
// byte 4096; the copy with the highest seq wins.
//
//   0 csum:128 | 16 version:16 | 18 version_min:16 | 24 magic:128 | 40 uuid:128 | 56 user_uuid:128 | 72 label
//   104 offset:64 | 112 seq:64 | 120 block_size:16 | 122 dev_idx:8 | 123 nr_devices:8 | 124 u64s:32 | 144 flags[7]:64
//   240 layout (512 bytes) | 752 sections, each u64s:32 type:32 …

import { Blacklist } from './blacklist.js';
import { type Checksums, isMac } from './checksum.js';
import { asImageError, type DamageReport, damage } from './damage.js';
import { type Device, SECTOR_BYTES } from './device.js';
import { versionText } from './names.js';
import { viewOf } from './view.js';

export interface Member {
  /** 32 hex digits; all 0 where there is no such device. */
  readonly uuid: string;
  readonly bucketCount: bigint;
  readonly firstBucket: number;
  readonly bucketSectors: number;
}

export interface Superblock {
  readonly device: Device;
  /** Sector of the copy that was read. */
  readonly sector: number;
  readonly version: number;
  readonly versionMin: number;
  /** 32 hex digits. */
  readonly uuid: string;
  /** Seeds the magic numbers of nodes and journal entries: the first 8 bytes of the UUID. */
  readonly uuidSeed: bigint;
  readonly seq: bigint;
  readonly blockBytes: number;
  readonly nodeBytes: number;
  readonly deviceIndex: number;
  readonly isClean: boolean;
  readonly isBigEndian: boolean;
  readonly encryptionType: number;
  /** By device index. */
  readonly members: readonly Member[];
  /** Of this device. */
  readonly journalBuckets: readonly { readonly first: bigint; readonly count: bigint }[];
  readonly blacklist: Blacklist;
  /** Journal-set entries of the clean shutdown; stale unless `isClean`. */
  readonly cleanEntries: Uint8Array | undefined;
  readonly cleanEntriesByte: number | undefined;
  /** The key of an encrypted file system: 8 bytes of magic, then 32 bytes. */
  readonly encryptedKey: Uint8Array | undefined;
}

const LAYOUT_SECTOR = 7;
const DEFAULT_SECTOR = 8;
const LAYOUT_BYTES = 512;
const MAX_COPIES = 61;
/** BCH_SB_LAYOUT_SIZE_BITS_MAX: 32 MiB. */
const MAX_SIZE_BITS = 16;
const MAX_BLOCK_SECTORS = 128;
const FIXED_BYTES = 752;
const MAGICS = ['c68573f666ce90a9d96a60cf803df7ef', 'c68573f64e1a45ca8265f57f48ba6d81'];
const MAX_MAJOR_VERSION = 1;

const SECTION = {
  journal: 0,
  membersV1: 1,
  crypt: 2,
  clean: 6,
  blacklist: 8,
  journalV2: 9,
  membersV2: 11,
} as const;
const SECTION_HEADER_BYTES = 8;

/**
 * The superblock of one device.
 * @throws ImageError if no copy can be read, or a version of bcachefs wrote it that cannot be read
 */
export function readSuperblock(device: Device, checksums: Checksums, report: DamageReport): Superblock {
  const sectors = new Set([DEFAULT_SECTOR, ...copiesOfLayout(device)]);
  const valid: Superblock[] = [];
  const failures = [];
  // The set grows while it is walked: each copy lists the others, too.
  for (const sector of sectors) {
    try {
      const { superblock, copies } = readCopy(device, sector, checksums);
      valid.push(superblock);
      if (sectors.size < MAX_COPIES) for (const copy of copies) sectors.add(copy);
    } catch (error) {
      failures.push(asImageError(error));
    }
  }
  const best = valid.reduce<Superblock | undefined>((a, b) => (a && a.seq >= b.seq ? a : b), undefined);
  if (!best) throw failures[0]!;
  requireSupported(best);
  for (const failure of failures) report.recovered(failure);
  return best;
}

function copiesOfLayout(device: Device): number[] {
  const start = LAYOUT_SECTOR * SECTOR_BYTES;
  return device.size < start + LAYOUT_BYTES ? [] : layoutCopies(device.read(start, LAYOUT_BYTES));
}

/** 0 magic:128 | 16 type:8 | 17 max_size_bits:8 | 18 nr:8 | 24 sectors[61]:64 */
function layoutCopies(layout: Uint8Array): number[] {
  if (!hasMagic(layout, 0)) return [];
  const view = viewOf(layout);
  const count = Math.min(layout[18]!, MAX_COPIES);
  return Array.from({ length: count }, (_, i) => Number(view.getBigUint64(24 + i * 8, true)));
}

function readCopy(
  device: Device,
  sector: number,
  checksums: Checksums,
): { superblock: Superblock; copies: number[] } {
  const start = sector * SECTOR_BYTES;
  const fail = (code: string, what: string, byte = 0) =>
    damage(code, `superblock: ${what}`, { file: device.name, byte: start + byte });
  if (start + FIXED_BYTES > device.size)
    throw fail('past_end', `the image ends at byte ${device.size}, before it`);
  const fixed = device.read(start, FIXED_BYTES);
  if (!hasMagic(fixed, 24))
    throw fail('no_superblock', 'its magic number is not here; this is no bcachefs image', 24);
  const view = viewOf(fixed);
  const length = FIXED_BYTES + view.getUint32(124, true) * 8;
  const maxSizeBits = fixed[240 + 17]!;
  if (maxSizeBits > MAX_SIZE_BITS || length > SECTOR_BYTES << maxSizeBits) {
    throw fail('superblock_size', `${length} bytes are more than it may have`, 124);
  }
  const bytes = device.read(start, length);
  const flags = view.getBigUint64(144, true);
  const checksumType = Number((flags >> 2n) & 63n);
  if (isMac(checksumType))
    throw fail('unknown_checksum', `checksum type ${checksumType} is for encrypted data`, 144);
  checksums.require(checksumType, bytes, 'superblock', { file: device.name, byte: start });
  const writtenTo = view.getBigUint64(104, true);
  if (writtenTo !== BigInt(sector))
    throw fail('superblock_sector', `it was written to sector ${writtenTo}`, 104);
  return {
    superblock: parse(device, sector, bytes, fail),
    copies: layoutCopies(bytes.subarray(240, FIXED_BYTES)),
  };
}

type Fail = (code: string, what: string, byte?: number) => Error;

function parse(device: Device, sector: number, bytes: Uint8Array, fail: Fail): Superblock {
  const view = viewOf(bytes);
  const flags = view.getBigUint64(144, true);
  const blockSectors = view.getUint16(120, true);
  const nodeSectors = Number((flags >> 12n) & 0xffffn);
  if (!isPowerOf2(blockSectors) || blockSectors > MAX_BLOCK_SECTORS) {
    throw fail('block_size', `a block of ${blockSectors} sectors is impossible`, 120);
  }
  if (!isPowerOf2(nodeSectors) || nodeSectors < blockSectors) {
    throw fail(
      'node_size',
      `btree nodes of ${nodeSectors} sectors, with blocks of ${blockSectors}, are impossible`,
      144,
    );
  }
  const sections = readSections(bytes, fail);
  const clean = sections.get(SECTION.clean);
  return {
    device,
    sector,
    version: view.getUint16(16, true),
    versionMin: view.getUint16(18, true),
    uuid: hex(bytes.subarray(40, 56)),
    uuidSeed: view.getBigUint64(40, true),
    seq: view.getBigUint64(112, true),
    blockBytes: blockSectors * SECTOR_BYTES,
    nodeBytes: nodeSectors * SECTOR_BYTES,
    deviceIndex: bytes[122]!,
    isClean: ((flags >> 1n) & 1n) === 1n,
    isBigEndian: ((flags >> 62n) & 1n) === 1n,
    encryptionType: Number((view.getBigUint64(152, true) >> 10n) & 15n),
    members: readMembers(sections, bytes[123]!, fail),
    journalBuckets: readJournalBuckets(sections),
    blacklist: new Blacklist(
      pairs(sections.get(SECTION.blacklist), 8).map(([start, end]) => ({ start, end })),
    ),
    cleanEntries: clean?.subarray(24),
    cleanEntriesByte: clean && sector * SECTOR_BYTES + clean.byteOffset - bytes.byteOffset + 24,
    encryptedKey: encryptedKey(sections, fail),
  };
}

function readSections(bytes: Uint8Array, fail: Fail): Map<number, Uint8Array> {
  const view = viewOf(bytes);
  const sections = new Map<number, Uint8Array>();
  for (let at = FIXED_BYTES; at + SECTION_HEADER_BYTES <= bytes.length; ) {
    const length = view.getUint32(at, true) * 8;
    if (length === 0) break;
    if (at + length > bytes.length)
      throw fail('section_length', `a section of ${length} bytes reaches past the end`, at);
    sections.set(view.getUint32(at + 4, true), bytes.subarray(at, at + length));
    at += length;
  }
  return sections;
}

/** 0 uuid:128 | 16 nbuckets:64 | 24 first_bucket:16 | 26 bucket_size:16, every `stride` bytes. */
function readMembers(sections: Map<number, Uint8Array>, count: number, fail: Fail): Member[] {
  const v2 = sections.get(SECTION.membersV2);
  const section = v2 ?? sections.get(SECTION.membersV1);
  if (!section) throw fail('no_members', 'it does not say which devices there are');
  const start = v2 ? 16 : 8;
  if (section.length < start) throw fail('members', 'the list of devices is cut off');
  const view = viewOf(section);
  const stride = v2 ? view.getUint16(8, true) : 56;
  if (stride < 28 || start + count * stride > section.length) {
    throw fail('members', `the list of devices does not hold ${count} of ${stride} bytes`);
  }
  return Array.from({ length: count }, (_, i) => {
    const at = start + i * stride;
    return {
      uuid: hex(section.subarray(at, at + 16)),
      bucketCount: view.getBigUint64(at + 16, true),
      firstBucket: view.getUint16(at + 24, true),
      bucketSectors: view.getUint16(at + 26, true),
    };
  });
}

function readJournalBuckets(sections: Map<number, Uint8Array>): { first: bigint; count: bigint }[] {
  const v2 = sections.get(SECTION.journalV2);
  if (v2) return pairs(v2, 8).map(([first, count]) => ({ first, count }));
  return words(sections.get(SECTION.journal), 8).map((first) => ({ first, count: 1n }));
}

function encryptedKey(sections: Map<number, Uint8Array>, fail: Fail): Uint8Array | undefined {
  const section = sections.get(SECTION.crypt);
  if (!section) return undefined;
  if (section.length < 64) throw fail('crypt', 'the section with the key is cut off');
  return section.subarray(24, 64);
}

function requireSupported(superblock: Superblock): void {
  const { device, sector, version, versionMin, isBigEndian } = superblock;
  const where = { file: device.name, byte: sector * SECTOR_BYTES };
  if (isBigEndian) throw damage('big_endian', 'the file system is big-endian, which is not supported', where);
  for (const number of [version, versionMin]) {
    if (number >> 10 <= MAX_MAJOR_VERSION) continue;
    throw damage(
      'new_version',
      `the file system is of version ${versionText(number)}, which is not known here`,
      where,
    );
  }
}

function pairs(section: Uint8Array | undefined, start: number): [bigint, bigint][] {
  const all = words(section, start);
  return Array.from({ length: all.length >> 1 }, (_, i) => [all[2 * i]!, all[2 * i + 1]!]);
}

function words(section: Uint8Array | undefined, start: number): bigint[] {
  if (!section || section.length < start) return [];
  const view = viewOf(section);
  return Array.from({ length: (section.length - start) >> 3 }, (_, i) =>
    view.getBigUint64(start + i * 8, true),
  );
}

function hasMagic(bytes: Uint8Array, at: number): boolean {
  return MAGICS.includes(hex(bytes.subarray(at, at + 16)));
}

const hex = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex');
const isPowerOf2 = (value: number): boolean => value > 0 && (value & (value - 1)) === 0;
