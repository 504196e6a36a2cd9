// The devices of a file system: which images belong together, and where on them an address is.

import type { Where } from '../errors.js';
import { type DamageReport, damage } from './damage.js';
import { type Device, SECTOR_BYTES } from './device.js';
import type { Address } from './pointer.js';
import type { Member, Superblock } from './superblock.js';

const NO_UUID = '0'.repeat(32);

export class Members {
  /** The newest superblock of all devices: it speaks for the file system. */
  readonly superblock: Superblock;
  readonly #byIndex = new Map<number, Superblock>();

  /**
   * @param superblocks of the devices, in the order given; a device that does not belong to the first one's file system
   *   is damage, and left out
   */
  constructor(superblocks: readonly Superblock[], report: DamageReport) {
    const ours = superblocks.filter((each) => each.uuid === superblocks[0]!.uuid);
    this.superblock = ours.reduce((a, b) => (a.seq >= b.seq ? a : b));
    for (const each of superblocks) report.attempt(() => this.#add(each));
    for (const each of this.#byIndex.values()) report.attempt(() => this.#requireWhole(each));
    this.#tellMissing(report);
  }

  /** Devices that were given, by index. */
  get present(): ReadonlyMap<number, Superblock> {
    return this.#byIndex;
  }

  /** What the file system knows of a device that was given. */
  member(dev: number): Member {
    return this.superblock.members[dev]!;
  }

  /**
   * The device and the byte at which a node is.
   * @returns undefined if the device was not given
   * @throws ImageError 'bad_address' if no btree node can be there
   */
  locate(address: Address, nodeBytes: number, where: Where): { device: Device; byte: number } | undefined {
    const { dev, sector } = address;
    const bad = (why: string) =>
      damage('bad_address', `the node is said to be at sector ${sector} of device ${dev}, ${why}`, where);
    const member = this.superblock.members[dev];
    if (!member || member.uuid === NO_UUID) throw bad('and there is no such device');
    const device = this.#byIndex.get(dev)?.device;
    if (!device) return undefined;
    const bucket = Math.floor(sector / member.bucketSectors);
    if (bucket < member.firstBucket || BigInt(bucket) >= member.bucketCount)
      throw bad('outside of its buckets');
    const end = (sector % member.bucketSectors) + nodeBytes / SECTOR_BYTES;
    if (end > member.bucketSectors) throw bad('across the end of a bucket');
    return { device, byte: sector * SECTOR_BYTES };
  }

  #add(superblock: Superblock): void {
    const { device, sector, deviceIndex, uuid, members } = superblock;
    const where = { file: device.name, byte: sector * SECTOR_BYTES };
    const newest = this.superblock;
    if (uuid !== newest.uuid) {
      const what = `it belongs to another file system than ${newest.device.name}`;
      throw damage('foreign_device', what, where);
    }
    const member = newest.members[deviceIndex];
    if (!member || member.uuid === NO_UUID || member.uuid !== members[deviceIndex]?.uuid) {
      throw damage('foreign_device', `it is no longer device ${deviceIndex} of its file system`, where);
    }
    const other = this.#byIndex.get(deviceIndex);
    if (other)
      throw damage('duplicate_device', `it is device ${deviceIndex}, and so is ${other.device.name}`, where);
    if (member.bucketSectors === 0)
      throw damage('bucket_size', `device ${deviceIndex} has buckets of no size`, where);
    this.#byIndex.set(deviceIndex, superblock);
  }

  #requireWhole({ device, deviceIndex }: Superblock): void {
    const { bucketCount, bucketSectors } = this.member(deviceIndex);
    const bytes = bucketCount * BigInt(bucketSectors * SECTOR_BYTES);
    if (bytes <= BigInt(device.size)) return;
    throw damage('truncated', `the device has ${bytes} bytes, but the image ends here; it was cut off`, {
      file: device.name,
      byte: device.size,
    });
  }

  #tellMissing(report: DamageReport): void {
    this.superblock.members.forEach(({ uuid }, dev) => {
      if (uuid === NO_UUID || this.#byIndex.has(dev)) return;
      const { device, sector } = this.superblock;
      const where = { file: device.name, byte: sector * SECTOR_BYTES };
      report.recovered(damage('missing_device', `device ${dev} of the file system was not given`, where));
    });
  }
}
