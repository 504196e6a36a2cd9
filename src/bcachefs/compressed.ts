// Images compressed with gzip or zstd. An image of 100 KB can unpack to a GiB of zeros, so it is unpacked as a stream
// into blocks, blocks of zeros are not kept, and it stops at limits.

import { createGunzip } from 'node:zlib';
import { unzstd, ZstdFault } from '../zstd/stream.js';
import { damage } from './damage.js';
import { type Device, requireInside, requireOpen } from './device.js';

export interface UnpackLimits {
  /** Bytes of unpacked blocks that are not all zero, which are kept in memory. Default: 1 GiB. */
  readonly keptBytes: number;
  /** Bytes that the image unpacks to, zeros included. Default: 16 GiB. */
  readonly totalBytes: number;
}

type Compression = 'gzip' | 'zstd';

const GIB = 2 ** 30;
const DEFAULT_LIMITS: UnpackLimits = { keptBytes: GIB, totalBytes: 16 * GIB };
const BLOCK_BYTES = 64 * 1024;
const READ_BYTES = 256 * 1024;
const ZERO_BLOCK = Buffer.alloc(BLOCK_BYTES);

/** How a file is compressed, by its first bytes. */
export function compressionOf(file: Device): Compression | undefined {
  if (file.size < 4) return undefined;
  const [a, b, c, d] = file.read(0, 4);
  if (a === 0x1f && b === 0x8b) return 'gzip';
  if (b === 0xb5 && a === 0x28 && c === 0x2f && d === 0xfd) return 'zstd';
  // A skippable frame of zstd may come first.
  if ((a! & 0xf0) === 0x50 && b === 0x2a && c === 0x4d && d === 0x18) return 'zstd';
  return undefined;
}

/** @throws ImageError 'bad_gzip', 'bad_zstd', 'unpack_limit', or what reading the file throws */
export async function readCompressed(
  file: Device,
  compression: Compression,
  limits: Partial<UnpackLimits>,
): Promise<Device> {
  const image = new UnpackedImage(file.name, { ...DEFAULT_LIMITS, ...limits });
  const chunks = compression === 'zstd' ? zstdChunks(file) : gzipChunks(file);
  for await (const chunk of chunks) image.append(chunk);
  return image.finish();
}

/** Reads a file from its start: each call returns the next `length` bytes, fewer only at the end. */
function sequential(file: Device): (length: number) => Uint8Array {
  let at = 0;
  let buffered = new Uint8Array(0);
  let used = 0;
  return (length) => {
    if (buffered.length - used < length) {
      const rest = buffered.subarray(used);
      const more = file.read(at, Math.min(Math.max(READ_BYTES, length), file.size - at));
      at += more.length;
      buffered = new Uint8Array(rest.length + more.length);
      buffered.set(rest);
      buffered.set(more, rest.length);
      used = 0;
    }
    const bytes = buffered.subarray(used, used + length);
    used += bytes.length;
    return bytes;
  };
}

async function* zstdChunks(file: Device): AsyncGenerator<Uint8Array> {
  const read = sequential(file);
  let at = 0;
  const source = (length: number) => {
    const bytes = read(length);
    at += bytes.length;
    return bytes;
  };
  try {
    yield* await unzstd(source);
  } catch (error) {
    if (!(error instanceof ZstdFault)) throw error;
    const what = `does not unpack with zstd: ${error.message}`;
    throw damage('bad_zstd', what, { file: file.name, byte: at }, error);
  }
}

async function* gzipChunks(file: Device): AsyncGenerator<Uint8Array> {
  const stream = createGunzip({ chunkSize: READ_BYTES });
  const read = sequential(file);
  const feed = () => {
    let more = true;
    while (more) {
      const chunk = read(READ_BYTES);
      if (chunk.length === 0) return void stream.end();
      more = stream.write(chunk);
    }
    stream.once('drain', feed);
  };
  feed();
  try {
    yield* stream as AsyncIterable<Uint8Array>;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (!code.startsWith('Z_')) throw error;
    const what = `does not unpack with gzip (${(error as Error).message}); the file is damaged or cut off`;
    throw damage('bad_gzip', what, { file: file.name }, error);
  } finally {
    stream.destroy();
  }
}

/** Unpacked bytes in blocks of 64 KiB, those of zeros left out. */
class UnpackedImage implements Device {
  size = 0;
  readonly #blocks = new Map<number, Uint8Array>();
  readonly #limits: UnpackLimits;
  #keptBytes = 0;
  #last = new Uint8Array(BLOCK_BYTES);
  #open = true;

  constructor(
    readonly name: string,
    limits: UnpackLimits,
  ) {
    this.#limits = limits;
  }

  append(chunk: Uint8Array): void {
    for (let done = 0; done < chunk.length; ) {
      const at = this.size % BLOCK_BYTES;
      const part = chunk.subarray(done, done + BLOCK_BYTES - at);
      this.#last.set(part, at);
      done += part.length;
      this.size += part.length;
      if (this.size % BLOCK_BYTES === 0) this.#keep(this.size / BLOCK_BYTES - 1);
    }
    if (this.size > this.#limits.totalBytes) throw this.#beyond('totalBytes', 'bytes');
  }

  finish(): this {
    const at = this.size % BLOCK_BYTES;
    if (at > 0) {
      this.#last.fill(0, at);
      this.#keep(Math.floor(this.size / BLOCK_BYTES));
    }
    return this;
  }

  read(offset: number, length: number): Uint8Array {
    requireOpen(this.#open, this.name);
    requireInside(this, offset, length);
    const index = Math.floor(offset / BLOCK_BYTES);
    const start = offset - index * BLOCK_BYTES;
    if (start + length <= BLOCK_BYTES)
      return (this.#blocks.get(index) ?? ZERO_BLOCK).subarray(start, start + length);
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const part = this.read(
        offset + done,
        Math.min(length - done, BLOCK_BYTES - ((offset + done) % BLOCK_BYTES)),
      );
      bytes.set(part, done);
      done += part.length;
    }
    return bytes;
  }

  close(): void {
    this.#open = false;
    this.#blocks.clear();
  }

  #keep(index: number): void {
    if (ZERO_BLOCK.equals(this.#last)) return;
    this.#keptBytes += BLOCK_BYTES;
    if (this.#keptBytes > this.#limits.keptBytes) throw this.#beyond('keptBytes', 'bytes that are not zero');
    this.#blocks.set(index, this.#last);
    this.#last = new Uint8Array(BLOCK_BYTES);
  }

  #beyond(limit: keyof UnpackLimits, what: string) {
    return damage(
      'unpack_limit',
      `unpacks to more than the limit of ${this.#limits[limit]} ${what}; raise ${limit}, or unpack it to a file first`,
      { file: this.name },
    );
  }
}
