// Changes the verifier in one place at a time, and asks what is recorded of it whether that shows:
// node scripts/mutants.mjs [--count N] [--seed N] [--jobs N] [--only FILE] [--again]
// Survivors have their reasons in test/vectors/verifier/survivors.json; it ends with 1 where one has none. With --again it
// tries those in that file, and no others.

import { execFileSync, spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { mutationsOf } from './mutations.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const REASONS = join(root, 'test/vectors/verifier/survivors.json');
const reasons = JSON.parse(readFileSync(REASONS, 'utf8'));

/** They tell why a program was refused, and are made after that is certain. */
const REPORTS = 'counterexample distance explain kernel-log path report report-text run search slice'.split(
  ' ',
);

/** Seconds of processor time, after which a mutant counts as killed; without a change it takes about six. */
const CPU_SECONDS = 18;

/** The groups of test/recorded.ts in which a mutant shows soonest. */
const SOONEST = {
  tnum: ['parts of scalars'],
  ranges: ['parts of scalars', 'scalars'],
  words: ['scalars'],
  compare: ['scalars'],
  scalars: ['scalars'],
  written: ['bytes and lines'],
  trips: ['bytes and lines', 'random loops'],
  invariants: ['cases, with facts', 'runs'],
  'kernel-rules': ['cases, as Linux has it'],
};
const LOOPS = ['fixpoint', 'hypothesis', 'natural-loops', 'places', 'ranking', 'subsume'];
for (const name of LOOPS) SOONEST[name] = ['random loops', 'cases, with facts'];

/** Where a function, a method, or something else at the top of a module begins. */
const FUNCTION =
  /^(?:export )?function (?<name>\w+)|^ {4}(?:static |get )?(?<method>#?\w+)\(.*\{$|^(?:export )?(?:const|class) /gm;

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '300' },
    seed: { type: 'string', default: '1' },
    jobs: { type: 'string', default: '2' },
    only: { type: 'string' },
    again: { type: 'boolean', default: false },
  },
});
const [count, seed, jobs] = [values.count, values.seed, values.jobs].map(Number);
if (!(count > 0) || !Number.isInteger(seed) || !(jobs > 0)) {
  console.error('usage: mutants.mjs [--count N] [--seed N] [--jobs N] [--only FILE] [--again]');
  process.exit(2);
}

const work = mkdtempSync(join(tmpdir(), 'bpf-unpack-mutants-'));
try {
  process.exitCode = await main();
} finally {
  rmSync(work, { recursive: true });
}

async function main() {
  const homes = build();
  const unchanged = await check(homes[0], []);
  if (unchanged.code !== 0) {
    console.error(`without any change: ${unchanged.said}\nrun npx vitest run test/recorded.test.ts`);
    return 1;
  }
  const mutants = sample(homes[0]);
  const results = [];
  const workers = homes.map(async (home) => {
    for (let mutant = mutants.next(); mutant && results.length < count; mutant = mutants.next()) {
      const result = await tryOut(mutant, home);
      if (result.stillborn || results.length >= count) continue;
      results.push({ ...mutant, ...result });
      if (!result.killed) console.log(`survives: ${textOf(mutant)}`);
    }
  });
  await Promise.all(workers);
  return report(results);
}

/** Compiles src/ and what is recorded of it, once for each job. */
function build() {
  const out = join(work, '0');
  const config = join(work, 'tsconfig.json');
  const compilerOptions = {
    outDir: out,
    rootDir: root,
    noEmit: false,
    typeRoots: [join(root, 'node_modules/@types')],
  };
  writeFileSync(
    config,
    JSON.stringify({
      extends: join(root, 'tsconfig.json'),
      compilerOptions,
      include: [],
      files: [join(root, 'test/recorded-check.ts')],
    }),
  );
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  execFileSync(process.execPath, [tsc, '-p', config], { cwd: root, stdio: 'inherit' });
  writeFileSync(join(out, 'package.json'), '{ "type": "module" }');
  cpSync(join(root, 'test/vectors'), join(out, 'test/vectors'), { recursive: true });
  return Array.from({ length: jobs }, (_, i) => {
    const home = join(work, String(i));
    if (i > 0) cpSync(out, home, { recursive: true });
    return home;
  });
}

