// µs from a format to a routine that can be called, stage by stage, and bytes of code: `node bench/routines.mjs`.
//
// First: a process of its own for each sample, koffi's load time told apart. Warm: every format found in real btree
// nodes, after a first pass over all of them.

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
import { FORMATS, machine, percentile, realFormats } from './work.mjs';

const SAMPLES = 9;

/** A stage's result and its time in µs. */
function timed(times, stage, run) {
  const begun = process.hrtime.bigint();
  const result = run();
  times[stage].push(Number(process.hrtime.bigint() - begun) / 1000);
  return result;
}

const STAGES = ['lower', 'verify', 'jit', 'place', 'native', 'place native'];

function makeAll(formats, arena) {
  const times = Object.fromEntries(STAGES.map((stage) => [stage, []]));
  const sizes = { bpf: [], native: [] };
  for (const format of formats) {
    const program = timed(times, 'lower', () => lower(format));
    const verified = timed(times, 'verify', () => verify(program, contractFor(format)));
    const code = timed(times, 'jit', () => compileX64(verified));
    const routine = timed(times, 'place', () => arena.place(code));
    const direct = timed(times, 'native', () => emitNative(format));
    const other = timed(times, 'place native', () => arena.place(direct));
    sizes.bpf.push(code.length);
    sizes.native.push(direct.length);
    routine.free();
    other.free();
  }
  return { times, sizes };
}

/** In a fresh process: load koffi, then from format to the first record. */
function first() {
  const begun = process.hrtime.bigint();
  const arena = new CodeArena();
  const loaded = process.hrtime.bigint();
  const unpacker = createUnpacker(FORMATS.F1, { engine: process.argv[3], arena });
  const made = process.hrtime.bigint();
  unpacker.unpack(new Uint8Array(16));
  const called = process.hrtime.bigint();
  const us = (a, b) => Number(b - a) / 1000;
  console.log(JSON.stringify({ load: us(begun, loaded), make: us(loaded, made), call: us(made, called) }));
}

function firstInProcess(engine) {
  const samples = Array.from({ length: SAMPLES }, () => {
    const { stdout } = spawnSync(process.execPath, [fileURLToPath(import.meta.url), 'first', engine]);
    return JSON.parse(stdout.toString());
  });
  return (part) =>
    percentile(
      samples.map((sample) => sample[part]),
      50,
    );
}

function main() {
  console.log(`${machine()}\n`);
  console.log(`first routine of a process, median of ${SAMPLES} processes, µs`);
  for (const engine of ['bpf', 'native']) {
    const part = firstInProcess(engine);
    console.log(
      `  ${engine.padEnd(7)} format to routine ${part('make').toFixed(0)}, first record ${part('call').toFixed(0)}; before that koffi and the arena ${part('load').toFixed(0)}`,
    );
  }
  const formats = realFormats();
  const arena = new CodeArena();
  for (let pass = 0; pass < 3; pass++) makeAll(formats, arena);
  const { times, sizes } = makeAll(formats, arena);
  console.log(`\nwarm, ${formats.length} formats of real btree nodes, µs         p50      p99`);
  for (const stage of STAGES) {
    const [p50, p99] = [50, 99].map((percent) => percentile(times[stage], percent).toFixed(1).padStart(8));
    console.log(`  ${stage.padEnd(46)} ${p50} ${p99}`);
  }
  const whole = times.lower.map((_, i) => times.lower[i] + times.verify[i] + times.jit[i] + times.place[i]);
  console.log(
    `  ${'format to routine by BPF'.padEnd(46)} ${percentile(whole, 50).toFixed(1).padStart(8)} ${percentile(whole, 99).toFixed(1).padStart(8)}`,
  );
  console.log('\nbytes of code a routine                              p50      max');
  for (const engine of ['bpf', 'native']) {
    console.log(
      `  ${engine.padEnd(46)} ${String(percentile(sizes[engine], 50)).padStart(8)} ${String(Math.max(...sizes[engine])).padStart(8)}`,
    );
  }
  const five = Object.values(FORMATS).map((format) => [
    compileX64(verify(lower(format), contractFor(format))).length,
    emitNative(format).length,
  ]);
  console.log(
    `  F1-F5 by BPF ${five.map(([bpf]) => bpf).join('/')}, native ${five.map(([, native]) => native).join('/')}`,
  );
  arena.dispose();
}

if (process.argv[2] === 'first') first();
else main();
