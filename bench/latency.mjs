// From a format to something that can be called: µs of each stage once warm, of the first one in a process, and of the rivals.

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import {
  CodeArena,
  compileX64,
  contractFor,
  createUnpacker,
  emitNative,
  lower,
  verify,
} from '../dist/index.js';
import { bigintOf, halvesOf } from './lanes/javascript.mjs';
import { wasmBytes } from './lanes/wasm.mjs';
import { inC } from './machine.mjs';
import { median, percentile, randomFormat, realFormats, shuffle } from './work.mjs';

/** V8 compiles our compilers meanwhile. */
const WARM_MS = 2500;
const COMPILED = 3;

/** @returns { first, warm, compilers }: medians of fresh processes; rows of { stage, p50, p99 }; ms of each compiler */
export function latency(tools, { random, formats: count, processes, say }) {
  say('latency, warm');
  const real = shuffle(realFormats(), random).slice(0, count);
  const formats =
    real.length > 0 ? real : Array.from({ length: count }, (_, i) => randomFormat(random, i % 2 === 0));
  let times;
  const until = performance.now() + WARM_MS;
  do times = makeAll(tools, formats);
  while (performance.now() < until);
  times = makeAll(tools, formats);
  say('latency, first in a process');
  return {
    formats: formats.length,
    origin: real.length > 0 ? 'real' : 'random',
    warm: rowsOf(times),
    first: firstOf(processes),
    compilers: compilersOf(tools, formats),
  };
}

const rowsOf = (times) =>
  [...times].map(([stage, all]) => ({ stage, p50: percentile(all, 50), p99: percentile(all, 99) }));

function makeAll(tools, formats) {
  const times = new Map();
  const timed = (stage, run) => {
    const begun = process.hrtime.bigint();
    const result = run();
    if (!times.has(stage)) times.set(stage, []);
    times.get(stage).push(Number(process.hrtime.bigint() - begun) / 1000);
    return result;
  };
  const arena = new CodeArena();
  for (const format of formats) {
    ours(timed, format, arena, tools.tiers.at(-1));
    theirs(timed, format, tools);
  }
  arena.dispose();
  const total = (stages) =>
    formats.map((_, i) => stages.reduce((sum, stage) => sum + times.get(stage)[i], 0));
  times.set('BPF, format to callable', total(['lower', 'verify', 'JIT', 'place', 'first call']));
  times.set('native, format to callable', total(['native emit', 'native place', 'native first call']));
  return times;
}

function ours(timed, format, arena, tier) {
  const [packed, out] = [
    new Uint8Array(format.packedBytes * 256),
    new Uint8Array(format.unpackedBytes * 256),
  ];
  const program = timed('lower', () => lower(format));
  const verified = timed('verify', () => verify(program, contractFor(format)));
  const code = timed('JIT', () => compileX64(verified));
  const routine = timed('place', () => arena.place(code));
  timed('first call', () => routine.call([out, packed]));
  const native = timed('native emit', () => emitNative(format));
  const other = timed('native place', () => arena.place(native));
  timed('native first call', () => other.call([out, packed]));
  routine.free();
  other.free();
  const unpacker = timed('createUnpacker', () => createUnpacker(format, { engine: 'bpf', arena, tier }));
  timed('createUnpacker, format seen before', () =>
    createUnpacker(format, { engine: 'bpf', arena, tier }),
  ).dispose();
  if (tier)
    timed(`loops of the format, ${tier}, first call`, () => unpacker.unpackMany(packed, 256, { out }));
  unpacker.dispose();
}

function theirs(timed, format, { linux, others }) {
  const program = lower(format);
  if (linux) {
    const lane = linux(format);
    const encoded = lane.wrap(program);
    timed('Linux BPF_PROG_LOAD and close', () => lane.load(encoded));
    lane.dispose();
  }
  for (const rival of others) timed(`${rival.title} load and destroy`, () => rival.load(program, format));
  const s = new Int32Array(format.packedBytes / 4);
  timed('JS halves: text, new Function, first call', () => halvesOf(format).one(s, 0, new Int32Array(10), 0));
  timed('JS BigInt: text, new Function, first call', () => {
    bigintOf(format).one(new DataView(s.buffer), 0, new DataView(new ArrayBuffer(40)), 0);
  });
  timed(
    'WebAssembly: bytes, module, instance',
    () => new WebAssembly.Instance(new WebAssembly.Module(wasmBytes(format))),
  );
}

function firstOf(processes) {
  const path = fileURLToPath(new URL('first.mjs', import.meta.url));
  return ['bpf', 'native'].map((engine) => {
    const samples = Array.from({ length: processes }, () =>
      JSON.parse(spawnSync(process.execPath, [path, engine]).stdout.toString()),
    );
    const part = (name) => median(samples.map((sample) => sample[name]));
    return { engine, load: part('load'), make: part('make'), call: part('call') };
  });
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
