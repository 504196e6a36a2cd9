import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDevice } from '../src/bcachefs/open.js';
import { SAMPLE } from './images.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'device-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, bytes: Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

/** The sample image, compressed with gzip. */
let gzipped: string;
beforeAll(async () => {
  const image = await openDevice(SAMPLE);
  gzipped = file('mini.img.gz', gzipSync(image.read(0, image.size)));
});

const imageError = (code: string) => ({ name: 'ImageError', code, where: { file: expect.any(String) } });

describe('an uncompressed image', () => {
  it('is read by position, beyond 4 GiB, too', async () => {
    const path = join(folder, 'large');
    const fd = openSync(path, 'w');
    ftruncateSync(fd, 5 * 2 ** 30);
    writeSync(fd, Buffer.from('far out'), 0, 7, 5 * 2 ** 30 - 7);
    closeSync(fd);
    const device = await openDevice(path);
    expect(device.size).toBe(5 * 2 ** 30);
    expect(Buffer.from(device.read(5 * 2 ** 30 - 7, 7)).toString()).toBe('far out');
    device.close();
    device.close();
  });

  it('ends where it ends', async () => {
    const device = await openDevice(file('short', Buffer.alloc(100)));
    expect(device.read(100, 0).length).toBe(0);
    for (const [offset, length] of [
      [99, 2],
      [101, 0],
      [-1, 1],
      [0, 2 ** 40],
      [2 ** 52, 1],
      [0, -1],
      [Number.NaN, 1],
    ]) {
      expect(() => device.read(offset!, length!)).toThrow(/the image ends at byte 100/);
    }
    device.close();
  });

  it('may be empty, and fails to open if it is not there or a folder', async () => {
    expect((await openDevice(file('empty', new Uint8Array(0)))).size).toBe(0);
    await expect(openDevice(join(folder, 'nowhere'))).rejects.toMatchObject(imageError('open'));
    await expect(openDevice(folder)).rejects.toMatchObject(imageError('open'));
    await expect(openDevice('/dev/null')).rejects.toMatchObject(imageError('open'));
  });
});

// A file that can be opened and not read, in any Linux: the loopback interface has no speed.
const UNREADABLE = '/sys/class/net/lo/speed';
if (!existsSync(UNREADABLE))
  console.warn(`NOT TESTED: a read that fails, because there is no ${UNREADABLE} here`);

describe('an image that cannot be read', () => {
  it.skipIf(!existsSync(UNREADABLE))('says so, and where', async () => {
    const where = { file: UNREADABLE, byte: 0 };
    await expect(openDevice(UNREADABLE)).rejects.toMatchObject({ name: 'ImageError', code: 'io', where });
  });

  it('is one that was closed', async () => {
    for (const path of [file('closed', Buffer.alloc(100)), SAMPLE]) {
      const device = await openDevice(path);
      device.close();
      expect(() => device.read(0, 1)).toThrow(
        expect.objectContaining({ name: 'ArgumentError', code: 'A-DISPOSED' }),
      );
    }
  });
});

describe('a compressed image', () => {
  it('is the same by gzip and by zstd', async () => {
    for (const path of [gzipped, SAMPLE]) {
      const device = await openDevice(path);
      expect(device.size).toBe(24 * 2 ** 20);
      const digest = createHash('sha256').update(device.read(0, device.size)).digest('hex');
      // What the zstd command makes of the sample has this digest.
      expect(digest).toBe('efeb30f335130de7bcae36e27ae4a9f31c5a5a859f25b6553f363924b23b6ea9');
    }
  });

  it('may be cut into gzip members, of which none may be cut off', async () => {
    const parts = [Buffer.from('one '), Buffer.alloc(200_000), Buffer.from('two')];
    const bytes = Buffer.concat(parts.map((part) => gzipSync(part)));
    const device = await openDevice(file('members.gz', bytes));
    expect(Buffer.compare(device.read(0, device.size), Buffer.concat(parts))).toBe(0);
    const cut = file('cut.gz', bytes.subarray(0, -5));
    await expect(openDevice(cut)).rejects.toMatchObject(imageError('bad_gzip'));
  });

  it.each(['gzip', 'zstd'])('is refused wherever it is cut off: %s', async (compression) => {
    const bytes = readFileSync(compression === 'gzip' ? gzipped : SAMPLE);
    for (const length of [4, 5, 9, 20, 1000, 30_000, bytes.length - 5, bytes.length - 1]) {
      const path = file('cut', bytes.subarray(0, length));
      await expect(openDevice(path)).rejects.toMatchObject(imageError(`bad_${compression}`));
    }
  });

  it('stops at the limit of bytes, zeros included', async () => {
    for (const path of [gzipped, SAMPLE]) {
      const opening = openDevice(path, { totalBytes: 24 * 2 ** 20 - 1 });
      await expect(opening).rejects.toMatchObject(imageError('unpack_limit'));
      await expect(openDevice(path, { totalBytes: 24 * 2 ** 20 })).resolves.toBeDefined();
    }
  });

  it('stops at the limit of bytes kept, which zeros do not count for', async () => {
    const small = { keptBytes: 2 ** 20 };
    await expect(openDevice(SAMPLE, small)).rejects.toMatchObject(imageError('unpack_limit'));
    await expect(openDevice(file('zeros.gz', gzipSync(Buffer.alloc(2 ** 25))), small)).resolves.toMatchObject(
      { size: 2 ** 25 },
    );
  });
});

