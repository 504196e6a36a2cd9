import { afterAll, describe, expect, it } from 'vitest';
import {
  bkeyFormat,
  bkeyFormatFromBytes,
  CodeArena,
  createUnpacker,
  defineFormat,
  type EngineName,
  type Format,
  referenceUnpack,
  TIERS,
  type Tier,
  type Unpacker,
  type UnpackerOptions,
} from '../src/index.js';
import { ENGINES_HERE, unpacks } from './engines.js';
import { randomBkeyFormat, randomBytes, randomFormat, seeded } from './random-formats.js';
import { type FormatVector, hex, unhex, vectors } from './vectors.js';

/** Each engine, and the engine 'bpf' with each tier that this machine has. */
const LANES = ['reference', 'interpreter', 'bpf', 'native', 'table', 'bpf scalar', 'bpf avx2', 'bpf avx512'];
const optionsOf = (lane: string): UnpackerOptions => {
  const [engine, tier] = lane.split(' ');
  return tier ? { engine: engine as EngineName, tier: tier as Tier } : { engine: engine as EngineName };
};
const FORMAT = bkeyFormat({
  keyU64s: 2,
  bitsPerField: [27, 43, 0, 13, 0, 0],
  fieldOffset: [0x10000000n, 0x5000n, 0xffffffffn, 0n, 0n, 0n],
});

const open: Unpacker[] = [];
function unpackerOf(format: Format, lane: string): Unpacker {
  const unpacker = createUnpacker(format, optionsOf(lane));
  open.push(unpacker);
  return unpacker;
}
afterAll(() => {
  for (const unpacker of open) unpacker.dispose();
});

const best = unpackerOf(FORMAT, 'bpf').tier as Tier;
const isHere = (lane: string) =>
  ENGINES_HERE.includes(optionsOf(lane).engine as EngineName) &&
  TIERS.indexOf(optionsOf(lane).tier ?? 'scalar') <= TIERS.indexOf(best);
const missing = LANES.filter((lane) => !isHere(lane));
if (missing.length > 0) console.warn(`NOT TESTED: ${missing.join(', ')}, because this CPU has not got it`);

