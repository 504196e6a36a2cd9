// µs to verify a program, beside what Linux takes to load it: `node bench/verifier.mjs [--rounds N]`.
//
// First: in a process of its own, modules loaded. Warm: minimum and median over rounds in which we and Linux take turns.
// Linux's figure is the system call as a whole: check, rewriting, compilation and allocation, and a caller's
// instructions besides; it has no figure where bpf(2) is not permitted.

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import {
  assemble,
  contractFor,
  EngineError,
  KernelMemory,
  lower,
  VerifierError,
  verify,
} from '../dist/index.js';
import { FORMATS, machine, minimum, percentile, realFormats, seeded } from './work.mjs';

const { values, positionals } = parseArgs({
  options: { rounds: { type: 'string', default: '100' } },
  allowPositionals: true,
});
const ROUNDS = Number(values.rounds);
const FIRST_SAMPLES = 5;
const REAL_ROUNDS = 5;
const WARM_UP_MS = 500;
/** A program that takes long has fewer rounds, but so many at least. */
const MAX_MS = 4000;
const MIN_ROUNDS = 5;

const MEMORY = { args: [{ kind: 'memory', bytes: 4096, access: 'readwrite' }, { kind: 'scalar' }] };

/** `count` instructions without a branch. */
function straight(count, begin, instruction) {
  const end = ['r0 = 0', 'exit'];
  const middle = Array.from({ length: count - begin.length - end.length }, (_, i) => instruction(i));
  return [...begin, ...middle, ...end].join('\n');
}

/** Arithmetic of all kinds on unknown numbers and what comes of them. */
function arithmetic(count) {
  const random = seeded(1);
  const ops = ['+=', '-=', '*=', '&=', '|=', '^=', '<<=', '>>=', 's>>='];
  return straight(count, ['r3 = r2', 'r4 = r2', 'r5 = 7', 'r6 = r2'], () => {
    const [dst, src, op] = [random(5) + 2, random(5) + 2, ops[random(ops.length)]];
    if (op.length > 2) return `r${dst} ${op} ${1 + random(31)}`;
    return `r${dst} ${op} ${random(3) === 0 ? `r${src}` : 1 + random(1000)}`;
  });
}

/** A third each of loads, stores and arithmetic, on memory and on the stack. */
function mixed(count) {
  const random = seeded(2);
  const stack = ['*(u64 *)(r10 - 8) = r2', '*(u64 *)(r10 - 16) = r2'];
  return straight(count, ['r3 = r2', 'r4 = r2', 'r5 = r2', 'r6 = r2', ...stack], (i) => {
    const [dst, src, size] = [random(4) + 3, random(4) + 3, [8, 4, 2, 1][random(4)]];
    const place = random(4) === 0 ? `r10 - ${8 + 8 * random(2)}` : `r1 + ${random(4000)}`;
    const memory = `*(u${size * 8} *)(${place})`;
    return [`r${dst} = ${memory}`, `${memory} = r${src}`, `r${dst} += r${src}`][i % 3];
  });
}

const counting = (trips) => `r0 = 0\nloop: r0 += 1\nif r0 < ${trips} goto loop\nr0 = 0\nexit`;
/** Each round at a place that depends on the counter. */
const summing = (trips) => `r0 = 0
r3 = 0
loop: r4 = r3
r4 &= 4095
r4 += r1
r4 = *(u8 *)(r4 + 0)
r0 += r4
r3 += 1
if r3 < ${trips} goto loop
exit`;

function workloads() {
  const text = (source) => ({ program: assemble(source), contract: MEMORY });
  const all = {};
  for (const [name, format] of Object.entries(FORMATS))
    all[`lowered format ${name}`] = () => ({ program: lower(format), contract: contractFor(format) });
  for (const count of [50, 200, 1000, 10_000]) {
    all[`arithmetic, ${count} instructions`] = () => text(arithmetic(count));
    all[`loads, stores, arithmetic, ${count}`] = () => text(mixed(count));
  }
  for (const trips of [1000, 100_000]) {
    all[`counting loop, ${trips} rounds`] = () => text(counting(trips));
    all[`summing loop, ${trips} rounds`] = () => text(summing(trips));
  }
  return all;
}