/** Mutants in random order, of each file its share at any time. */
function sample(home) {
  const folder = join(home, 'src/verifier');
  const names = readdirSync(folder).map((file) => basename(file, '.js'));
  const chosen = names.filter((name) => (values.only ? name === values.only : !REPORTS.includes(name)));
  const all = chosen.flatMap((name) => {
    // A generator for each file, so that a change of one leaves the sample of the others as it was.
    const random = seeded(seed, name);
    const source = readFileSync(join(folder, `${name}.js`), 'utf8');
    const mutants = shuffled(mutationsOf(source), random).map((mutation) => ({ name, source, ...mutation }));
    return mutants.map((mutant, i) => ({ at: (i + random(1000) / 1000) / mutants.length, mutant }));
  });
  const order = all.sort((a, b) => a.at - b.at).map(({ mutant }) => mutant);
  if (values.again) {
    const known = order.filter((mutant) => textOf(mutant) in reasons);
    console.log(`${known.length} mutants that survived`);
    return { next: () => known.shift() };
  }
  console.log(
    `${all.length} mutants of ${chosen.length} files, of which ${Math.min(count, all.length)} are tried, seed ${seed}`,
  );
  return { next: () => order.shift() };
}

/** mulberry32 */
function seeded(seed, name) {
  let state = [...name].reduce((hash, letter) => Math.imul(hash, 31) + letter.codePointAt(0), seed) | 0;
  return (end) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * end);
  };
}

function shuffled(list, random) {
  for (let i = list.length - 1; i > 0; i--) {
    const j = random(i + 1);
    [list[i], list[j]] = [list[j], list[i]];
  }
  return list;
}

async function tryOut({ name, source, start, end, text }, home) {
  const file = join(home, 'src/verifier', `${name}.js`);
  writeFileSync(file, source.slice(0, start) + text + source.slice(end));
  const { code, said } = await check(home, SOONEST[name] ?? []);
  writeFileSync(file, source);
  return { killed: code !== 0, by: said, stillborn: /SyntaxError/.test(said) };
}

/** Whether all is as it was recorded: 0; with the first difference if not. */
function check(home, groups) {
  const script = join(home, 'test/recorded-check.js');
  const node = [process.execPath, '--max-old-space-size=600', script, ...groups];
  const child = spawn('sh', ['-c', `ulimit -t ${CPU_SECONDS}; exec "$@"`, 'sh', ...node]);
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (data) => {
      said += data;
    });
  return new Promise((done) => {
    child.on('close', (code, signal) =>
      done({ code: code ?? 1, said: signal ? 'takes too long' : said.trim() }),
    );
  });
}

/** The file and the function, and the line before and after. */
function textOf({ name, source, start, end, text }) {
  const first = source.lastIndexOf('\n', start - 1) + 1;
  const after = source.indexOf('\n', end);
  const mutated = source.slice(first, start) + text + source.slice(end, after);
  const lines = [source.slice(first, after), mutated].map((line) => line.trim().replace(/\s+/g, ' '));
  return `${name}${functionAt(source, after)}: ${lines[0]} → ${lines[1]}`;
}

/** The function or method that an offset is in, after a dot; nothing outside of any. */
function functionAt(source, offset) {
  const { name, method } = [...source.slice(0, offset).matchAll(FUNCTION)].at(-1)?.groups ?? {};
  return name || method ? `.${name ?? method}` : '';
}

function report(results) {
  const survivors = results.filter(({ killed }) => !killed).map(textOf);
  const count = (list) => {
    const counts = {};
    for (const each of list) counts[each] = (counts[each] ?? 0) + 1;
    return Object.entries(counts)
      .map(([name, count]) => `${name} ${count}`)
      .join(', ');
  };
  console.log(`\nby kind: ${count(results.map(({ kind }) => kind))}`);
  console.log(`by file: ${count(results.map(({ name }) => name))}`);
  console.log(
    `killed by: ${count(results.filter(({ killed }) => killed).map(({ by }) => by.split(':')[0].slice(0, 40)))}`,
  );
  const unexplained = survivors.filter((survivor) => !reasons[survivor]);
  for (const survivor of survivors)
    console.log(`\n${survivor}\n  ${reasons[survivor] ?? 'NO REASON IS GIVEN'}`);
  console.log(
    `\n${results.length} mutants, ${survivors.length} survive, ${unexplained.length} of them without a reason`,
  );
  return unexplained.length > 0 ? 1 : 0;
}
