import { afterAll, describe, expect, test } from 'vitest';
import { contractFor } from '../src/bpf/contract.js';
import { lower } from '../src/bpf/lower.js';
import { CodeArena, type Routine } from '../src/exec/arena.js';
import { cpuTier, runsOn } from '../src/exec/cpu.js';
import {
  type BulkLoop,
  callLines,
  callStream,
  callStreams,
  callStride,
  callVectorStride,
  type StreamEnded,
  type StreamRun,
  type StrideRun,
} from '../src/exec/run.js';
import { BKEY_BYTES, bkeyFormatFromBytes } from '../src/format/bkey.js';
import { defineFormat } from '../src/format/define.js';
import type { Format } from '../src/format/model.js';
import { STREAM_END } from '../src/format/stream.js';
import { type Lifted, lift } from '../src/jit/lift.js';
import { type BulkCode, STREAM_PLACES } from '../src/jit/target.js';
import { vectorStreamLoop, vectorStrideLoop } from '../src/jit/x64/bulk.js';
import { lineStrideLoop } from '../src/jit/x64/lines.js';
import { listing } from '../src/jit/x64/listing.js';
import { fixedStrideLoop, keyStreamLoop } from '../src/jit/x64/loops.js';
import { streamsLoop } from '../src/jit/x64/streams.js';
import { emitNative } from '../src/native/emit.js';
import { verify } from '../src/verifier/verify.js';
import { GuardedMemory } from './guarded.js';
import { type Random, randomBkeyFormat, randomBytes, randomFormat, seeded } from './random-formats.js';
import { unhex, vectors } from './vectors.js';

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

/** What was placed for one format, given back afterwards. */
function withRoutines<T extends Record<string, BulkCode>>(
  format: Format,
  codes: T,
  run: (routine: Routine, loops: { [name in keyof T]: BulkLoop }) => void,
): void {
  const routine = arena.place(emitNative(format));
  const loops = Object.fromEntries(Object.entries(codes).map(([name, code]) => [name, placed(code)]));
  run(routine, loops as { [name in keyof T]: BulkLoop });
  routine.free();
  for (const loop of Object.values(loops)) loop.routine.free();
}

type Strides = Omit<StrideRun, 'out'>;

/** Unpacks records in buffers between guard pages, and by the native routine; returns both outputs, with what is beside them. */
function bothStrides(
  run: Strides,
  routine: Routine,
  random: Random,
  unpack: (run: StrideRun) => void,
): { is: Buffer; want: Buffer } {
  const where = random(2) ? ('end' as const) : ('start' as const);
  const packed = input.buffer(run.packed.length, where);
  packed.set(run.packed);
  // What lies beside the records moves them off the start of a line.
  const shift = random(3) ? 8 * random(8) : random(64);
  const length = run.count * run.outStride;
  const is = output.buffer(length + shift, where).fill(0x5a);
  const want = new Uint8Array(is.length).fill(0x5a);
  const records = (bytes: Uint8Array) =>
    (where === 'start' ? bytes.subarray(shift) : bytes).subarray(0, length);
  callStride(arena, stride, routine, { ...run, packed, out: records(want) });
  unpack({ ...run, packed, out: records(is) });
  return { is: Buffer.from(is), want: Buffer.from(want) };
}

