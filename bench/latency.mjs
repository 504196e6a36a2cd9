// From a format to something that can be called: µs of each stage once warm, of the first one in a process, and of the rivals.

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import {
  bkeyFormat,
  CodeArena,
  compileX64,
  contractFor,
  createUnpacker,
  emitNative,
  lower,
  verify,
} from '../dist/index.js';
import { tableOf } from '../dist/table/table.js';
import { bigintOf, halvesOf } from './lanes/javascript.mjs';
import { wasmOf } from './lanes/wasm.mjs';
import { inC } from './machine.mjs';
import { median, percentile, randomFormat, realFormats, shuffle } from './work.mjs';

/** V8 compiles our compilers meanwhile: the time of a format falls until some 25,000 have gone by. */
const WARM_RUNS = 25_000;
const WARM_MS = 4000;
const MEASURED_MS = 400;
/** Of what is little code. */
const SHORTER = 8;
const COMPILED = 3;
/** u64s, needs_whiteout and type come before the fields of a key. */
const HEADER_FIELDS = 3;

/**
 * @returns { first, warm, instructions, compilers }: medians of fresh processes; rows of { stage, p50, p99 }; BPF instructions of a format,
 *   on average; ms of each compiler
 */
export function latency(tools, { random, formats: count, processes, say }) {
  say('latency, warm');
  const real = shuffle(realFormats(), random).slice(0, count);
  const formats =
    real.length > 0 ? real : Array.from({ length: count }, (_, i) => randomFormat(random, i % 2 === 0));
  const best = tools.tiers.at(-1);
  const arena = new CodeArena();
  const again = byFormatSeenBefore(formats);
  const routes = [
    byBpf(arena),
    byNative(arena),
    ...byTable(tools),
    byUnpacker(arena),
    ...(best ? [byLoops(arena, best)] : []),
    again,
    ...rivals(tools),
  ];
  const warm = routes.flatMap((route) => rowsOf(warmed(formats, route)));
  arena.dispose();
  again.dispose();
  const instructions = formats.map((format) => lower(format).instructions.length);
  say('latency, first in a process');
  return {
    formats: formats.length,
    origin: real.length > 0 ? 'real' : 'random',
    warm,
    instructions: instructions.reduce((sum, count) => sum + count, 0) / formats.length,
    first: firstOf(processes),
    compilers: compilersOf(tools, formats),
  };
}

/** The same key format as another object, as the next node brings it. */
const equalTo = ({ keyU64s, fields }) =>
  bkeyFormat({
    keyU64s,
    bitsPerField: fields.slice(HEADER_FIELDS).map(({ bits }) => bits),
    fieldOffset: fields.slice(HEADER_FIELDS).map(({ offset }) => offset),
  });

const rowsOf = (times) =>
  [...times].map(([stage, all]) => ({ stage, p50: median(all), p99: percentile(all, 99) }));

/** Times a route for all formats over and over, by itself, once it is warm. */
function warmed(formats, { total, run, part = 1 }) {
  const times = new Map();
  const begun = performance.now();
  let runs = 0;
  let warm = false;
  let until = begun;
  const timed = (stage, work) => {
    const start = process.hrtime.bigint();
    const result = work();
    const us = Number(process.hrtime.bigint() - start) / 1000;
    if (!times.has(stage)) times.set(stage, []);
    if (warm) times.get(stage).push(us);
    return result;
  };
  do {
    if (!warm) until = performance.now() + MEASURED_MS;
    warm ||= runs >= WARM_RUNS || performance.now() - begun > WARM_MS / part;
    for (const format of formats) run(timed, format);
    runs += formats.length;
  } while (!warm || performance.now() < until);
  if (total) {
    const stages = [...times.values()];
    times.set(
      total,
      stages[0].map((_, i) => stages.reduce((sum, all) => sum + all[i], 0)),
    );
  }
  return times;
}

const byBpf = (arena) => ({
  total: 'BPF, format to callable',
  run(timed, format) {
    const [packed, out] = [new Uint8Array(format.packedBytes), new Uint8Array(format.unpackedBytes)];
    const program = timed('lower', () => lower(format));
    const verified = timed('verify', () => verify(program, contractFor(format)));
    const code = timed('JIT', () => compileX64(verified));
    const routine = timed('place', () => arena.place(code));
    timed('first call', () => routine.call([out, packed]));
    routine.free();
  },
});

