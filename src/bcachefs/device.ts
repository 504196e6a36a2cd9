// A device image: bytes read by position, never whole.

import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { ArgumentError } from '../errors.js';
import { damage } from './damage.js';

export const SECTOR_BYTES = 512;

export interface Device {
  /** The file's name, for messages. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /**
   * Bytes `offset` … `offset + length - 1`. The result may be a view of memory of ours: do not write to it.
   * @throws ImageError 'past_end' if the device ends before them, 'io' if the system cannot read them
   * @throws ArgumentError 'A-DISPOSED' after `close`
   */
  read(offset: number, length: number): Uint8Array;
  close(): void;
}

/** An uncompressed image or a block device. */
export class FileDevice implements Device {
  readonly size: number;
  readonly #fd: number;
  #open = true;

  /** @throws ImageError 'open' */
  constructor(readonly name: string) {
    // Nonblocking, or a named pipe would be waited for.
    this.#fd = this.#system('open', undefined, () =>
      openSync(name, constants.O_RDONLY | constants.O_NONBLOCK),
    );
    try {
      this.size = this.#findSize();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  read(offset: number, length: number): Uint8Array {
    requireOpen(this.#open, this.name);
    requireInside(this, offset, length);
    const bytes = new Uint8Array(length);
    let filled = 0;
    while (filled < length) {
      const at = offset + filled;
      const got = this.#system('io', at, () => readSync(this.#fd, bytes, filled, length - filled, at));
      if (got === 0)
        throw damage('past_end', 'the file became shorter while it was read', {
          file: this.name,
          byte: offset,
        });
      filled += got;
    }
    return bytes;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.#fd);
  }

  #findSize(): number {
    const stat = fstatSync(this.#fd);
    if (stat.isFile()) return stat.size;
    if (stat.isBlockDevice()) return this.#probeSize();
    throw damage('open', 'is neither a file nor a block device', { file: this.name });
  }

  /** stat gives a block device no size, so look for the last byte that can be read: double, then halve. */
  #probeSize(): number {
    const byte = new Uint8Array(1);
    const readable = (at: number) => this.#system('open', at, () => readSync(this.#fd, byte, 0, 1, at)) === 1;
    let beyond = 1;
    while (beyond < Number.MAX_SAFE_INTEGER / 2 && readable(beyond - 1)) beyond *= 2;
    let size = Math.floor(beyond / 2);
    while (size + 1 < beyond) {
      const middle = Math.floor((size + beyond) / 2);
      if (readable(middle - 1)) size = middle;
      else beyond = middle;
    }
    return size;
  }

  #system<T>(code: 'open' | 'io', byte: number | undefined, call: () => T): T {
    try {
      return call();
    } catch (error) {
      const where = { file: this.name, ...(byte !== undefined && { byte }) };
      throw damage(code, `the system says ${(error as Error).message}`, where, error);
    }
  }
}

/** @throws ArgumentError 'A-DISPOSED' */
export function requireOpen(isOpen: boolean, name: string): void {
  if (!isOpen) throw new ArgumentError('A-DISPOSED', `${name}: it was closed, and cannot be read any more`);
}

/** Throws ImageError 'past_end' unless the range is inside of the device. */
export function requireInside(device: Pick<Device, 'name' | 'size'>, offset: number, length: number): void {
  if (offset >= 0 && length >= 0 && offset + length <= device.size) return;
  throw damage('past_end', `${length} bytes are wanted here, but the image ends at byte ${device.size}`, {
    file: device.name,
    byte: offset,
  });
}