const us = (begun) => Number(process.hrtime.bigint() - begun) / 1000;

/** µs of a verification; undefined if the program is refused. */
function timeOurs({ program, contract }) {
  const begun = process.hrtime.bigint();
  try {
    verify(program, contract);
  } catch (error) {
    if (error instanceof VerifierError) return undefined;
    throw error;
  }
  return us(begun);
}

/** Where the kernel loads programs, µs of loading one; undefined if it is refused. */
function timeTheirs(memory, { program }) {
  if (!memory) return undefined;
  try {
    const loaded = memory.load(program);
    loaded.free();
    return loaded.loadMicroseconds;
  } catch (error) {
    if (error instanceof VerifierError) return undefined;
    throw error;
  }
}

/** Undefined, and said once, where bpf(2) is not permitted. */
function kernelMemory(contract) {
  try {
    return new KernelMemory(contract);
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    if (!refusalTold) console.log(`Linux is not asked: ${error.message}\n`);
    refusalTold = true;
    return undefined;
  }
}
let refusalTold = false;

function measure(work) {
  const memory = kernelMemory(work.contract);
  const [ours, theirs] = [[], []];
  const begun = process.hrtime.bigint();
  while (us(begun) < WARM_UP_MS * 1000) timeOurs(work);
  const measured = process.hrtime.bigint();
  for (let round = 0; round < ROUNDS && (round < MIN_ROUNDS || us(measured) < MAX_MS * 1000); round++) {
    ours.push(timeOurs(work));
    theirs.push(timeTheirs(memory, work));
  }
  memory?.dispose();
  return { ours, theirs };
}

function first(name) {
  const samples = Array.from({ length: FIRST_SAMPLES }, () => {
    const { stdout } = spawnSync(process.execPath, [fileURLToPath(import.meta.url), name]);
    return JSON.parse(stdout.toString());
  });
  return samples[0] === null ? undefined : percentile(samples, 50);
}

const figure = (time) => (time === undefined ? '-' : time < 100 ? time.toFixed(1) : time.toFixed(0));
const pick = (times, how) => (times.includes(undefined) ? undefined : how(times));
const median = (times) => percentile(times, 50);

function printRow(name, firstTime, { ours, theirs }) {
  const cells = [
    firstTime,
    pick(ours, minimum),
    pick(ours, median),
    pick(theirs, minimum),
    pick(theirs, median),
  ];
  console.log(name.padEnd(38) + cells.map((time) => figure(time).padStart(11)).join(''));
}

/** Every format of a real btree node: the fastest of a few rounds for each. */
function measureReal() {
  const best = { ours: [], theirs: [] };
  for (const format of realFormats()) {
    const work = { program: lower(format), contract: contractFor(format) };
    const memory = kernelMemory(work.contract);
    const rounds = Array.from({ length: REAL_ROUNDS }, () => [timeOurs(work), timeTheirs(memory, work)]);
    best.ours.push(
      pick(
        rounds.map(([time]) => time),
        minimum,
      ),
    );
    best.theirs.push(
      pick(
        rounds.map(([, time]) => time),
        minimum,
      ),
    );
    memory?.dispose();
  }
  return best;
}

function main() {
  console.log(`${machine()}; ${ROUNDS} rounds; µs, '-' where it is refused or not asked\n`);
  const heading = ['first', 'minimum', 'median', 'Linux min.', 'median'];
  console.log('verification of'.padEnd(38) + heading.map((word) => word.padStart(11)).join(''));
  const all = workloads();
  for (const [name, make] of Object.entries(all)) printRow(name, first(name), measure(make()));
  printRow('formats of real nodes, over all', undefined, measureReal());
}

if (positionals[0]) console.log(JSON.stringify(timeOurs(workloads()[positionals[0]]()) ?? null));
else main();
