// `npm run bench`: everything that is measured, in one go. Quick takes less than a minute; `-- --full` has more rounds, every workload in
// every place, at least a thousand random formats, and intervals. `--out FOLDER`: where results.json and results.html go.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { BpfUnpackError } from '../dist/index.js';
import { answers } from './answers.mjs';
import { againstJavaScript, byCount, oneRecord } from './calls.mjs';
import { verdicts } from './goals.mjs';
import { html } from './html.mjs';
import { ladder } from './ladder.mjs';
import { latency } from './latency.mjs';
import { equip, machineText } from './machine.mjs';
import { realNodes } from './nodes.mjs';
import { pays } from './pays.mjs';
import { report } from './report.mjs';
import { spread } from './spread.mjs';
import { seeded } from './work.mjs';

const MIB = 2 ** 20;
export const MODES = {
  quick: {
    ladder: { rounds: 200, outBytes: 48 * MIB, everywhere: false },
    spread: { rounds: 40, formats: 30 },
    nodes: { rounds: 50, images: 1 },
    calls: { rounds: 15 },
    pays: { formats: 40 },
    latency: { formats: 100, processes: 3 },
  },
  full: {
    ladder: { rounds: 1500, outBytes: 128 * MIB, everywhere: true },
    spread: { rounds: 120, formats: 1000 },
    nodes: { rounds: 200, images: 4 },
    calls: { rounds: 100 },
    pays: { formats: 200 },
    latency: { formats: 1000, processes: 9 },
  },
};

/** Each is given the sections before it. */
const SECTIONS = {
  ladder: (tools, options) => ladder(tools, options),
  pays: (tools, options, { ladder: rows }) => pays(tools, rows, options),
  nodes: (tools, options) => realNodes(tools, options),
  calls: (tools, options) => ({
    one: oneRecord(options),
    byCount: byCount(tools, options),
    againstJavaScript: againstJavaScript(tools, options),
  }),
  spread: (tools, options) => spread(tools, options),
  latency: (tools, options) => latency(tools, options),
};

/** @returns what the JSON file has; if a section fails, { failed: { section, error } } and the sections before it */
export async function measure(mode, { seed, say, sections = SECTIONS }) {
  const tools = equip();
  for (const sentence of tools.missing) say(`NOT MEASURED: ${sentence}`);
  const random = seeded(seed);
  const { missing, notes } = tools;
  const run = { machine: machineText(tools), mode, seed, missing, notes };
  try {
    for (const [section, measured] of Object.entries(sections)) {
      try {
        run[section] = await measured(tools, { random, say, ...MODES[mode][section] }, run);
      } catch (error) {
        return { ...run, failed: { section, error: String(error.stack ?? error) } };
      }
    }
  } finally {
    tools.player.dispose();
  }
  return { ...run, goals: verdicts(run), answers: answers(run) };
}

async function main() {
  const { values } = parseArgs({
    options: {
      full: { type: 'boolean', default: false },
      out: { type: 'string', default: fileURLToPath(new URL('results', import.meta.url)) },
      seed: { type: 'string', default: '1' },
    },
  });
  const begun = performance.now();
  const say = (what) =>
    process.stderr.write(`${((performance.now() - begun) / 1000).toFixed(1).padStart(6)} s  ${what}\n`);
  const run = await measure(values.full ? 'full' : 'quick', { seed: Number(values.seed), say });
  mkdirSync(values.out, { recursive: true });
  writeFileSync(join(values.out, 'results.json'), `${JSON.stringify(run, null, 1)}\n`);
  if (run.failed) {
    const { section, error } = run.failed;
    console.error(
      `the section '${section}' failed: ${error}\nresults.json in ${values.out} has the sections before it`,
    );
    process.exitCode = 1;
    return;
  }
  writeFileSync(join(values.out, 'results.html'), html(run));
  console.log(report(run));
  console.log(
    `\n${join(values.out, 'results.json')} and results.html, ${((performance.now() - begun) / 1000).toFixed(0)} s`,
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof BpfUnpackError)) throw error; // of a section, there is `failed`
    console.error(
      `the benchmark times machine code, which cannot be run here: ${error.message} [${error.code}]`,
    );
    process.exitCode = 1;
  }
}
