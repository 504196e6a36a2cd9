import { afterAll, describe, expect, it, test } from 'vitest';
import { CodeArena } from '../src/exec/arena.js';
import { cpuTier, runsOn } from '../src/exec/cpu.js';
import { loopsIn } from '../src/exec/run.js';
import { TableCalls } from '../src/exec/table.js';
import { BKEY_BYTES, BKEY_U64S } from '../src/format/bkey.js';
import { STREAM_END, walkKeys } from '../src/format/stream.js';
import {
  bkeyFormatFromBytes,
  createUnpacker,
  defineFormat,
  EngineError,
  type Format,
  referenceUnpack,
} from '../src/index.js';
import { tableOf } from '../src/table/table.js';
import { GuardedMemory } from './guarded.js';
import { type Random, randomBkeyFormat, randomBytes, randomFormat, seeded } from './random-formats.js';
import { hex, unhex, vectors } from './vectors.js';

const isHere = runsOn('avx512', cpuTier());
if (!isHere) console.warn('NOT TESTED: the table engine, because this CPU has no AVX-512 with VBMI');

function tableFor(format: Format) {
  try {
    return tableOf(format);
  } catch (error) {
    if (error instanceof EngineError) return undefined;
    throw error;
  }
}

describe.skipIf(!isHere)('the table engine', () => {
  const arena = new CodeArena();
  afterAll(() => arena.dispose());
  const [source, target] = [new GuardedMemory(4096), new GuardedMemory(4096)];

  /** Records between guard pages; what stands beside the output comes last. */
  function unpacked(
    format: Format,
    packed: Uint8Array,
    count: number,
    stride: number,
    where: 'start' | 'end',
  ): string {
    const { kind, bytes } = tableOf(format);
    const calls = new TableCalls(arena, kind, bytes, format.packedBytes, format.unpackedBytes);
    const from = source.buffer(packed.length, where);
    from.set(packed);
    const out = target.buffer(count * format.unpackedBytes, where);
    target.bytes.fill(0x5a);
    calls.stride({ out, packed: from, count, stride, outStride: format.unpackedBytes });
    const got = hex(out);
    out.fill(0x5a);
    return target.bytes.every((byte) => byte === 0x5a) ? got : 'astray';
  }

  test.each([
    ['bcachefs keys', randomBkeyFormat, 1000, 1000],
    ['any kind, as far as tables describe them', randomFormat, 1500, 500],
  ] as const)('unpacks records of %s up to the last byte that may be touched', (_, make, formats, least) => {
    const kinds = { plain: 0, any: 0 };
    for (let seed = 0; seed < formats; seed++) {
      const random = seeded(seed);
      const format = make(random);
      const table = tableFor(format);
      if (!table) continue;
      kinds[table.kind]++;
      const count = 1 + random(5);
      const stride = 1 + random(format.packedBytes + 8);
      const packed = randomBytes(random, (count - 1) * stride + format.packedBytes);
      const want = Array.from({ length: count }, (_, i) =>
        hex(referenceUnpack(format, packed.subarray(i * stride))),
      ).join('');
      const got = unpacked(format, packed, count, stride, random(2) ? 'start' : 'end');
      expect([seed, table.kind, got]).toEqual([seed, table.kind, want]);
    }
    expect(kinds.plain + kinds.any).toBeGreaterThanOrEqual(least);
  });

  it('unpacks the formats of real btree nodes, all of them in plain tables', () => {
    for (const { format: raw } of vectors<{ format: { raw: string } }>('bcachefs/real_formats.jsonl.gz'))
      expect([raw.raw, tableOf(bkeyFormatFromBytes(unhex(raw.raw))).kind]).toEqual([raw.raw, 'plain']);
  });

  /** Keys back to back, packed and unpacked ones; now and then something that is no key. */
  function randomKeys(random: Random, keyU64s: number): Uint8Array {
    const damaged = random(2) === 0;
    const keys = Array.from({ length: random(30) }, () => {
      const unpacked = random(3) === 0;
      const u64s = (unpacked ? BKEY_U64S : keyU64s) + random(3);
      const key = randomBytes(random, u64s * 8);
      key[0] = damaged && random(10) === 0 ? random(12) : u64s;
      key[1] = (random(2) << 7) | (damaged && random(10) === 0 ? random(128) : Number(unpacked));
      return key;
    });
    return Uint8Array.from(Buffer.concat(keys));
  }

  it('walks key streams, whole and damaged, as the reference does, between pages that may not be touched', () => {
    const ends = new Set<number>();
    for (let seed = 0; seed < 600; seed++) {
      const random = seeded(seed);
      const format = randomBkeyFormat(random);
      const { packedBytes, keyU64s = 0 } = format;
      const { kind, bytes } = tableOf(format);
      const calls = new TableCalls(arena, kind, bytes, packedBytes, BKEY_BYTES);
      const made = randomKeys(random, keyU64s);
      const where = random(2) ? 'start' : 'end';
      const keys = source.buffer(made.length, where);
      keys.set(made);
      const start = random(4) ? 0 : Math.min(keys.length, random(24));
      const end = random(4) ? keys.length : start + random(keys.length - start + 1);
      const room = random(3) ? 30 : random(6);
      const out = target.buffer(room * BKEY_BYTES, where).fill(0);
      const [offsets, wantOffsets] = [new Uint32Array(room), new Uint32Array(room)];
      const want = new Uint8Array(out.length);
      const one = (packed: Uint8Array, record: Uint8Array) => record.set(referenceUnpack(format, packed));
      const expected = walkKeys(keys, start, end, keyU64s, one, want, wantOffsets);
      const walk = calls.stream(loopsIn(arena).stream, { keys, start, end, out, keyU64s, offsets });
      expect([seed, walk, hex(out), offsets]).toEqual([seed, expected, hex(want), wantOffsets]);
      ends.add(walk.ended);
    }
    expect([...ends].sort()).toEqual(Object.values(STREAM_END).sort());
  });

  it('gives wrong bytes for a wrong table, and touches no others', () => {
    const random = seeded(5);
    for (let i = 0; i < 200; i++) {
      const [reads, writes] = [random(65), random(65)];
      const calls = new TableCalls(
        arena,
        random(2) ? 'plain' : 'any',
        randomBytes(random, 1216),
        reads,
        writes,
      );
      const where = random(2) ? 'start' : 'end';
      const out = target.buffer(writes, where);
      target.bytes.fill(0x5a);
      calls.stride({ out, packed: source.buffer(reads, where), count: 1, stride: 1, outStride: 1 });
      out.fill(0x5a);
      expect(target.bytes.every((byte) => byte === 0x5a)).toBe(true);
    }
  });

  const byte = (index: number) => ({ byte: index, size: 1 as const });
  const copy = (length: number) => ({
    packedBytes: length,
    unpackedBytes: length,
    fields: Array.from({ length }, (_, i) => ({ name: `f${i}`, bits: 8, at: i * 8, to: byte(i) })),
  });
  test.each([
    ['a large record', defineFormat(copy(65)), /65 and 65 bytes.* at most 64 fit; use the engine 'bpf'/],
    [
      'a sum that carries into its neighbour',
      defineFormat({
        packedBytes: 1,
        unpackedBytes: 1,
        fields: [
          { name: 'low', bits: 4, at: 0, offset: 1n, to: { ...byte(0), bits: 4 } },
          { name: 'high', bits: 4, at: 4, to: { ...byte(0), bit: 4 } },
        ],
      }),
      /a sum may carry into a field above it/,
    ],
    [
      'a byte of bits from everywhere',
      defineFormat({
        packedBytes: 40,
        unpackedBytes: 1,
        fields: Array.from({ length: 8 }, (_, bit) => ({
          name: `b${bit}`,
          bits: 1,
          at: bit * 37,
          to: { ...byte(0), bit, bits: 1 },
        })),
      }),
      /too many fields share/,
    ],
  ])('refuses %s', (_, format, says) => {
    expect(() => createUnpacker(format, { engine: 'table' })).toThrow(says);
    expect(() => createUnpacker(format, { engine: 'table' })).toThrow(EngineError);
  });

  it('has room for 64 bytes', () => {
    const format = defineFormat(copy(64));
    const packed = randomBytes(seeded(1), 64);
    expect(unpacked(format, packed, 1, 64, 'end')).toBe(hex(packed));
  });
});
