// A file system: from its devices to the roots of its btrees, and down to all of their nodes.

import { ImageError, type Where } from '../errors.js';
import type { UnpackerOptions } from '../index.js';
import { Checksums } from './checksum.js';
import { Claims } from './claims.js';
import { type ChaChaKey, clearKey } from './crypt.js';
import { asImageError, type DamageListener, DamageReport, damage } from './damage.js';
import { type Device, SECTOR_BYTES } from './device.js';
import { FormatCache } from './formats.js';
import { Journal } from './journal.js';
import { BtreeUpdates, type Root } from './jset.js';
import { type Key, keyPosition, keyType } from './key.js';
import { Members } from './members.js';
import { BTREE_IDS, btreeName, KEY_TYPE_DELETED } from './names.js';
import {
  type BtreeNode,
  type Expected,
  NODE_HEADER_BYTES,
  type NodeReader,
  nodeKeys,
  readNode,
  requireNodeHere,
} from './node.js';
import { type Address, type NodePointer, nodePointer } from './pointer.js';
import { POSITION_MAX, POSITION_MIN, type Position, positionText, successor } from './position.js';
import { readSuperblock, type Superblock } from './superblock.js';

export interface FilesystemOptions {
  /** Which engine unpacks the keys. Default: 'auto'. */
  readonly engine?: UnpackerOptions['engine'];
  /** Go on after damage, and read what can be read. Default: false, the first damage is thrown. */
  readonly keepGoing?: boolean;
  /** Hears of damage that is not thrown: what a copy made up for, and everything under `keepGoing`. */
  readonly onDamage?: DamageListener;
}

/**
 * Opens the file system on these devices; there is no order among them. They stay yours to close.
 * @throws ImageError if they are not the devices of a file system that can be read
 */
export async function openFilesystem(
  devices: readonly Device[],
  options: FilesystemOptions = {},
): Promise<Filesystem> {
  return new Filesystem(devices, await Checksums.load(), options);
}

export class Filesystem {
  readonly superblock: Superblock;
  /** Root nodes in order of their btree's id; a btree that has none is empty. */
  readonly roots: readonly Root[];
  readonly #report: DamageReport;
  readonly #members: Members;
  readonly #updates: BtreeUpdates;
  readonly #reader: NodeReader;

  /** See `openFilesystem`. */
  constructor(devices: readonly Device[], checksums: Checksums, options: FilesystemOptions) {
    if (devices.length === 0) throw new ImageError('no_device', 'a file system needs at least one device');
    this.#report = new DamageReport(options.keepGoing ?? false, options.onDamage);
    this.#members = new Members(readSuperblocks(devices, checksums, this.#report), this.#report);
    this.superblock = this.#members.superblock;
    const key = keyOf(this.superblock);
    const formats = new FormatCache(options.engine ?? 'auto');
    this.#reader = { superblock: this.superblock, checksums, key, formats };
    this.#updates = this.#readUpdates();
    this.roots = [...this.#updates.roots.values()].sort((a, b) => a.btreeId - b.btreeId);
  }

  /** Number of different key formats among the nodes read so far. */
  get formatCount(): number {
    return this.#reader.formats.size;
  }

  btreeName(btreeId: number): string {
    return btreeName(btreeId, this.superblock.version);
  }

  /** Whether there can be a btree of that name; it may have no nodes. */
  hasBtree(name: string): boolean {
    return Array.from({ length: BTREE_IDS }, (_, id) => this.btreeName(id)).includes(name);
  }

  /**
   * All nodes, btree by btree, children before their parent and in order of their keys.
   * @param options.btree name of the only btree to read
   * @throws ImageError at the first damage, unless the file system was opened to keep going
   */
  *nodes(options: { btree?: string } = {}): Generator<BtreeNode> {
    const claims = new Claims(this.superblock.nodeBytes);
    for (const root of this.roots) {
      const name = this.btreeName(root.btreeId);
      if (options.btree !== undefined && options.btree !== name) continue;
      const pointer = this.#report.attempt(() => rootPointer(root));
      if (!pointer) continue;
      yield* this.#subtree({ btreeId: root.btreeId, btreeName: name, level: root.level, pointer }, claims);
    }
  }

  /** Frees the routines that unpack keys. Nodes read before can no longer unpack others. */
  close(): void {
    this.#reader.formats.dispose();
  }

  #readUpdates(): BtreeUpdates {
    const { isClean, cleanEntries, cleanEntriesByte, device } = this.superblock;
    const updates = new BtreeUpdates(this.#report);
    if (isClean && cleanEntries) {
      updates.apply(cleanEntries, { file: device.name, byte: cleanEntriesByte! });
      return updates;
    }
    const journal = new Journal(this.superblock, this.#reader.checksums, this.#reader.key, this.#report);
    for (const [dev, superblock] of this.#members.present) {
      journal.scan(superblock, this.#members.member(dev));
    }
    journal.replay(updates);
    return updates;
  }

  *#subtree(expected: Expected, claims: Claims): Generator<BtreeNode> {
    const node = this.#report.attempt(() => this.#readNode(expected, claims));
    if (!node) return;
    if (node.level > 0) {
      for (const pointer of this.#children(node)) {
        yield* this.#subtree({ ...expected, level: node.level - 1, pointer }, claims);
      }
    }
    yield node;
  }

  /** Tries one replica after the other; if none is whole, the one with the most bsets will do. */
  #readNode(expected: Expected, claims: Claims): BtreeNode {
    const faults: ImageError[] = [];
    let best: BtreeNode | undefined;
    for (const replica of expected.pointer.replicas) {
      try {
        const read = this.#readReplica(replica, expected, claims);
        if (!read) continue;
        if (!best || read.node.bsets.length > best.bsets.length) best = read.node;
        if (!read.fault) {
          for (const fault of faults) this.#report.recovered(fault);
          return read.node;
        }
        faults.push(read.fault);
      } catch (error) {
        faults.push(asImageError(error));
      }
    }
    if (faults.length === 0) throw missing(expected);
    if (!best) throw faults[0]!;
    this.#report.lost(faults[0]!);
    return best;
  }

  /** Undefined if the replica's device was not given. */
  #readReplica(
    replica: Address,
    expected: Expected,
    claims: Claims,
  ): ReturnType<typeof readNode> | undefined {
    const { nodeBytes } = this.superblock;
    const { pointer } = expected;
    const place = { btree: expected.btreeName, level: expected.level, sector: replica.sector };
    const found = this.#members.locate(replica, nodeBytes, { ...place, ...pointer.where });
    if (!found) return undefined;
    const where: Where = { ...place, file: found.device.name, byte: found.byte };
    if (pointer.sectorsWritten * SECTOR_BYTES > nodeBytes) {
      throw damage(
        'sectors_written',
        `${pointer.sectorsWritten} written sectors are more than a node has`,
        where,
      );
    }
    const { device } = found;
    if (found.byte + nodeBytes > device.size) {
      throw damage('past_end', `the image ends at byte ${device.size}, before the end of the node`, where);
    }
    requireNodeHere(device.read(found.byte, NODE_HEADER_BYTES), expected, this.superblock, where);
    if (!claims.claim(replica))
      throw damage('node_twice', 'more than one pointer leads to the node here', where);
    const written = device.read(found.byte, pointer.sectorsWritten * SECTOR_BYTES || nodeBytes).slice();
    return readNode(this.#reader, expected, written, where);
  }

  /** Pointers to the children of an interior node, in order; they must cover its range without gap or overlap. */
  *#children(node: BtreeNode): Generator<NodePointer> {
    let next: Position | undefined = node.min;
    let last: Position | undefined;
    for (const key of this.#liveKeys(node)) {
      const pointer = this.#report.attempt(() => nodePointer(key));
      if (pointer && next !== undefined && pointer.min !== undefined && pointer.min !== next) {
        this.#report.lost(gap(pointer.min, next, key.where));
      }
      last = keyPosition(key.unpacked);
      next = pointer && successor(last);
      if (pointer) yield pointer;
    }
    if (last !== node.max) this.#report.lost(gap(undefined, next ?? node.max, node.where));
  }

