// Seeded damage to images: bits and bytes anywhere, and fields that are aimed at, behind a checksum made anew.

import type { Checksums } from '../src/bcachefs/checksum.js';
import { type Device, requireInside, SECTOR_BYTES } from '../src/bcachefs/device.js';
import { nodeKeys, openFilesystem } from '../src/bcachefs/index.js';
import { btreeName } from '../src/bcachefs/names.js';

/** A device with changes laid over it; counts what is read from it. */
export class OverlayDevice implements Device {
  size: number;
  bytesRead = 0;
  readonly #patches: { offset: number; bytes: Uint8Array }[] = [];

  constructor(private readonly base: Device) {
    this.size = base.size;
  }

  get name(): string {
    return this.base.name;
  }

  read(offset: number, length: number): Uint8Array {
    requireInside(this, offset, length);
    this.bytesRead += length;
    const bytes = this.base.read(offset, length);
    const touching = this.#patches.filter(
      (p) => p.offset < offset + length && offset < p.offset + p.bytes.length,
    );
    if (touching.length === 0) return bytes;
    const patched = bytes.slice();
    for (const patch of touching) {
      const from = Math.max(patch.offset, offset);
      const to = Math.min(patch.offset + patch.bytes.length, offset + length);
      patched.set(patch.bytes.subarray(from - patch.offset, to - patch.offset), from - offset);
    }
    return patched;
  }

  close(): void {}

  patch(offset: number, bytes: Uint8Array): void {
    this.#patches.push({ offset, bytes: bytes.slice() });
  }

  flip(offset: number, bits: number): void {
    this.patch(offset, Uint8Array.of(this.read(offset, 1)[0]! ^ bits));
  }

  truncate(size: number): void {
    this.size = size;
  }

  /** Byte offsets of the copies that the layout block lists. */
  superblockCopies(): number[] {
    const layout = this.base.read(3584, 512);
    const view = new DataView(layout.buffer, layout.byteOffset, layout.length);
    return Array.from(
      { length: layout[18]! },
      (_, i) => Number(view.getBigUint64(24 + i * 8, true)) * SECTOR_BYTES,
    );
  }

  sealSuperblock(offset: number, checksums: Checksums): void {
    const type = (this.read(offset + 144, 1)[0]! >> 2) & 63;
    this.#seal(offset, 752 + 8 * this.#number(offset + 124, 4), type, checksums);
  }

  sealJournalEntry(offset: number, checksums: Checksums): void {
    this.#seal(offset, 56 + 8 * this.#number(offset + 40, 4), this.read(offset + 36, 1)[0]! & 15, checksums);
  }

  /** @param keys bytes from the start of the bset's part of the node to its keys: 160 or 40 */
  sealBset(offset: number, keys: 160 | 40, checksums: Checksums): void {
    const header = offset + keys - 24;
    this.#seal(
      offset,
      keys + 8 * this.#number(header + 22, 2),
      this.read(header + 16, 1)[0]! & 15,
      checksums,
    );
  }

  #seal(offset: number, length: number, type: number, checksums: Checksums): void {
    const end = Math.min(offset + length, this.size, offset + 2 ** 20);
    const checksum = checksums.of(type, this.read(offset + 16, end - offset - 16));
    if (checksum) this.patch(offset, checksum);
  }

  #number(offset: number, length: number): number {
    return this.read(offset, length).reduceRight((value, byte) => value * 256 + byte, 0);
  }
}

/** A device whose bytes are in memory. */
export class MemoryDevice implements Device {
  readonly size: number;

  constructor(
    readonly name: string,
    private readonly bytes: Uint8Array,
  ) {
    this.size = bytes.length;
  }

  read(offset: number, length: number): Uint8Array {
    requireInside(this, offset, length);
    return this.bytes.subarray(offset, offset + length);
  }

  close(): void {}
}

/** Numbers that depend on the seed alone (mulberry32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** 0 … below - 1. */
  below(below: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.below(256));
  }
}

/** A field of an on-disk structure, and how the checksum over it is made anew. */
export interface Target {
  readonly parser: 'superblock' | 'journal' | 'node' | 'bset' | 'key' | 'pointer';
  readonly name: string;
  readonly device: number;
  readonly offset: number;
  readonly length: number;
  readonly btree: string | undefined;
  seal(device: OverlayDevice): void;
}