function randomRun(format: Format, random: Random, count: number, distance: number): Strides {
  const length = count === 0 ? 0 : (count - 1) * distance + format.packedBytes;
  return { packed: randomBytes(random, length), count, stride: distance, outStride: format.unpackedBytes };
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

/** Room for some keys of some bytes of a random stream. */
function randomWalk(format: Format, random: Random, memories: { from: GuardedMemory; to: GuardedMemory }) {
  const bytes = randomKeys(random, format.keyU64s!);
  const where = random(2) ? ('end' as const) : ('start' as const);
  const keys = memories.from.buffer(bytes.length, where);
  keys.set(bytes);
  const start = random(4) ? 0 : Math.min(keys.length, random(32));
  const end = random(4) ? keys.length : start + random(keys.length - start + 1);
  const room = random(3) ? 41 : random(6);
  const out = memories.to.buffer(room * BKEY_BYTES, where).fill(0);
  return { keys, start, end, keyU64s: format.keyU64s!, out, offsets: new Uint32Array(room) };
}

/** What a walk leaves behind. */
const traces = (walk: StreamEnded, { out, offsets }: StreamRun) => ({
  ...walk,
  out: Buffer.from(out).toString('hex'),
  offsets: [...offsets],
});

function plainWalk(routine: Routine, run: StreamRun) {
  const plain = {
    ...run,
    out: new Uint8Array(run.out.length),
    offsets: new Uint32Array(run.offsets.length),
  };
  return traces(callStream(arena, stream, routine, plain), plain);
}

const RUNS = 5;

const tiers = (['avx2', 'avx512'] as const).filter((tier) => runsOn(tier, machine));

describe.each(tiers)('record by record with %s', (tier) => {
  test('records that lie apart are unpacked as one by one, whatever the format, stride and count', () => {
    let vectorised = 0;
    for (let seed = 0; seed < 300; seed++) {
      const random = seeded(seed);
      const format = anyFormat(random, seed);
      const form = lifted(format);
      const vector = form && vectorStrideLoop(form, tier);
      if (!vector) continue;
      withRoutines(format, { vector }, (routine, loops) => {
        for (let i = 0; i < RUNS; i++) {
          const run = randomRun(format, random, random(41), 1 + random(2 * format.packedBytes + 8));
          const { is, want } = bothStrides(run, routine, random, (run) =>
            callVectorStride(arena, loops.vector, stride, routine, run),
          );
          expect([seed, is.equals(want)]).toEqual([seed, true]);
        }
      });
      vectorised++;
    }
    expect(vectorised).toBeGreaterThan(200);
  });

  test('key streams, whole and damaged, are walked as by the scalar loop', () => {
    const ends = new Map<number, number>();
    for (let seed = 0; seed < 200; seed++) {
      const random = seeded(seed);
      const format = randomBkeyFormat(random);
      withRoutines(format, { vector: vectorStreamLoop(lifted(format)!, tier)! }, (routine, loops) => {
        for (let i = 0; i < RUNS; i++) {
          const run = randomWalk(format, random, { from: input, to: output });
          const expected = plainWalk(routine, run);
          const walk = callStream(arena, stream, routine, run, loops.vector);
          expect([seed, traces(walk, run)]).toEqual([seed, expected]);
          ends.set(walk.ended, (ends.get(walk.ended) ?? 0) + 1);
        }
      });
    }
    for (const ended of Object.values(STREAM_END)) expect(ends.get(ended)).toBeGreaterThan(10);
  });

  test('four key streams at once are walked as one by one', () => {
    for (let seed = 0; seed < 100; seed++) {
      const random = seeded(seed);
      const format = randomBkeyFormat(random);
      const form = lifted(format)!;
      const codes = { together: streamsLoop(form, tier)!, single: vectorStreamLoop(form, tier)! };
      withRoutines(format, codes, (routine, loops) => {
        for (let i = 0; i < RUNS; i++) {
          const offsets = new Uint32Array(5 * 41);
          const runs = inputs
            .map((from, j) => randomWalk(format, random, { from, to: outputs[j]! }))
            .map((run, j) => {
              const at = STREAM_PLACES[j]! * 41;
              return { ...run, offsets: offsets.subarray(at, at + run.offsets.length) };
            });
          if (runs.some(({ start, end }) => end - start < 8)) continue;
          const expected = runs.map((run) => plainWalk(routine, run));
          const spans = runs.map((run) => ({ ...run, records: run.offsets.length }));
          const all = { spans, keyU64s: format.keyU64s!, most: 41, offsets };
          const walks = callStreams(arena, { ...loops, rest: stream }, routine, all);
          expect([seed, walks.map((walk, j) => traces(walk, runs[j]!))]).toEqual([seed, expected]);
        }
      });
    }
  });
});

describe.skipIf(!runsOn('avx512', machine))('with AVX-512', () => {
  test('records are unpacked line by line as one by one', () => {
    let vectorised = 0;
    for (let seed = 0; seed < 300; seed++) {
      const random = seeded(seed);
      const format = anyFormat(random, seed);
      const distance = random(2) ? format.packedBytes : 1 + random(2 * format.packedBytes + 8);
      const form = lifted(format);
      const lines = form && lineStrideLoop(form, distance);
      if (!lines) continue;
      withRoutines(format, { lines, vector: vectorStrideLoop(form)! }, (routine, loops) => {
        for (let i = 0; i < RUNS; i++) {
          const run = randomRun(format, random, 128 + random(66), distance);
          const { is, want } = bothStrides(run, routine, random, (run) =>
            callLines(arena, loops.lines, loops.vector, stride, routine, run),
          );
          expect([seed, is.equals(want)]).toEqual([seed, true]);
        }
      });
      vectorised++;
    }
    expect(vectorised).toBeGreaterThan(130);
  });

  test('every format of real btree nodes is unpacked line by line as one by one', () => {
    const random = seeded(1);
    for (const { format: raw } of vectors<{ format: { raw: string } }>('bcachefs/real_formats.jsonl.gz')) {
      const format = bkeyFormatFromBytes(unhex(raw.raw));
      const form = lifted(format)!;
      const lines = lineStrideLoop(form, format.packedBytes);
      if (!lines) continue;
      withRoutines(format, { lines, vector: vectorStrideLoop(form)! }, (routine, loops) => {
        const { is, want } = bothStrides(
          randomRun(format, random, 150, format.packedBytes),
          routine,
          random,
          (run) => callLines(arena, loops.lines, loops.vector, stride, routine, run),
        );
        expect([raw.raw, is.equals(want)]).toEqual([raw.raw, true]);
      });
    }
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

test('what is checked of a key comes from one load of its header', () => {
  const form = lifted(randomBkeyFormat(seeded(1)))!;
  const loads = ({ code }: BulkCode, address: RegExp) => {
    const texts = listing(code).map(({ text }) => text);
    // Behind the code are traps, and then constants.
    const instructions = texts.slice(0, texts.indexOf('int3'));
    return instructions.filter((text) => /^(?!v|lea)\w+ .*\[/.test(text) && address.test(text));
  };
  // The first one finds the next key, and the second has to agree with it.
  expect(loads(vectorStreamLoop(form)!, /\[rcx\+r12/)).toEqual([
    'movzx ebx, byte [rcx+r12]',
    'andn eax, ebp, [rcx+r12]',
  ]);
  expect(loads(streamsLoop(form)!, /\[r9\+r(bx|bp|si|di)/)).toEqual(
    ['rbx', 'rbp', 'rsi', 'rdi'].map((key) => `mov eax, [r9+${key}]`),
  );
});