  /** The keys of a node after its bsets and the journal are merged: at each position the newest, unless it deletes. */
  #liveKeys(node: BtreeNode): Key[] {
    const keys = new Map<Position, Key>();
    for (const { o, unpacked, value } of nodeKeys(node)) {
      keys.set(keyPosition(unpacked), {
        unpacked,
        value,
        where: { ...node.where, byte: node.where.byte! + o },
      });
    }
    for (const [position, key] of this.#updates.keys(node.btreeId, node.level, node.min, node.max)) {
      keys.set(position, key);
    }
    return [...keys.entries()]
      .filter(
        ([position, key]) =>
          node.min <= position && position <= node.max && keyType(key.unpacked) !== KEY_TYPE_DELETED,
      )
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, key]) => key);
  }
}

function readSuperblocks(
  devices: readonly Device[],
  checksums: Checksums,
  report: DamageReport,
): Superblock[] {
  const failures: ImageError[] = [];
  const found: Superblock[] = [];
  for (const device of devices) {
    try {
      found.push(readSuperblock(device, checksums, report));
    } catch (error) {
      failures.push(asImageError(error));
    }
  }
  if (found.length === 0) throw failures[0]!;
  for (const failure of failures) report.lost(failure);
  return found;
}

/** Undefined if the file system is not encrypted. */
function keyOf({ encryptionType, encryptedKey, device, sector }: Superblock): ChaChaKey | undefined {
  if (encryptionType === 0) return undefined;
  return clearKey(encryptedKey, { file: device.name, byte: sector * SECTOR_BYTES });
}

function rootPointer({ btreeId, key }: Root): NodePointer {
  const pointer = nodePointer(key);
  if (pointer.max === POSITION_MAX && (pointer.min ?? POSITION_MIN) === POSITION_MIN) return pointer;
  throw damage('root_range', `the root of btree ${btreeId} does not hold all of its positions`, key.where);
}

function missing({ btreeName, level, pointer }: Expected): ImageError {
  const { sector } = pointer.replicas[0]!;
  const devices = pointer.replicas.map((replica) => replica.dev).join(', ');
  return damage('missing_device', `the node is on device ${devices}, which was not given; name all devices`, {
    ...pointer.where,
    btree: btreeName,
    level,
    sector,
  });
}

function gap(found: Position | undefined, wanted: Position, where: Where): ImageError {
  const what =
    found === undefined ? 'no child' : `the child after it starts at ${positionText(found)}, so no child`;
  return damage('node_gap', `${what} holds position ${positionText(wanted)}`, where);
}