/** The fields of an image that are worth aiming at. */
export async function targetsOf(devices: readonly Device[], checksums: Checksums): Promise<Target[]> {
  const filesystem = await openFilesystem(devices, { engine: 'reference' });
  const targets = devices.flatMap((device, index) => superblockTargets(device, index, checksums));
  devices.forEach((device, index) => {
    if (!filesystem.superblock.isClean) targets.push(...journalTargets(device, index, checksums));
  });
  for (const node of filesystem.nodes()) {
    const start = node.sector * SECTOR_BYTES;
    const btree = node.btreeName;
    const add = (parser: Target['parser'], name: string, at: number, length: number, bset: number) => {
      const keys = bset === 0 ? 160 : 40;
      const offset = start + node.bsets[bset]!.start - keys;
      const seal = (device: OverlayDevice) => device.sealBset(offset, keys, checksums);
      targets.push({ parser, name, device: node.dev, offset: start + at, length, btree, seal });
    };
    for (const [name, at, length] of NODE_FIELDS) add('node', name, at, length, 0);
    for (let i = 0; i < 6; i++) {
      add('node', `bits_per_field[${i}]`, 82 + i, 1, 0);
      add('node', `field_offset[${i}]`, 88 + 8 * i, 8, 0);
    }
    node.bsets.forEach((bset, i) => {
      for (const [name, at, length] of BSET_FIELDS) add('bset', name, bset.start - 24 + at, length, i);
    });
    const bsetOf = (o: number) => node.bsets.findIndex(({ start, end }) => start <= o && o < end);
    for (const { o, value } of nodeKeys(node)) {
      const bset = bsetOf(o);
      add('key', 'u64s', o, 1, bset);
      add('key', 'format', o + 1, 1, bset);
      if (node.level === 0) continue;
      add('pointer', 'type', o + 2, 1, bset);
      add('pointer', 'packed bits', o + 3, 8, bset);
      const valueAt = value.byteOffset - node.bytes.byteOffset;
      for (const [name, at, length] of POINTER_FIELDS) add('pointer', name, valueAt + at, length, bset);
    }
  }
  filesystem.close();
  return targets;
}

type FieldRow = readonly [name: string, at: number, length: number];
const NODE_FIELDS: readonly FieldRow[] = [
  ['magic', 16, 8],
  ['btree id and level', 24, 1],
  ['flags', 24, 8],
  ['min_key', 32, 20],
  ['max_key', 52, 20],
  ['key_u64s', 80, 1],
  ['nr_fields', 81, 1],
];
const BSET_FIELDS: readonly FieldRow[] = [
  ['seq', 0, 8],
  ['journal_seq', 8, 8],
  ['flags', 16, 4],
  ['offset', 18, 2],
  ['version', 20, 2],
  ['u64s', 22, 2],
];
const POINTER_FIELDS: readonly FieldRow[] = [
  ['seq', 8, 8],
  ['sectors_written', 16, 2],
  ['flags', 18, 2],
  ['min_key', 20, 20],
  ['pointer', 40, 8],
  ['sector', 40, 6],
  ['device', 46, 1],
];
const SUPERBLOCK_FIELDS: readonly FieldRow[] = [
  ['version', 16, 2],
  ['magic', 24, 16],
  ['uuid', 40, 16],
  ['offset', 104, 8],
  ['seq', 112, 8],
  ['block_size', 120, 2],
  ['dev_idx', 122, 1],
  ['nr_devices', 123, 1],
  ['u64s', 124, 4],
  ['flags[0]', 144, 8],
  ['node size', 145, 3],
  ['encryption type', 153, 1],
  ['layout', 240, 32],
];
const JOURNAL_FIELDS: readonly FieldRow[] = [
  ['magic', 16, 8],
  ['seq', 24, 8],
  ['version', 32, 4],
  ['flags', 36, 4],
  ['u64s', 40, 4],
  ['last_seq', 48, 8],
];
const ENTRY_FIELDS: readonly FieldRow[] = [
  ['entry u64s', 0, 2],
  ['entry btree', 2, 1],
  ['entry level', 3, 1],
  ['entry type', 4, 1],
  ['entry key u64s', 8, 1],
  ['entry key format', 9, 1],
  ['entry key type', 10, 1],
  ['entry key position', 28, 20],
];
const SECTION_CLEAN = 6;
/** Sections that a reader of btree nodes looks at; the others count, choose or name things. */
const SECTIONS_READ = [0, 1, 2, 6, 8, 9, 11];

