import { afterAll, describe, expect, test } from 'vitest';
import { assemble } from '../src/bpf/assemble.js';
import { CodeArena, type Routine } from '../src/exec/arena.js';
import { callStream, callStride } from '../src/exec/run.js';
import { BKEY_BYTES } from '../src/format/bkey.js';
import { referenceUnpack } from '../src/format/reference.js';
import { STREAM_END, walkKeys } from '../src/format/stream.js';
import { fixedStrideLoop, keyStreamLoop } from '../src/jit/x64/loops.js';
import { compileX64 } from '../src/jit/x64/lower.js';
import { emitNative } from '../src/native/emit.js';
import { unsafeTrust } from '../src/unsafe.js';
import { type Random, randomBkeyFormat, randomBytes, seeded } from './random-formats.js';

const arena = new CodeArena();
const stride = arena.place(fixedStrideLoop());
const stream = arena.place(keyStreamLoop());
afterAll(() => arena.dispose());

/** A routine that changes every register that a callee may. */
const rough = arena.place(
  compileX64(
    unsafeTrust(
      assemble(`
        r0 = *(u8 *)(r2 + 0)
        r0 += 1
        *(u8 *)(r1 + 0) = r0
        r0 = 0x1122334455667788 ll
        r1 = r0
        r2 = r0
        r3 = r0
        r4 = r0
        r5 = r0
        r6 = r0
        r7 = r0
        r8 = r0
        r9 = r0
        *(u64 *)(r10 - 8) = r9
        exit`),
    ),
  ),
);

describe('the fixed-stride loop', () => {
  test.each([
    [0, 1, 1],
    [1, 1, 1],
    [7, 3, 5],
    [100, 1, 1],
    [33, 16, 40],
  ])('calls the routine %i times, %i bytes and %i bytes apart', (count, from, to) => {
    const packed = Uint8Array.from({ length: count * from + 1 }, (_, i) => i * 7);
    const out = new Uint8Array(count * to + 1).fill(0xee);
    callStride(arena, stride, rough, { out, packed, count, stride: from, outStride: to });
    const expected = new Uint8Array(out.length).fill(0xee);
    for (let i = 0; i < count; i++) expected[i * to] = packed[i * from]! + 1;
    expect(out).toEqual(expected);
  });
});

/** Keys back to back: packed and unpacked ones, and with a little luck something that is no key. */
function randomKeys(random: Random, keyU64s: number): Uint8Array {
  const keys: Uint8Array[] = [];
  const damage = random(3) === 0;
  for (let count = random(12); count > 0; count--) {
    const unpacked = random(3) === 0;
    const u64s = (unpacked ? 5 : keyU64s) + random(4);
    const key = randomBytes(random, u64s * 8);
    key[0] = damage && random(6) === 0 ? random(12) : u64s;
    key[1] = (random(2) << 7) | (damage && random(8) === 0 ? random(128) : Number(unpacked));
    keys.push(key);
  }
  return Uint8Array.from(Buffer.concat(keys));
}

const GUARD = 0xa5;

/** The same walk by machine code and in TypeScript, everything that they leave behind. */
function bothWalks(routine: Routine, random: Random, format: ReturnType<typeof randomBkeyFormat>) {
  const keyU64s = format.keyU64s!;
  const keys = randomKeys(random, keyU64s);
  const start = random(4) ? 0 : Math.min(keys.length, 8 * random(4));
  const end = random(4) ? keys.length : start + random(keys.length - start + 1);
  const room = random(3) ? 16 : random(6);
  const buffers = () => ({
    out: new Uint8Array(room * BKEY_BYTES + 1).fill(GUARD),
    offsets: new Uint32Array(room + 1).fill(GUARD),
  });
  const [native, plain] = [buffers(), buffers()];
  const unpack = (packed: Uint8Array, out: Uint8Array) => out.set(referenceUnpack(format, packed));
  const [out, offsets] = [plain.out.subarray(0, room * BKEY_BYTES), plain.offsets.subarray(0, room)];
  const expected = walkKeys(keys, start, end, keyU64s, unpack, out, offsets);
  const run = { out: native.out, keys, start, end, keyU64s, offsets: native.offsets.subarray(0, room) };
  const actual = callStream(arena, stream, routine, run);
  return { actual: { ...actual, ...native }, expected: { ...expected, ...plain } };
}

