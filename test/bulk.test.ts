import { afterAll, describe, expect, test } from 'vitest';
import { contractFor } from '../src/bpf/contract.js';
import { lower } from '../src/bpf/lower.js';
import { CodeArena } from '../src/exec/arena.js';
import { cpuTier, runsOn } from '../src/exec/cpu.js';
import { callLines, callStream, callStreams, callStride, callVectorStride } from '../src/exec/run.js';
import { BKEY_BYTES } from '../src/format/bkey.js';
import { defineFormat } from '../src/format/define.js';
import type { Format } from '../src/format/model.js';
import { STREAM_END } from '../src/format/stream.js';
import { type Lifted, lift } from '../src/jit/lift.js';
import { type BulkCode, type MachineCode, STREAM_PLACES } from '../src/jit/target.js';
import { vectorStreamLoop, vectorStrideLoop } from '../src/jit/x64/bulk.js';
import { FORMS } from '../src/jit/x64/forms.js';
import { lineStrideLoop } from '../src/jit/x64/lines.js';
import { listing } from '../src/jit/x64/listing.js';
import { fixedStrideLoop, keyStreamLoop } from '../src/jit/x64/loops.js';
import { streamsLoop } from '../src/jit/x64/streams.js';
import { emitNative } from '../src/native/emit.js';
import { verify } from '../src/verifier/verify.js';
import { GuardedMemory } from './guarded.js';
import { type Random, randomBkeyFormat, randomBytes, randomFormat, seeded } from './random-formats.js';

const arena = new CodeArena();
const stride = arena.place(fixedStrideLoop());
const stream = arena.place(keyStreamLoop());
const machine = cpuTier();
afterAll(() => arena.dispose());
if (!runsOn('avx2', machine)) console.warn('NOT TESTED: vector loops, because this CPU has no AVX2');

const input = new GuardedMemory(2 ** 17);
const output = new GuardedMemory(2 ** 17);
const inputs = [0, 1, 2, 3].map(() => new GuardedMemory(2 ** 13));
const outputs = [0, 1, 2, 3].map(() => new GuardedMemory(2 ** 13));

const proven = (format: Format) => verify(lower(format), contractFor(format));
const lifted = (format: Format): Lifted | undefined => lift(proven(format));

/** Signed members of all sizes, and members in network order. */
const TELEMETRY = defineFormat({
  packedBytes: 15,
  unpackedBytes: 24,
  fields: [
    { name: 'a', bits: 20, at: 3, signed: true, to: { byte: 0, size: 4 } },
    { name: 'b', bits: 12, at: 23, signed: true, offset: -5n, to: { byte: 4, size: 2 } },
    { name: 'c', bits: 5, at: 35, signed: true, to: { byte: 6, size: 1 } },
    { name: 'd', bits: 8, at: 40, offset: 3n, to: { byte: 7, size: 1 } },
    { name: 'e', bits: 37, at: 49, signed: true, offset: 1n << 40n, to: { byte: 8, size: 8 } },
    { name: 'f', bits: 24, at: 96, order: 'msb0', signed: true, to: { byte: 16, size: 8 } },
  ],
});
/** Any format, now and then that one. */
const anyFormat = (random: Random, seed: number): Format =>
  seed % 16 === 0 ? TELEMETRY : seed % 4 === 0 ? randomFormat(random) : randomBkeyFormat(random);

const placed = ({ code, overread }: BulkCode) => ({ routine: arena.place(code), overread });

/** The records by the vector loop, in buffers between guard pages, beside those of the native routine. */
function bothStrides(format: Format, random: Random, count: number, distance: number) {
  const program = proven(format);
  const vector = vectorStrideLoop(lift(program)!);
  if (!vector) return undefined;
  const where = random(2) ? ('end' as const) : ('start' as const);
  const used = (count - 1) * distance + format.packedBytes;
  const packed = input.buffer(count === 0 ? 0 : used, where);
  packed.set(randomBytes(random, packed.length));
  const out = output.buffer(count * format.unpackedBytes, where);
  const want = new Uint8Array(out.length);
  const run = { packed, count, stride: distance, outStride: format.unpackedBytes };
  const routine = arena.place(emitNative(format));
  const loop = { routine: arena.place(vector.code), overread: vector.overread };
  callStride(arena, stride, routine, { ...run, out: want });
  callVectorStride(arena, loop, stride, routine, { ...run, out });
  loop.routine.free();
  routine.free();
  return { out: Buffer.from(out).toString('hex'), want: Buffer.from(want).toString('hex') };
}

