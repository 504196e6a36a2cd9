// A device image: bytes read by position, never whole. Compressed images are unpacked into blocks, see compressed.ts.

import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { compressionOf, readCompressed, type UnpackLimits } from './compressed.js';
import { damage } from './damage.js';

export interface Device {
  /** The file's name, for messages. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /**
   * Bytes `offset` … `offset + length - 1`. The result may be a view of memory of ours: do not write to it.
   * @throws ImageError 'past_end' if the device ends before them
   */
  read(offset: number, length: number): Uint8Array;
  close(): void;
}

/**
 * Opens an image: a file or block device as it is, or a file compressed with gzip or zstd.
 * @param limits where unpacking a compressed image stops; see UnpackLimits
 * @throws ImageError 'open' if it cannot be opened or read, 'bad_gzip', 'bad_zstd' or 'unpack_limit' if it cannot be unpacked
 */
export async function openDevice(path: string, limits: Partial<UnpackLimits> = {}): Promise<Device> {
  const file = new FileDevice(path);
  try {
    const compression = compressionOf(file);
    if (compression === undefined) return file;
    const unpacked = await readCompressed(file, compression, limits);
    file.close();
    return unpacked;
  } catch (error) {
    file.close();
    throw error;
  }
}

/** An uncompressed image or a block device. */
class FileDevice implements Device {
  readonly size: number;
  readonly #fd: number;
  #open = true;

  constructor(readonly name: string) {
    this.#fd = this.#system('cannot be opened', () => openSync(name, 'r'));
    try {
      this.size = this.#findSize();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  read(offset: number, length: number): Uint8Array {
    requireInside(this, offset, length);
    const bytes = new Uint8Array(length);
    let filled = 0;
    while (filled < length) {
      const got = this.#system('cannot be read', () =>
        readSync(this.#fd, bytes, filled, length - filled, offset + filled),
      );
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
    const readable = (at: number) =>
      this.#system('cannot be read', () => readSync(this.#fd, byte, 0, 1, at)) === 1;
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

  #system<T>(what: string, call: () => T): T {
    try {
      return call();
    } catch (error) {
      throw damage('open', `${what}: ${(error as Error).message}`, { file: this.name }, error);
    }
  }
}

/** Throws ImageError 'past_end' unless the range is inside of the device. */
export function requireInside(device: Pick<Device, 'name' | 'size'>, offset: number, length: number): void {
  if (offset >= 0 && length >= 0 && offset + length <= device.size) return;
  throw damage('past_end', `${length} bytes are wanted here, but the image ends at byte ${device.size}`, {
    file: device.name,
    byte: offset,
  });
}