describe.each(LANES.filter(isHere))('the engine %s', (engine) => {
  it('unpacks every key of formats.jsonl as bcachefs does', () => {
    for (const { format: raw, keys } of vectors<FormatVector>('bcachefs/formats.jsonl.gz')) {
      const unpacker = createUnpacker(bkeyFormatFromBytes(unhex(raw.raw)), optionsOf(engine));
      for (const { packed, unpacked } of keys) expect(hex(unpacker.unpack(unhex(packed)))).toBe(unpacked);
      const all = unpacker.unpackMany(unhex(keys.map(({ packed }) => packed).join('')), keys.length);
      expect(hex(all)).toBe(keys.map(({ unpacked }) => unpacked).join(''));
      unpacker.dispose();
    }
  });

  it('unpacks records that lie apart, and leaves all bytes around them alone', () => {
    const random = seeded(3);
    for (let i = 0; i < 300; i++) {
      const format = i % 2 ? randomFormat(random) : randomBkeyFormat(random);
      if (!unpacks(engine, format)) continue;
      const unpacker = createUnpacker(format, optionsOf(engine));
      const stride = Math.max(1, format.packedBytes + random(9) - 3);
      const count = random(5);
      const packed = randomBytes(random, (count - 1) * stride + format.packedBytes + 16);
      const out = new Uint8Array(count * format.unpackedBytes + 16).fill(0x5a);
      const records = unpacker.unpackMany(packed, count, { stride, out: out.subarray(8) });
      const want = Array.from({ length: count }, (_, k) =>
        hex(referenceUnpack(format, packed.subarray(k * stride))),
      ).join('');
      expect(hex(records)).toBe(want);
      expect(hex(out)).toBe(`${'5a'.repeat(8)}${want}${'5a'.repeat(8)}`);
      unpacker.dispose();
    }
  });

  it('walks a key stream, packed and unpacked keys mixed', () => {
    const { keys, want, offsets } = stream(40);
    const unpacker = unpackerOf(FORMAT, engine);
    const result = unpacker.unpackStream(keys);
    expect({ ...result, out: hex(result.out), offsets: [...result.offsets] }).toEqual({
      out: want.join(''),
      count: 40,
      end: keys.length,
      offsets,
    });
    const some = unpacker.unpackStream(keys, { start: offsets[3]!, end: offsets[9]! });
    expect({ out: hex(some.out), count: some.count, end: some.end }).toEqual({
      out: want.slice(3, 9).join(''),
      count: 6,
      end: offsets[9],
    });
    const few = unpacker.unpackStream(keys, { maxRecords: 7 });
    expect({ out: hex(few.out), end: few.end, stopped: few.stoppedAt }).toEqual({
      out: want.slice(0, 7).join(''),
      end: offsets[7],
      stopped: undefined,
    });
    const room = unpacker.unpackStream(keys, { out: new Uint8Array(119) });
    expect({ out: hex(room.out), end: room.end }).toEqual({
      out: want.slice(0, 2).join(''),
      end: offsets[2],
    });
    expect(unpacker.unpackStream(new Uint8Array(0))).toMatchObject({ count: 0, end: 0 });
    expect(unpacker.unpackStream(keys, { maxRecords: 0 })).toMatchObject({ count: 0, end: 0 });
  });

  it('walks several key streams as it walks each, whatever their lengths, and in their order', () => {
    const unpacker = unpackerOf(FORMAT, engine);
    for (const counts of [[], [3], [40, 40, 40, 40], [40, 9, 100, 0, 30, 35, 41, 28, 12], [500, 8, 8, 8]]) {
      const streams = counts.map((count, i) => {
        const { keys } = stream(count);
        if (i % 3 === 1) keys[keys.length - 1] = 0x77;
        if (i === 2) keys[Math.floor(keys.length / 16) * 8 + 1] = 0x7f; // most likely no header
        return {
          keys,
          ...(i === 4 ? { maxRecords: 20 } : {}),
          ...(i === 5 ? { out: new Uint8Array(99) } : {}),
        };
      });
      const each = streams.map(({ keys, ...options }) => unpacker.unpackStream(keys, options));
      expect(unpacker.unpackStreams(streams)).toEqual(each);
    }
    const { keys, offsets } = stream(200);
    const sets = [0, 40, 90, 150].map((first) => ({ keys, start: offsets[first]!, maxRecords: 45 }));
    const each = sets.map(({ keys, ...options }) => unpacker.unpackStream(keys, options));
    expect(unpacker.unpackStreams(sets)).toEqual(each);
    const both = new Uint8Array(400);
    const out = new Uint8Array(400);
    expect(() => unpacker.unpackStreams([{ keys: both }, { keys: out, out: both }])).toThrow(/overlap/);
    expect(() =>
      unpacker.unpackStreams([
        { keys: both, out },
        { keys: both, out: out.subarray(39) },
      ]),
    ).toThrow(/overlap/);
    expect(() => unpacker.unpackStreams([{ keys: both }, {} as never])).toThrow(/keys must be a Uint8Array/);
    expect(() => unpacker.unpackStreams(both as never)).toThrow(/streams must be an array/);
  });

  it.each([
    [
      'a packed key shorter than its format',
      '0100050000000000',
      /u64s is 1, but a packed key of this format has 2 words/,
    ],
    ['a key of no length', '0000050000000000', /u64s is 0/],
    [
      'an unpacked key shorter than struct bkey',
      `0401${'00'.repeat(38)}`,
      /u64s is 4, but an unpacked key has 5 words/,
    ],
    ['a key that reaches past the end', '0300050000000000', /u64s is 3, but only 8 bytes are left/],
    ['a format that is none', '0202050000000000', /key format 2 is neither/],
    ['an end within the first word', '020005000000', /only 6 bytes are left/],
  ])('stops at %s', (_, bad, reason) => {
    const { keys, want, offsets } = stream(5);
    const unpacker = unpackerOf(FORMAT, engine);
    const result = unpacker.unpackStream(new Uint8Array([...keys, ...unhex(bad)]));
    expect(hex(result.out)).toBe(want.join(''));
    expect({ count: result.count, end: result.end, offsets: [...result.offsets] }).toEqual({
      count: 5,
      end: keys.length,
      offsets,
    });
    expect(result.stoppedAt).toEqual({ offset: keys.length, reason: expect.stringMatching(reason) });
  });

  it('takes records in shared memory, and detached or overlapping buffers for what they are', () => {
    const unpacker = unpackerOf(FORMAT, engine);
    const shared = new Uint8Array(new SharedArrayBuffer(64));
    expect(hex(unpacker.unpack(shared, new Uint8Array(40)))).toBe(hex(referenceUnpack(FORMAT, shared)));
    const gone = new Uint8Array(64);
    structuredClone(gone.buffer, { transfer: [gone.buffer] });
    expect(() => unpacker.unpack(gone)).toThrow(/packed is detached/);
    expect(() => unpacker.unpackStream(gone)).toThrow(/keys is detached/);
    const both = new Uint8Array(64);
    expect(() => unpacker.unpack(both.subarray(30), both.subarray(0, 40))).toThrow(/overlap/);
    expect(() => unpacker.unpackMany(both, 2, { out: both })).toThrow(/out has 64 bytes, 80 are needed/);
    expect(() => unpacker.unpackStream(both, { out: both })).toThrow(/overlap/);
  });

  it.each<[string, (unpacker: Unpacker) => unknown, RegExp]>([
    ['a short record', (u) => u.unpack(new Uint8Array(15)), /packed has 15 bytes, 16 are needed/],
    [
      'a short out',
      (u) => u.unpack(new Uint8Array(16), new Uint8Array(39)),
      /out has 39 bytes, 40 are needed/,
    ],
    ['an array', (u) => u.unpack([0] as never), /packed must be a Uint8Array/],
    [
      'a DataView',
      (u) => u.unpack(new DataView(new ArrayBuffer(64)) as never),
      /packed must be a Uint8Array/,
    ],
    [
      'records past the end',
      (u) => u.unpackMany(new Uint8Array(47), 3),
      /packed has 47 bytes, 48 are needed/,
    ],
    ['a negative count', (u) => u.unpackMany(new Uint8Array(16), -1), /count must be/],
    ['half a record', (u) => u.unpackMany(new Uint8Array(16), 0.5), /count must be/],
    ['a stride of 0', (u) => u.unpackMany(new Uint8Array(16), 1, { stride: 0 }), /stride must be/],
    [
      'more records than there is memory for',
      (u) => u.unpackMany(new Uint8Array(16), 2 ** 50),
      /count must be|packed has/,
    ],
    [
      'an end behind the keys',
      (u) => u.unpackStream(new Uint8Array(16), { end: 17 }),
      /end must be a whole number from 0 to 16/,
    ],
    [
      'a start behind the end',
      (u) => u.unpackStream(new Uint8Array(16), { start: 9, end: 8 }),
      /start must be/,
    ],
    ['NaN keys', (u) => u.unpackStream(new Uint8Array(16), { maxRecords: Number.NaN }), /maxRecords must be/],
  ])('refuses %s', (_, call, says) => {
    expect(() => call(unpackerOf(FORMAT, engine))).toThrow(says);
  });

  it('goes by the bytes there are, whatever a view says of itself', () => {
    const unpacker = unpackerOf(FORMAT, engine);
    const liar = Object.defineProperty(new Uint8Array(1), 'length', { value: 40 });
    expect(() => unpacker.unpack(new Uint8Array(16), liar)).toThrow(/out has 1 bytes, 40 are needed/);
    class Longer extends Uint8Array {
      static get [Symbol.species]() {
        return Uint16Array as never;
      }
    }
    Object.defineProperty(Longer.prototype, 'length', { value: 1000 });
    expect(() => unpacker.unpack(new Uint8Array(16), new Longer(1))).toThrow(/out has 1 bytes/);
    expect(unpacker.unpackMany(new Longer(32), 2, { out: new Longer(100) })).toHaveLength(80);
    expect(hex(unpacker.unpack(Buffer.alloc(16, 7), Buffer.alloc(50)))).toBe(
      hex(referenceUnpack(FORMAT, Buffer.alloc(16, 7))),
    );
  });

  it('cannot be used after dispose, which is harmless twice', () => {
    const unpacker = createUnpacker(FORMAT, optionsOf(engine));
    unpacker.unpackMany(new Uint8Array(16), 1);
    unpacker.dispose();
    unpacker.dispose();
    expect(() => unpacker.unpack(new Uint8Array(16))).toThrow(/disposed/);
  });

  it('unpacks records of no bytes', () => {
    const constant = defineFormat({
      packedBytes: 0,
      unpackedBytes: 2,
      fields: [],
      constants: [{ value: 0x1234n, to: { byte: 0, size: 2 } }],
    });
    const unpacker = unpackerOf(constant, engine);
    expect(hex(unpacker.unpack(new Uint8Array(0)))).toBe('3412');
    expect(hex(unpacker.unpackMany(new Uint8Array(0), 3))).toBe('341234123412');
    const nothing = unpackerOf(defineFormat({ packedBytes: 1, unpackedBytes: 0, fields: [] }), engine);
    expect(nothing.unpack(new Uint8Array(1)).length).toBe(0);
    expect(nothing.unpackMany(new Uint8Array(3), 3).length).toBe(0);
  });
});