/** The same by whole lines; more records than the loop needs before and behind them. */
function bothLines(format: Format, random: Random, count: number, distance: number) {
  const form = lifted(format);
  const line = form && lineStrideLoop(form, distance);
  const vector = form && vectorStrideLoop(form);
  if (!line || !vector) return undefined;
  const where = random(2) ? ('end' as const) : ('start' as const);
  const packed = input.buffer((count - 1) * distance + format.packedBytes, where);
  packed.set(randomBytes(random, packed.length));
  // What lies before the records moves them off the start of a line.
  const shift = random(3) ? 8 * random(8) : random(64);
  const out = output.buffer(count * format.unpackedBytes + shift, where);
  out.fill(0x5a);
  const records = where === 'start' ? out.subarray(shift) : out.subarray(0, out.length - shift);
  const want = new Uint8Array(out.length).fill(0x5a);
  const wanted = want.subarray(where === 'start' ? shift : 0);
  const run = { packed, count, stride: distance, outStride: format.unpackedBytes };
  const routine = arena.place(emitNative(format));
  const loops = { line: placed(line), vector: placed(vector) };
  callStride(arena, stride, routine, { ...run, out: wanted });
  callLines(arena, loops.line, loops.vector, stride, routine, { ...run, out: records });
  for (const made of [routine, loops.line.routine, loops.vector.routine]) made.free();
  return { out: Buffer.from(out).toString('hex'), want: Buffer.from(want).toString('hex') };
}

/** Keys back to back: packed and unpacked ones, and with a little luck something that is no key. */
function randomKeys(random: Random, keyU64s: number): Uint8Array {
  const keys: Uint8Array[] = [];
  const damage = random(3) === 0;
  for (let count = random(41); count > 0; count--) {
    const unpacked = random(3) === 0;
    const u64s = (unpacked ? 5 : keyU64s) + random(4);
    const key = randomBytes(random, u64s * 8);
    key[0] = damage && random(12) === 0 ? random(12) : u64s;
    key[1] = (random(2) << 7) | (damage && random(12) === 0 ? random(128) : Number(unpacked));
    keys.push(key);
  }
  return Uint8Array.from(Buffer.concat(keys));
}

/** A walk by vector code, in buffers between guard pages, beside that by the native routine. */
function bothWalks(format: Format, random: Random) {
  const program = proven(format);
  const { code, overread } = vectorStreamLoop(lift(program)!)!;
  const vector = { routine: arena.place(code), overread };
  const routine = arena.place(emitNative(format));
  const bytes = randomKeys(random, format.keyU64s!);
  const where = random(2) ? ('end' as const) : ('start' as const);
  const keys = input.buffer(bytes.length, where);
  keys.set(bytes);
  const start = random(4) ? 0 : Math.min(keys.length, random(32));
  const end = random(4) ? keys.length : start + random(keys.length - start + 1);
  const room = random(3) ? 41 : random(6);
  const run = { keys, start, end, keyU64s: format.keyU64s! };
  const native = { out: output.buffer(room * BKEY_BYTES, where).fill(0), offsets: new Uint32Array(room) };
  const plain = { out: new Uint8Array(room * BKEY_BYTES), offsets: new Uint32Array(room) };
  const expected = callStream(arena, stream, routine, { ...run, ...plain });
  const actual = callStream(arena, stream, routine, { ...run, ...native }, vector);
  vector.routine.free();
  routine.free();
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
  return {
    actual: { ...actual, offsets: native.offsets, out: hex(native.out) },
    expected: { ...expected, offsets: plain.offsets, out: hex(plain.out) },
  };
}

/** Four walks at once beside each alone. */
function fourWalks(format: Format, random: Random) {
  const form = lifted(format)!;
  const loops = { four: placed(streamsLoop(form)!), single: placed(vectorStreamLoop(form)!) };
  const routine = arena.place(emitNative(format));
  const room = random(3) ? 41 : 1 + random(6);
  const offsets = new Uint32Array(5 * room);
  const sources = [0, 1, 2, 3].map(() => {
    const bytes = randomKeys(random, format.keyU64s!);
    return bytes.length < 8 ? randomBytes(random, 8) : bytes;
  });
  const runs = sources.map((bytes, i) => {
    const where = random(2) ? ('end' as const) : ('start' as const);
    const keys = inputs[i]!.buffer(bytes.length, where);
    keys.set(bytes);
    const most = random(3) ? room : random(room + 1);
    return {
      keys,
      start: Math.min(8 * random(3), keys.length - 8),
      end: keys.length,
      keyU64s: format.keyU64s!,
      out: outputs[i]!.buffer(most * BKEY_BYTES, where).fill(0),
      offsets: offsets.subarray(STREAM_PLACES[i]! * room, STREAM_PLACES[i]! * room + most),
    };
  });
  const expected = runs.map((run) => {
    const plain = { out: new Uint8Array(run.out.length), offsets: new Uint32Array(run.offsets.length) };
    return { ...callStream(arena, stream, routine, { ...run, ...plain }), ...plain };
  });
  const walks = callStreams(arena, loops.four, loops.single, stream, routine, runs);
  const actual = walks.map((walk, i) => ({
    ...walk,
    out: Uint8Array.from(runs[i]!.out),
    offsets: runs[i]!.offsets,
  }));
  for (const made of [routine, loops.four.routine, loops.single.routine]) made.free();
  return { actual, expected };
}

