// What a call costs from JavaScript, where it crosses into machine code, and how many records it takes to be worth it.

import { createRequire } from 'node:module';
import { cpuTier } from '../dist/exec/cpu.js';
import { CodeArena, createUnpacker, ENGINES, emitNative } from '../dist/index.js';
import { makeWork } from './ladder.mjs';
import { bigintOf, halvesOf } from './lanes/javascript.mjs';
import { timer } from './lanes/lanes.mjs';
import { wasmOf } from './lanes/wasm.mjs';
import { FORMATS, median, minimum, nextKey, shuffle } from './work.mjs';

const COUNTS = [1, 4, 16, 64, 256, 1000];
const MANY = 1000;
const TOGETHER = 4;
const WARM_MS = 30;

/** Times functions in turns: rows of { title, ns, median }. */
export function compare(runs, { rounds, random }) {
  const lanes = Object.entries(runs).map(([title, run]) => ({ title, sample: timer(run), times: [] }));
  for (const { sample } of lanes) {
    const until = performance.now() + WARM_MS;
    do sample();
    while (performance.now() < until);
  }
  for (let round = 0; round < rounds; round++)
    for (const { sample, times } of shuffle(lanes, random)) times.push(sample());
  return lanes.map(({ title, times }) => ({ title, ns: minimum(times), median: median(times) }));
}

/** One record a call, each way that there is. @returns { rows } */
export function oneRecord(options) {
  const work = makeWork(FORMATS.F2, 'stride', 1, options.random);
  const { format, packed, out } = work;
  const runs = {};
  for (const engine of ENGINES) {
    if (engine === 'table' && cpuTier() !== 'avx512') continue;
    const unpacker = createUnpacker(format, { engine });
    runs[`unpack, ${engine}`] = () => unpacker.unpack(packed, out);
  }
  const routine = new CodeArena().place(emitNative(format));
  const args = [out, packed];
  runs['routine.call, native'] = () => routine.call(args);
  const koffi = createRequire(import.meta.url)('koffi');
  const plain = koffi.proto('void bench_record(void *, void *)');
  const { address } = routine;
  runs['the same by koffi alone'] = () => koffi.call(address, plain, out, packed);
  const halves = halvesOf(format).one;
  const words = [packed, out].map(
    (bytes) => new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2),
  );
  runs['JS halves'] = () => halves(words[0], 0, words[1], 0);
  const bigint = bigintOf(format).one;
  const views = [packed, out].map((bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.length));
  runs['JS BigInt'] = () => bigint(views[0], 0, views[1], 0);
  const { one, memory } = wasmOf(format, 4096);
  memory.set(packed);
  runs.WebAssembly = () => one(0, 2048, 1);
  return compare(runs, options);
}

/** `unpackMany` and `unpackStream` from JavaScript, crossing and checks included, beside generated JavaScript, by number of records. */
export function byCount(tools, options) {
  const [best] = tools.tiers.slice(-1);
  const results = [];
  for (const kind of ['stride', 'stream']) {
    const { format, packed, out } = makeWork(FORMATS.F2, kind, MANY, options.random);
    const unpackers = {
      BPF: createUnpacker(format, { engine: 'bpf', tier: best }),
      native: createUnpacker(format, { engine: 'native' }),
    };
    const { many, stream } = halvesOf(format);
    const [s, d] = [packed, out].map(
      (bytes) => new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2),
    );
    for (const count of COUNTS) {
      const runs = {};
      for (const [title, unpacker] of Object.entries(unpackers)) {
        runs[title] =
          kind === 'stride'
            ? () => unpacker.unpackMany(packed, count, { out })
            : () => unpacker.unpackStream(packed, { maxRecords: count, out });
      }
      runs['JS halves'] = () => (kind === 'stride' ? many : stream)(s, count, d);
      results.push({ kind, count, rows: compare(runs, options) });
    }
  }
  return results;
}

/** A thousand records in one call against generated JavaScript: { format, fixed stride, key stream, four streams } as ratios. */
export function againstJavaScript(tools, options) {
  const [best] = tools.tiers.slice(-1);
  return Object.entries(FORMATS).map(([name, format]) => {
    const unpacker = createUnpacker(format, { engine: 'bpf', tier: best });
    const fixed = ratioOf(
      makeWork(format, 'stride', MANY, options.random),
      options,
      ({ packed, out }) =>
        () =>
          unpacker.unpackMany(packed, MANY, { out }),
    );
    const work = makeWork(format, 'stream', MANY, options.random);
    const stream = ratioOf(
      work,
      options,
      ({ packed, out }) =>
        () =>
          unpacker.unpackStream(packed, { maxRecords: MANY, out }),
    );
    const four = ratioOf(work, options, ({ packed, out }) => {
      const parts = partsOf(packed, out);
      return () => unpacker.unpackStreams(parts);
    });
    unpacker.dispose();
    return { format: name, 'fixed stride': fixed, 'key stream': stream, 'four streams': four };
  });
}

function ratioOf(work, options, makeRun) {
  const { format, kind, packed, out, want } = work;
  const { many, stream } = halvesOf(format);
  const [s, d] = [packed, out].map(
    (bytes) => new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2),
  );
  const run = makeRun(work);
  out.fill(0);
  run();
  if (Buffer.compare(out, want) !== 0) throw new Error('BPF differs from the reference');
  const rows = compare({ BPF: run, JS: () => (kind === 'stride' ? many : stream)(s, MANY, d) }, options);
  return rows[1].ns / rows[0].ns;
}

function partsOf(packed, out) {
  const each = MANY / TOGETHER;
  const starts = [];
  for (let i = 0, at = 0; i < MANY; i++, at += nextKey(packed, at)) if (i % each === 0) starts.push(at);
  return starts.map((start, i) => ({
    keys: packed,
    start,
    end: starts[i + 1] ?? packed.length,
    out: out.subarray(i * each * 40, (i + 1) * each * 40),
  }));
}
