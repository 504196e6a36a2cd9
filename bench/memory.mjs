// `npm run bench:memory`: what a hundred thousand routines take of executable memory, packed and a page each, what placing, freeing and
// replacing them costs, and what calling them in random order does. `--routines 10000,100000`, `--seed N`, `--out FOLDER`.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { BpfUnpackError, CodeArena, emitNative } from '../dist/index.js';
import { callsInRandomOrder } from './memory/calls.mjs';
import { Pages } from './memory/pages.mjs';
import { population } from './memory/population.mjs';
import { inLinux, PUBLISHED } from './memory/rivals.mjs';
import { table } from './report.mjs';
import { machine, median, percentile, seeded } from './work.mjs';

const CALLED = [256, 1024, 4096, 100_000];
const CHURN = 10;
/** Steps of churn that are timed together: all replace, or all free and place. */
const BLOCK = 500;
/** What is put in when something is taken out, as a part of the population. */
const SPARE = 0.1;
const PAGE = 4096;

/** @returns what the JSON file has */
export function measure({ routines, called, churn = CHURN, rounds, seed, linuxPrograms = 100, say }) {
  const random = seeded(seed);
  const most = Math.max(...routines, ...called);
  say(`${most} routines of their own`);
  const { formats, origin } = population(Math.ceil(most * (1 + SPARE)), random);
  const codes = formats.map((format) => emitNative(format));
  const results = [];
  for (const count of routines) {
    for (const granule of [16, 64]) {
      say(`${count} routines, granules of ${granule} bytes`);
      results.push(packed(codes.slice(0, Math.ceil(count * (1 + SPARE))), { count, granule, churn, random }));
    }
    say(`${count} routines, a page each`);
    results.push(paged(codes.slice(0, count)));
  }
  say('calls in random order');
  const lengths = codes.slice(0, most).map(({ length }) => length);
  return {
    machine: machine(),
    seed,
    origin,
    lengths: [5, 25, 50, 75, 95, 100].map((percent) => ({ percent, bytes: percentile(lengths, percent) })),
    results,
    linux: inLinux(formats.slice(0, linuxPrograms)),
    published: PUBLISHED,
    calls: callsInRandomOrder(codes, called, { rounds, random }),
  };
}

/** µs of each of so many. */
function timed(count, work) {
  const begun = process.hrtime.bigint();
  work();
  return Number(process.hrtime.bigint() - begun) / 1000 / count;
}

/** Routines in an arena: what they take, and what each step costs. */
function packed(codes, { count, granule, churn, random }) {
  const first = codes.slice(0, count);
  const batched = new CodeArena({ name: 'bench-memory', granule });
  const placeAll = timed(count, () => batched.placeAll(first));
  const atOnce = batched.stats();
  batched.dispose();

  const arena = new CodeArena({ name: 'bench-memory', granule });
  const live = [];
  const place = timed(count, () => {
    for (const code of first) live.push({ code, routine: arena.place(code) });
  });
  const full = arena.stats();
  const steps = churned(arena, live, codes.slice(count), { steps: churn * count, random });
  const after = arena.stats();
  const free = timed(count, () => {
    for (const { routine } of live) routine.free();
  });
  const empty = arena.stats();
  arena.dispose();
  return {
    how: `packed, ${granule} bytes`,
    count,
    us: { place, placeAll, free, ...steps },
    full: sizes(full),
    atOnce: sizes(atOnce),
    churned: sizes(after),
    emptied: sizes(empty),
  };
}

/** Replaces at random, in place and by freeing one and placing another. @returns µs of each */
function churned(arena, live, spare, { steps, random }) {
  const times = { replace: [], 'free and place': [] };
  const other = (step) => {
    const entry = live[random(live.length)];
    const at = random(spare.length);
    const code = spare[at];
    spare[at] = entry.code;
    entry.code = code;
    step(entry, code);
  };
  const kinds = {
    replace: ({ routine }, code) => arena.replace(routine, code),
    'free and place': (entry, code) => {
      entry.routine.free();
      entry.routine = arena.place(code);
    },
  };
  for (let done = 0, kind = 0; done < steps; done += BLOCK, kind ^= 1) {
    const name = Object.keys(kinds)[kind];
    const size = Math.min(BLOCK, steps - done);
    const us = timed(size, () => {
      for (let i = 0; i < size; i++) other(kinds[name]);
    });
    times[name].push(us);
  }
  return Object.fromEntries(Object.entries(times).map(([name, all]) => [name, median(all)]));
}