it('auto says which engine it took, and why', () => {
  const auto = unpackerOf(FORMAT, 'auto');
  const loops = {
    scalar: 'the CPU has no AVX2',
    avx2: 'avx2 after 200,000 records, columns after 10,000',
    avx512: 'avx2 after 200,000 records, avx512 after 2,000,000, columns after 10,000',
  };
  expect(auto).toMatchObject({ engine: 'bpf', reason: `machine code runs here; ${loops[best]}` });
  expect(createUnpacker(FORMAT, { tier: 'scalar' }).reason).toBe(
    'machine code runs here; scalar was asked for',
  );
});

it.each(LANES.filter((lane) => /bpf|native|table/.test(lane) && isHere(lane)))(
  'the engine %s runs no code of the buffers, which might take them away once they are checked',
  (lane) => {
    const unpacker = unpackerOf(FORMAT, lane);
    const trapped = (bytes: Uint8Array) => {
      for (const name of ['constructor', 'buffer', 'byteOffset', 'byteLength', 'length', 'subarray'])
        Object.defineProperty(bytes, name, { get: () => expect.fail(`${name} was asked for`) });
      return bytes;
    };
    const out = (length: number) => trapped(new Uint8Array(length));
    const key = trapped(Uint8Array.from({ length: 64 }, (_, i) => (i === 0 ? 2 : 0)));
    expect(unpacker.unpack(key, out(41)).length).toBe(40);
    expect(unpacker.unpackMany(key, 4, { out: out(161) }).length).toBe(160);
    expect(unpacker.unpackStream(key, { out: out(81) }).count).toBe(1);
    const streams = [{ keys: key }, { keys: out(64), out: out(81) }];
    expect(unpacker.unpackStreams(streams).map(({ count }) => count)).toEqual([1, 0]);
  },
);

