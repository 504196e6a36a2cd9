import { afterAll, describe, expect, test } from 'vitest';
import { contractFor } from '../src/bpf/contract.js';
import { lower } from '../src/bpf/lower.js';
import { CodeArena } from '../src/exec/arena.js';
import { cpuTier, runsOn } from '../src/exec/cpu.js';
import { callLines, callStream, callStride, callVectorStride } from '../src/exec/run.js';
import { BKEY_BYTES } from '../src/format/bkey.js';
import type { Format } from '../src/format/model.js';
import { STREAM_END } from '../src/format/stream.js';
import { type Lifted, lift } from '../src/jit/lift.js';
import type { BulkCode } from '../src/jit/target.js';
import { vectorStreamLoop, vectorStrideLoop } from '../src/jit/x64/bulk.js';
import { lineStrideLoop } from '../src/jit/x64/lines.js';
import { fixedStrideLoop, keyStreamLoop } from '../src/jit/x64/loops.js';
import { emitNative } from '../src/native/emit.js';
import { verify } from '../src/verifier/verify.js';
import { GuardedMemory } from './guarded.js';
import { type Random, randomBkeyFormat, randomBytes, randomFormat, seeded } from './random-formats.js';

const arena = new CodeArena();
const stride = arena.place(fixedStrideLoop());
const stream = arena.place(keyStreamLoop());
const machine = cpuTier(arena);
afterAll(() => arena.dispose());
if (!runsOn('avx2', machine)) console.warn('NOT TESTED: vector loops, because this CPU has no AVX2');

const input = new GuardedMemory(2 ** 17);
const output = new GuardedMemory(2 ** 17);

const proven = (format: Format) => verify(lower(format), contractFor(format));
const lifted = (format: Format): Lifted | undefined => lift(proven(format));

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
  const buffer = output.buffer(count * format.unpackedBytes + shift, where).fill(0x5a);
  const out = where === 'start' ? buffer.subarray(shift) : buffer.subarray(0, buffer.length - shift);
  const want = new Uint8Array(out.length);
  const run = { packed, count, stride: distance, outStride: format.unpackedBytes };
  const place = ({ code, overread }: BulkCode) => ({ routine: arena.place(code), overread });
  const routine = arena.place(emitNative(format));
  const loops = { line: place(line), vector: place(vector) };
  callStride(arena, stride, routine, { ...run, out: want });
  callLines(arena, loops.line, loops.vector, stride, routine, { ...run, out });
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

describe.skipIf(!runsOn('avx2', machine))('with AVX2', () => {
  test('records that lie apart are unpacked as one by one, whatever the format, stride and count', () => {
    let vectorised = 0;
    for (let seed = 0; seed < 1000; seed++) {
      const random = seeded(seed);
      const format = seed % 4 === 0 ? randomFormat(random) : randomBkeyFormat(random);
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

describe.skipIf(!runsOn('avx512', machine))('with AVX-512', () => {
  test('records are unpacked line by line as one by one', () => {
    let vectorised = 0;
    for (let seed = 0; seed < 600; seed++) {
      const random = seeded(seed);
      const format = seed % 4 === 0 ? randomFormat(random) : randomBkeyFormat(random);
      const distance = random(2) ? format.packedBytes : 1 + random(2 * format.packedBytes + 8);
      const both = bothLines(format, random, 140 + random(41), distance);
      if (!both) continue;
      expect([seed, both.out]).toEqual([seed, both.want]);
      vectorised++;
    }
    expect(vectorised).toBeGreaterThan(200);
  });
});