describe('the key-stream loop', () => {
  test('walks random streams, whole and damaged, as its plain twin does', () => {
    const ends = new Map<number, number>();
    for (let seed = 0; seed < 3000; seed++) {
      const random = seeded(seed);
      const format = randomBkeyFormat(random);
      const routine = arena.place(emitNative(format));
      const { actual, expected } = bothWalks(routine, random, format);
      routine.free();
      expect([seed, actual]).toEqual([seed, expected]);
      ends.set(expected.ended, (ends.get(expected.ended) ?? 0) + 1);
    }
    for (const ended of Object.values(STREAM_END)) expect(ends.get(ended)).toBeGreaterThan(20);
  });

  const walk = (
    bytes: number[],
    options: { start?: number; end?: number; keyU64s?: number; room?: number } = {},
  ) => {
    const keys = Uint8Array.from({ length: 80 }, (_, i) => bytes[i] ?? 0);
    const { start = 0, end = bytes.length, keyU64s = 1, room = 4 } = options;
    const out = new Uint8Array(Math.max(1, room) * BKEY_BYTES);
    const offsets = new Uint32Array(room);
    return callStream(arena, stream, rough, { out, keys, start, end, keyU64s, offsets });
  };
  const packed = (u64s: number, length = u64s) => [u64s, 0x80, ...Array(length * 8 - 2).fill(0)];
  const unpacked = (u64s: number, length = u64s) => [u64s, 0x81, ...Array(length * 8 - 2).fill(0)];

  test.each([
    ['an empty stream', [], {}, { position: 0, count: 0, ended: STREAM_END.end }],
    ['no room', packed(1), { room: 0 }, { position: 0, count: 0, ended: STREAM_END.count }],
    ['an empty stream and no room', [], { room: 0 }, { position: 0, count: 0, ended: STREAM_END.end }],
    [
      'less room than keys',
      [...packed(1), ...packed(1)],
      { room: 1 },
      { position: 8, count: 1, ended: STREAM_END.count },
    ],
    ['seven bytes left', packed(1).slice(1), {}, { position: 0, count: 0, ended: STREAM_END.past }],
    [
      'a packed key that is too short',
      packed(1),
      { keyU64s: 2 },
      { position: 0, count: 0, ended: STREAM_END.short },
    ],
    [
      'a length of no words',
      [...packed(1), ...packed(0, 1)],
      {},
      { position: 8, count: 1, ended: STREAM_END.short },
    ],
    [
      'an unpacked key that is too short',
      unpacked(4),
      {},
      { position: 0, count: 0, ended: STREAM_END.short },
    ],
    ['a packed key past the end', packed(2, 1), {}, { position: 0, count: 0, ended: STREAM_END.past }],
    ['an unpacked key past the end', unpacked(6, 5), {}, { position: 0, count: 0, ended: STREAM_END.past }],
    ['the longest key, past the end', packed(255, 1), {}, { position: 0, count: 0, ended: STREAM_END.past }],
    [
      'a format that there is not',
      [9, 2, 0, 0, 0, 0, 0, 0],
      {},
      { position: 0, count: 0, ended: STREAM_END.format },
    ],
    [
      'a start behind the end',
      packed(1),
      { start: 16, end: 8 },
      { position: 16, count: 0, ended: STREAM_END.past },
    ],
    [
      'a start behind the first key',
      [...packed(1), ...unpacked(5)],
      { start: 8 },
      { position: 48, count: 1, ended: STREAM_END.end },
    ],
  ])('ends as it should: %s', (_, bytes, options, expected) => {
    expect(walk(bytes, options)).toEqual(expected);
  });
});