const sizes = ({ codeBytes, usedBytes, mappedBytes, chunks, fragments }) => ({
  codeBytes,
  usedBytes,
  mappedBytes,
  chunks,
  fragments,
  used: mappedBytes === 0 ? 0 : usedBytes / mappedBytes,
  code: mappedBytes === 0 ? 0 : codeBytes / mappedBytes,
});

function paged(codes) {
  const codeBytes = codes.reduce((sum, { length }) => sum + length, 0);
  let pages;
  const place = timed(codes.length, () => {
    pages = new Pages(codes);
  });
  const free = timed(codes.length, () => pages.dispose());
  const mappedBytes = codes.length * PAGE;
  const full = sizes({ codeBytes, usedBytes: mappedBytes, mappedBytes, chunks: codes.length });
  return { how: 'a page each', count: codes.length, us: { place, free }, full };
}

const bytes = (count) =>
  count >= 10 * 2 ** 20 ? `${(count / 2 ** 20).toFixed(0)} MiB` : `${(count / 2 ** 10).toFixed(0)} KiB`;
const percent = (part) => `${(part * 100).toFixed(1)} %`;
const us = (time) => (time === undefined ? '-' : time.toFixed(2));

export function report({ machine: where, origin, lengths, results, linux, published, calls }) {
  const [, , half, , , longest] = lengths;
  const heading = [
    '',
    'code',
    'mapped',
    'in use',
    'churned',
    'place',
    'placeAll',
    'replace',
    'free',
    'free+place',
  ];
  const rows = results.map(({ how, count, full, churned, us: cost }) => [
    `${count} routines, ${how}`,
    bytes(full.codeBytes),
    bytes(full.mappedBytes),
    percent(full.used),
    churned ? percent(churned.used) : '-',
    ...['place', 'placeAll', 'replace', 'free', 'free and place'].map((step) => us(cost[step])),
  ]);
  const counts = [...new Set(calls.map(({ count }) => count))];
  const ways = [...new Set(calls.map(({ how }) => how))];
  const cell = (how, count) => {
    const { ns, median: middle } = calls.find((row) => row.how === how && row.count === count);
    return `${ns.toFixed(1)} (${middle.toFixed(1)})`;
  };
  return [
    `${where}; ${origin}; ${half.bytes} bytes of code in the median, ${longest.bytes} at most`,
    '',
    'Bytes, the part of what is mapped that is in use (code and what rounds it up) at first and after churn, and µs for each routine',
    ...table(heading, rows),
    '',
    'Bytes for a program: code, and what it takes',
    ...(linux.missing
      ? [`Linux is left out: ${linux.missing}`]
      : [
          `Linux, ${linux.programs} of these: ${linux.code}, ${linux.taken.toFixed(0)} in its pack (${percent(linux.occupancy)} code)`,
        ]),
    ...published.map(({ title, code, taken }) => `${title}: ${code.join(' to ')}, ${taken}`),
    '',
    'Calls in random order, ns for each: minimum (median)',
    ...table(
      ['', ...counts.map((count) => `${count} routines`)],
      ways.map((how) => [how, ...counts.map((count) => cell(how, count))]),
    ),
  ].join('\n');
}

function main() {
  const { values } = parseArgs({
    options: {
      routines: { type: 'string', default: '10000,100000' },
      rounds: { type: 'string', default: '60' },
      seed: { type: 'string', default: '1' },
      out: { type: 'string', default: fileURLToPath(new URL('results', import.meta.url)) },
    },
  });
  const begun = performance.now();
  const say = (what) =>
    process.stderr.write(`${((performance.now() - begun) / 1000).toFixed(1).padStart(6)} s  ${what}\n`);
  const routines = values.routines.split(',').map(Number);
  const run = measure({
    routines,
    called: CALLED,
    rounds: Number(values.rounds),
    seed: Number(values.seed),
    say,
  });
  mkdirSync(values.out, { recursive: true });
  writeFileSync(join(values.out, 'memory.json'), `${JSON.stringify(run, null, 1)}\n`);
  console.log(report(run));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    main();
  } catch (error) {
    if (!(error instanceof BpfUnpackError)) throw error;
    console.error(`the benchmark places machine code: ${error.message} [${error.code}]`);
    process.exitCode = 1;
  }
}