const byNative = (arena) => ({
  total: 'native, format to callable',
  run(timed, format) {
    const [packed, out] = [new Uint8Array(format.packedBytes), new Uint8Array(format.unpackedBytes)];
    const code = timed('native emit', () => emitNative(format));
    const routine = timed('native place', () => arena.place(code));
    timed('native first call', () => routine.call([out, packed]));
    routine.free();
  },
});

const byTable = ({ tiers }) =>
  tiers.includes('avx512')
    ? [{ run: (timed, format) => timed('table', () => tableOf(format)), part: SHORTER }]
    : [];

const MANY = 256;

const byUnpacker = (arena) => ({
  run(timed, format) {
    timed('createUnpacker', () => createUnpacker(format, { engine: 'bpf', arena })).dispose();
  },
});

/** By itself: making a loop takes long enough for everything else to leave the caches. */
const byLoops = (arena, tier) => ({
  part: 2,
  run(timed, format) {
    const packed = new Uint8Array(format.packedBytes * MANY);
    const out = new Uint8Array(format.unpackedBytes * MANY);
    const unpacker = createUnpacker(format, { engine: 'bpf', arena, tier });
    timed(`loops of the format, ${tier}, first call`, () => unpacker.unpackMany(packed, MANY, { out }));
    unpacker.dispose();
  },
});

function byFormatSeenBefore(formats) {
  const arena = new CodeArena();
  const equals = new Map(formats.map((format) => [format, equalTo(format)]));
  for (const format of formats) createUnpacker(format, { engine: 'bpf', arena });
  return {
    part: 2,
    run(timed, format) {
      const equal = equals.get(format);
      timed('createUnpacker, format seen before', () =>
        createUnpacker(equal, { engine: 'bpf', arena }),
      ).dispose();
    },
    dispose: () => arena.dispose(),
  };
}

function rivals({ linux, others }) {
  const routes = [];
  if (linux) routes.push({ run: loadIntoLinux(linux) });
  for (const rival of others) {
    routes.push({
      run: (timed, format) => {
        const encoded = rival.wrap(lower(format));
        timed(`${rival.title} load and destroy`, () => rival.load(encoded, format));
      },
    });
  }
  const scripts = [{ run: makeHalves }, { run: makeBigint }, { run: makeWasm }];
  return [...routes, ...scripts].map((route) => ({ ...route, part: SHORTER }));
}

const loadIntoLinux = (linux) => (timed, format) => {
  const lane = linux(format);
  const encoded = lane.wrap(lower(format));
  timed('Linux BPF_PROG_LOAD and close', () => lane.load(encoded));
  lane.dispose();
};

function makeHalves(timed, format) {
  const s = new Int32Array(format.packedBytes / 4);
  const d = new Int32Array(format.unpackedBytes / 4);
  timed('JS halves: text, new Function, first call', () => halvesOf(format).one(s, 0, d, 0));
}

function makeBigint(timed, format) {
  const s = new DataView(new ArrayBuffer(format.packedBytes));
  const d = new DataView(new ArrayBuffer(format.unpackedBytes));
  timed('JS BigInt: text, new Function, first call', () => bigintOf(format).one(s, 0, d, 0));
}

function makeWasm(timed, format) {
  timed('WebAssembly: bytes, module, memory, first call', () => wasmOf(format, 4096).one(0, 2048, 1));
}

/** Rows of { engine, modules, load, make, call }, and the stages of the engine 'bpf'; in µs. */
function firstOf(processes) {
  const path = fileURLToPath(new URL('first.mjs', import.meta.url));
  const medians = (route) => {
    const samples = Array.from({ length: processes }, () =>
      JSON.parse(spawnSync(process.execPath, [path, route]).stdout.toString()),
    );
    const names = Object.keys(samples[0]);
    return Object.fromEntries(names.map((name) => [name, median(samples.map((sample) => sample[name]))]));
  };
  const engines = ['bpf', 'native'].map((engine) => ({ engine, ...medians(engine) }));
  const { modules, load, ...stages } = medians('stages');
  return { engines, stages };
}

/** One format from text to a function of a shared library. */
function compilersOf(tools, formats) {
  return tools.compilers.map((compiler) => {
    const times = formats.slice(0, COMPILED).map((format) => {
      const begun = performance.now();
      inC({ compilers: [compiler] }, [format], ['-O3']);
      return performance.now() - begun;
    });
    return { title: `${compiler} -O3`, ms: Math.min(...times) };
  });
}