describe.skipIf(!runsOn('avx2', machine))('with AVX2', () => {
  test('records that lie apart are unpacked as one by one, whatever the format, stride and count', () => {
    let vectorised = 0;
    for (let seed = 0; seed < 1000; seed++) {
      const random = seeded(seed);
      const format = anyFormat(random, seed);
      if (!lifted(format)) continue;
      const both = bothStrides(format, random, random(41), 1 + random(2 * format.packedBytes + 8));
      if (!both) continue;
      expect([seed, both.out]).toEqual([seed, both.want]);
      vectorised++;
    }
    expect(vectorised).toBeGreaterThan(700);
  });
  test('key streams, whole and damaged, are walked as by the scalar loop', () => {
    const ends = new Map<number, number>();
    for (let seed = 0; seed < 800; seed++) {
      const random = seeded(seed);
      const { actual, expected } = bothWalks(randomBkeyFormat(random), random);
      expect([seed, actual]).toEqual([seed, expected]);
      ends.set(expected.ended, (ends.get(expected.ended) ?? 0) + 1);
    }
    for (const ended of Object.values(STREAM_END)) expect(ends.get(ended)).toBeGreaterThan(20);
  });
});

describe.skipIf(!runsOn('avx2', machine))('with AVX2', () => {
  test('four key streams at once are walked as one by one', () => {
    for (let seed = 0; seed < 300; seed++) {
      const random = seeded(seed);
      const { actual, expected } = fourWalks(randomBkeyFormat(random), random);
      expect([seed, actual]).toEqual([seed, expected]);
    }
  });
});

describe.skipIf(!runsOn('avx512', machine))('with AVX-512', () => {
  test('records are unpacked line by line as one by one', () => {
    let vectorised = 0;
    for (let seed = 0; seed < 600; seed++) {
      const random = seeded(seed);
      const format = anyFormat(random, seed);
      const distance = random(2) ? format.packedBytes : 1 + random(2 * format.packedBytes + 8);
      const both = bothLines(format, random, 140 + random(41), distance);
      if (!both) continue;
      expect([seed, both.out]).toEqual([seed, both.want]);
      vectorised++;
    }
    expect(vectorised).toBeGreaterThan(200);
  });

  test.each([0, 8, 3])('output beyond the caches is unpacked as the rest, %i bytes off a line', (shift) => {
    const [from, to] = [new GuardedMemory(2 ** 21), new GuardedMemory(2 ** 22)];
    for (let seed = 0; seed < 4; seed++) {
      const random = seeded(seed);
      const format = randomBkeyFormat(random);
      const line = lineStrideLoop(lifted(format)!, format.packedBytes);
      if (!line) continue;
      const count = 53_000 + random(64);
      const packed = from.buffer(count * format.packedBytes, 'end');
      for (let i = 0; i < packed.length; i++) packed[i] = i * i + (i >> 8);
      const out = to.buffer(count * BKEY_BYTES + shift, 'end').subarray(0, count * BKEY_BYTES);
      const want = new Uint8Array(out.length);
      const run = { packed, count, stride: format.packedBytes, outStride: BKEY_BYTES };
      const routine = arena.place(emitNative(format));
      callStride(arena, stride, routine, { ...run, out: want });
      callLines(arena, placed(line), placed(vectorStrideLoop(lifted(format)!)!), stride, routine, {
        ...run,
        out,
      });
      expect([seed, Buffer.compare(out, want)]).toEqual([seed, 0]);
    }
  });
});

test('every vector instruction of the table is emitted somewhere', () => {
  const names = new Set<string>();
  const note = (code: MachineCode | undefined) => {
    if (!code) return;
    for (const { text } of listing(code)) names.add(text.split(' ')[0]!);
  };
  for (let seed = 0; seed < 100; seed++) {
    const random = seeded(seed);
    const format = anyFormat(random, seed);
    const form = lifted(format);
    if (!form) continue;
    note(vectorStrideLoop(form)?.code);
    note(lineStrideLoop(form, format.packedBytes)?.code);
    if (format.keyU64s) note(streamsLoop(form)?.code);
  }
  const vector = FORMS.filter((form) => form.vector).map(({ mnemonic }) => mnemonic);
  expect([...new Set(vector)].filter((mnemonic) => !names.has(mnemonic))).toEqual([]);
});