describe('zstd', () => {
  const header = [0x28, 0xb5, 0x2f, 0xfd];
  const hello = [...header, 0x20, 5, 41, 0, 0, ...Buffer.from('hello')];
  const text = async (bytes: number[]) => {
    const device = await openDevice(file('frames.zst', Uint8Array.from(bytes)));
    return Buffer.from(device.read(0, device.size)).toString();
  };

  it('has frames one after the other, and frames to skip', async () => {
    const skip = [0x5f, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    expect(await text([...skip, ...hello, ...skip, ...hello])).toBe('hellohello');
  });

  it.each([
    ['what follows a frame is no frame', [...hello, 1, 2, 3, 4], /is no zstd frame/],
    ['the frame header is cut off', header, /cut off/],
    ['a reserved bit is set', [...header, 0x28, 5], /reserved bit/],
    ['there is a dictionary', [...header, 0x21, 7, 5], /dictionary/],
    ['the window is too large', [...header, 0x00, 0xff, 1, 0, 0], /window/],
    ['a block is larger than the window', [...header, 0x20, 5, 0x31, 0, 0, 0, 0, 0, 0, 0, 0], /too large/],
    ['a repeated byte fills more than a block', [...header, 0x20, 5, 0x33, 0, 0, 65], /too large/],
    ['a block has the reserved type', [...header, 0x20, 5, 0x2f, 0, 0, 0, 0, 0, 0, 0], /reserved type/],
    [
      'the content is shorter than it says',
      [...header, 0x20, 6, 41, 0, 0, ...Buffer.from('hello')],
      /instead of 6/,
    ],
    [
      'the checksum is another',
      [...header, 0x24, 5, 41, 0, 0, ...Buffer.from('hello'), 1, 2, 3, 4],
      /checksum/,
    ],
    ['a skipped frame is cut off', [0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff], /cut off/],
    // A Huffman table whose weights come from a code of one symbol: it takes no bits, so it never ends.
    [
      'weights go on for ever',
      [...header, 0x20, 32, 0x55, 0, 0, 0x82, 0x80, 0x01, 4, 0xf0, 0x03, 0x00, 0x04, 1, 0],
      /too many weights/,
    ],
  ])('is refused where %s', async (_, bytes, message) => {
    const opening = text(bytes);
    await expect(opening).rejects.toMatchObject(imageError('bad_zstd'));
    await expect(opening).rejects.toThrow(message);
  });
});

const loop = process.getuid?.() === 0 && spawnSync('losetup', ['--find']).status === 0;
if (!loop) console.warn('NOT TESTED: block devices, because that takes root and a free loop device');

describe('a block device', () => {
  it.skipIf(!loop)('has a size although stat has none for it', async () => {
    const image = file('loop', Buffer.alloc(3 * 2 ** 20, 7));
    const attached = spawnSync('losetup', ['--find', '--show', image]);
    expect(attached).toMatchObject({ status: 0 });
    const path = attached.stdout.toString().trim();
    try {
      const device = await openDevice(path);
      expect(device.size).toBe(3 * 2 ** 20);
      expect(device.read(device.size - 1, 1)[0]).toBe(7);
      device.close();
    } finally {
      spawnSync('losetup', ['--detach', path]);
    }
  });
});