it('auto is the reference only where machine code does not run, and not where something else is refused', () => {
  const sealed = new CodeArena();
  sealed.seal();
  expect(() => createUnpacker(FORMAT, { arena: sealed })).toThrow(
    expect.objectContaining({ code: 'E-SEALED' }) as Error,
  );
  sealed.dispose();
});

it('in a sealed arena many records are unpacked without loops of their own', () => {
  const arena = new CodeArena();
  const unpacker = createUnpacker(FORMAT, { arena, tier: best });
  const packed = randomBytes(seeded(1), 16 * 300);
  arena.seal();
  const stats = arena.stats();
  expect(hex(unpacker.unpackMany(packed, 300))).toBe(
    hex(unpackerOf(FORMAT, 'reference').unpackMany(packed, 300)),
  );
  expect(arena.stats()).toEqual(stats);
});

it('loops of its own are made when many records have gone by, and given back', () => {
  const arena = new CodeArena();
  const unpacker = createUnpacker(FORMAT, { arena });
  const packed = new Uint8Array(16 * 120_000);
  const out = new Uint8Array(40 * 120_000);
  unpacker.unpackMany(packed, 120_000, { out });
  const { routines } = arena.stats();
  unpacker.unpackMany(packed, 120_000, { out });
  expect(arena.stats().routines).toBe(routines + (best === 'scalar' ? 0 : 1));
  unpacker.dispose();
  expect(arena.stats().routines).toBe(routines - 1);
  arena.dispose();
});

it('a tier that does not exist is refused', () => {
  expect(() => createUnpacker(FORMAT, { tier: 'mmx' as never })).toThrow(
    /tier must be scalar, avx2, avx512; got mmx/,
  );
});

it('an engine that does not exist is refused', () => {
  expect(() => createUnpacker(FORMAT, { engine: 'gpu' as never })).toThrow(/engine must be/);
});

it('a format that is no bcachefs key has no streams', () => {
  const format = defineFormat({
    packedBytes: 1,
    unpackedBytes: 1,
    fields: [{ name: 'f', bits: 8, at: 0, to: { byte: 0, size: 1 } }],
  });
  expect(() => unpackerOf(format, 'reference').unpackStream(new Uint8Array(8))).toThrow(
    /only bcachefs key formats/,
  );
});

/** `count` keys with values of up to two words, every third one unpacked, and what they unpack to. */
function stream(count: number): { keys: Uint8Array; want: string[]; offsets: number[] } {
  const random = seeded(count);
  const keys: number[] = [];
  const want: string[] = [];
  const offsets: number[] = [];
  for (let i = 0; i < count; i++) {
    const unpacked = i % 3 === 2;
    const words = unpacked ? 5 : 2;
    const key = randomBytes(random, words * 8);
    const value = randomBytes(random, random(3) * 8);
    key[0] = words + value.length / 8;
    key[1] = (unpacked ? 1 : 0) | (random(2) << 7);
    offsets.push(keys.length);
    keys.push(...key, ...value);
    want.push(hex(unpacked ? key : referenceUnpack(FORMAT, key)));
  }
  return { keys: Uint8Array.from(keys), want, offsets };
}