/** Changes are made to the first copy alone and the others are taken away, so that they matter. */
function superblockTargets(device: Device, index: number, checksums: Checksums): Target[] {
  const start = 4096;
  const copies = new OverlayDevice(device).superblockCopies().slice(1);
  const seal = (overlay: OverlayDevice) => {
    for (const copy of copies) overlay.patch(copy, new Uint8Array(SECTOR_BYTES));
    overlay.sealSuperblock(start, checksums);
  };
  const targets: Target[] = [];
  const add: AddField = (name, offset, length, btree) =>
    targets.push({ parser: 'superblock', name, device: index, offset: start + offset, length, btree, seal });
  for (const [name, at, length] of SUPERBLOCK_FIELDS) add(name, at, length);
  const fixed = Buffer.from(device.read(start, 752));
  const bytes = Buffer.from(device.read(start, 752 + 8 * fixed.readUInt32LE(124)));
  for (let at = 752; at + 8 <= bytes.length; ) {
    const length = bytes.readUInt32LE(at) * 8;
    const type = bytes.readUInt32LE(at + 4);
    if (length === 0) break;
    add('section u64s', at, 4);
    add('section type', at + 4, 4);
    for (let word = 8; SECTIONS_READ.includes(type) && word < Math.min(length, 100); word += 8) {
      add(`section ${type}, byte ${word}`, at + word, 8);
    }
    if (type === SECTION_CLEAN) addEntries(bytes, at + 24, at + length, add);
    at += length;
  }
  return targets;
}

/** The journal entries that are needed; the entries in the newest one, which has all roots, weigh as much as the headers. */
function journalTargets(device: Device, index: number, checksums: Checksums): Target[] {
  const found = journalEntries(device);
  const newest = found.reduce<JournalEntry | undefined>((a, b) => (a && a.seq >= b.seq ? a : b), undefined);
  const targets: Target[] = [];
  for (const { offset, length, seq } of found) {
    if (seq < newest!.lastSeq) continue;
    const seal = (overlay: OverlayDevice) => overlay.sealJournalEntry(offset, checksums);
    const add: AddField = (name, at, length, btree) =>
      targets.push({ parser: 'journal', name, device: index, offset: offset + at, length, btree, seal });
    for (const [name, at, size] of JOURNAL_FIELDS) add(name, at, size);
    if (seq === newest!.seq) addEntries(Buffer.from(device.read(offset, length)), 56, length, add);
  }
  return targets;
}

export interface JournalEntry {
  readonly offset: number;
  readonly length: number;
  readonly seq: bigint;
  readonly lastSeq: bigint;
}

/** All journal entries that the device has, old ones, too. */
export function journalEntries(device: Device): JournalEntry[] {
  const magic = Buffer.alloc(8);
  magic.writeBigUInt64LE(0x245235c1a3625032n ^ Buffer.from(device.read(4096, 752)).readBigUInt64LE(40));
  const found: JournalEntry[] = [];
  for (let offset = 0; offset + SECTOR_BYTES <= device.size; offset += SECTOR_BYTES) {
    const header = Buffer.from(device.read(offset, 56));
    if (!magic.equals(header.subarray(16, 24))) continue;
    const length = 56 + 8 * header.readUInt32LE(40);
    found.push({ offset, length, seq: header.readBigUInt64LE(24), lastSeq: header.readBigUInt64LE(48) });
  }
  return found;
}

type AddField = (name: string, at: number, length: number, btree?: string) => void;

function addEntries(bytes: Buffer, start: number, end: number, add: AddField): void {
  for (let at = start; at + 8 <= end; at += 8 + 8 * bytes.readUInt16LE(at)) {
    if (bytes[at + 4]! > 1) continue;
    const btree = btreeName(bytes[at + 2]!, 1060);
    for (const [name, offset, length] of ENTRY_FIELDS) add(name, at + offset, length, btree);
    for (const [name, offset, length] of POINTER_FIELDS) {
      if (at + 48 + offset + length <= end) add(`root ${name}`, at + 48 + offset, length, btree);
    }
  }
}

/** A value that code trips over, for a field that has `old` now; `others` are what the field has elsewhere. */
export function hostileValue(random: Random, old: Uint8Array, others: readonly Uint8Array[]): Uint8Array {
  for (;;) {
    const value = anyValue(random, old, others);
    if (Buffer.compare(value, old) !== 0) return value;
  }
}

function anyValue(random: Random, old: Uint8Array, others: readonly Uint8Array[]): Uint8Array {
  const value = old.slice();
  switch (random.below(8)) {
    case 0:
      return value.fill(0);
    case 1:
      return value.fill(255);
    case 2:
      return random.bytes(old.length);
    case 3:
      value[random.below(value.length)]! ^= 1 << random.below(8);
      return value;
    case 4:
      return added(value, random.pick([1, 2, 7, 8]));
    case 5:
      return added(value, -random.pick([1, 2, 7, 8]));
    case 6:
      value.fill(0);
      value[random.below(Math.min(2, value.length))] = random.below(256);
      return value;
    default:
      return others.length > 0 ? random.pick(others).slice(0, old.length) : random.bytes(old.length);
  }
}

function added(value: Uint8Array, amount: number): Uint8Array {
  for (let i = 0, carry = amount; i < value.length; i++) {
    const sum = value[i]! + carry;
    value[i] = sum & 255;
    carry = sum >> 8;
  }
  return value;
}
