// The benchmark itself: every lane that this machine has gives the reference's bytes, and figures come out.

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';

// bench/ is JavaScript without types, and runs on dist/.
const load = (file: string) => import(new URL(`../bench/${file}.mjs`, import.meta.url).href);
const FILES = [
  'machine',
  'ladder',
  'lanes/lanes',
  'lanes/routines',
  'race',
  'work',
  'spread',
  'nodes',
  'pays',
  'main',
  'goals',
  'answers',
];
const [
  { equip, inC },
  { makeWork },
  { lanesOf },
  { routinesOf },
  { race },
  work,
  { measure, spread },
  { realNodes },
  { pays },
  { measure: benchmark },
  { verdicts, verdictOf },
  { losses },
] = await Promise.all(FILES.map(load));
const tools = equip();
afterAll(() => tools.player.dispose());

interface Lane {
  readonly title: string;
  readonly group: string;
  readonly bytes?: number;
  readonly check: () => void;
  readonly sample: () => number;
}

interface Verdict {
  readonly name: string;
  readonly verdict: string;
}

interface Loss {
  readonly where: string;
  readonly rival: string;
}

const FORMATS = { ...work.FORMATS, ...work.OTHER_FORMATS };
const functions = inC({ compilers: tools.compilers.slice(0, 1) }, Object.values(FORMATS), ['-O3']);
const KEYS = 40;

function lanes(name: string, kind: 'stride' | 'stream'): { lanes: Lane[]; out: Uint8Array } {
  const index = Object.keys(FORMATS).indexOf(name);
  const made = makeWork(FORMATS[name], kind, KEYS, work.seeded(index + 1));
  const routines = routinesOf(tools, FORMATS[name], functions[index]);
  return { lanes: lanesOf(tools, made, routines, functions[index]), out: made.out };
}

describe('every lane that is here unpacks as the reference does:', () => {
  const kindsOf = (name: string) => (FORMATS[name].keyU64s === undefined ? ['stride'] : ['stride', 'stream']);
  const cases = Object.keys(FORMATS).flatMap((name) => kindsOf(name).map((kind) => [name, kind] as const));
  it.each(cases)('%s, %s', (name, kind) => {
    const found = lanes(name, kind as 'stride' | 'stream').lanes;
    const groups = new Set(found.map(({ group }) => group));
    expect([...groups]).toEqual(
      expect.arrayContaining(['floor', 'BPF', 'native', 'JavaScript', 'interpreter']),
    );
    expect(groups.has('C')).toBe(tools.compilers.length > 0);
    for (const { check } of found) check();
  });

  it('and what is not lifted is other code', () => {
    const { lanes: found } = lanes('F1', 'stride');
    const bytesOf = (name: string) => found.find(({ title }) => title === name)!.bytes;
    expect(bytesOf('BPF, plain')).not.toBe(bytesOf('BPF'));
  });

  it('and a lane that does not is found out before it is timed', () => {
    const { lanes: found, out } = lanes('F1', 'stride');
    const lane = found.find(({ title }) => title === 'JS halves')!;
    const wrong = { ...lane, check: () => expect(Buffer.compare(out, work.bytesAt(0, out.length))).toBe(0) };
    lane.check();
    expect(() => race(tools, [wrong], { rounds: 1, random: work.seeded(1) })).toThrow();
  });
});

it('a race gives each lane a minimum, a median and cycles', () => {
  const { lanes: found } = lanes('F2', 'stride');
  const rows = race(tools, found, { rounds: 2, random: work.seeded(1), warm: false });
  expect(rows).toHaveLength(found.length);
  for (const { ns, median, cycles, low, high } of rows) {
    expect(ns).toBeGreaterThan(0);
    expect(median).toBeGreaterThanOrEqual(ns);
    expect(cycles).toBeGreaterThan(0);
    expect(high).toBeGreaterThanOrEqual(low);
  }
});

it('random formats are legal, tight and byte-aligned ones, of one to five words, some with a field over nine bytes', () => {
  const random = work.seeded(3);
  const formats = Array.from({ length: 300 }, (_, i) => work.randomFormat(random, i % 2 === 0));
  const words = new Set(formats.map(({ keyU64s }) => keyU64s));
  expect([...words].sort()).toEqual([1, 2, 3, 4, 5]);
  expect(formats.some(work.straddles)).toBe(true);
});

it('the ratios over formats are of lanes that there are', () => {
  const rows = spread(tools, { random: work.seeded(2), rounds: 1, formats: 2, say: () => {} });
  expect(rows.length).toBeGreaterThanOrEqual(2);
  const origins = new Set(rows.map(({ origin }: { origin: string }) => origin));
  expect([...origins]).toEqual(expect.arrayContaining(['tight', 'byte-aligned', 'no key']));
  for (const { origin, ratios, bytes } of rows) {
    expect(ratios['record, BPF / native']).toBeGreaterThan(0);
    const isWalked = origin !== 'no key' && tools.tiers.length > 0;
    expect(ratios['key stream, BPF best / native per record'] !== undefined).toBe(isWalked);
    expect(bytes.BPF).toBeGreaterThan(0);
    expect(bytes.native).toBeGreaterThan(0);
  }
});

it('a frame of more than 64 bytes takes part in every lane but the table', () => {
  const random = work.seeded(6);
  const frames = Array.from({ length: 50 }, () => work.randomFrame(random));
  const format = frames.find(({ unpackedBytes }: { unpackedBytes: number }) => unpackedBytes > 64);
  const row = measure(tools, { origin: 'no key', format, functions: [], random, rounds: 1 });
  expect(row.inTable).toBe(false);
  expect(row.ratios['record, BPF / native']).toBeGreaterThan(0);
  expect(row.ratios['fixed stride, BPF best / table']).toBeUndefined();
});

it('a section that fails is named, and those before it are kept', async () => {
  const sections = {
    ladder: () => [1],
    spread: () => {
      throw new Error('a frame is too long');
    },
    latency: () => [2],
  };
  const run = await benchmark('quick', { seed: 1, say: () => {}, sections });
  expect(run).toMatchObject({ mode: 'quick', ladder: [1], failed: { section: 'spread' } });
  expect(run.failed.error).toMatch(/a frame is too long/);
  expect(run.latency).toBeUndefined();
});

it('a goal is reached up to its bound, and a value that is not there was not measured', () => {
  expect(verdictOf(1.05, 1.05)).toBe('reached');
  expect(verdictOf(1.06, 1.05)).toBe('missed');
  expect(verdictOf(3, undefined, 3)).toBe('reached');
  expect(verdictOf(2.9, undefined, 3)).toBe('missed');
  expect(verdictOf(undefined, 1)).toBe('not measured');
  expect(verdictOf(Number.NaN, 1)).toBe('not measured');
});

describe('of a run in figures', () => {
  const lane = (title: string, group: string, kind: string, ns: number) => ({
    title,
    group,
    kind,
    ns,
    cycles: 3 * ns,
    bytes: 80,
  });
  const rows = [
    lane('BPF', 'BPF', 'a call each', 2),
    lane('native', 'native', 'a call each', 2.5),
    lane('gcc -O3', 'C', 'loop', 1.5),
    lane('BPF avx2', 'BPF', 'engine', 1.6),
    lane('BPF 4 streams', 'BPF', 'engine', 1),
    lane('table', 'table', 'engine', 0.5),
  ];
  const stage = (name: string, p50: number) => ({ stage: name, p50 });
  const ladder = Object.keys(work.FORMATS).flatMap((format) =>
    ['L1', 'memory'].map((place) => ({ format, kind: 'stride', place, rows })),
  );
  const run = {
    machine: { tier: 'avx2' },
    ladder,
    nodes: [],
    calls: {
      againstJavaScript: [
        { format: 'F1', 'fixed stride': 6, 'key stream': 1.9, 'four streams': 0.5 },
        { format: 'F4', 'fixed stride': 6, 'key stream': 2.1, 'four streams': 3 },
      ],
    },
    spread: [
      {
        ratios: { 'record, BPF / native': 0.9, 'key stream, BPF best / table': 0.8 },
        bytes: { BPF: 80, native: 81 },
      },
      { ratios: { 'record, BPF / native': 1.2 }, confirmed: 1.04, bytes: { BPF: 80, native: 80 } },
      { ratios: { 'key stream, BPF best / table': 1.1 }, bytes: { BPF: 80, native: 80 } },
    ].map((row) => ({ ...row, ratios: { 'record, BPF / native': 1, ...row.ratios } })),
    latency: {
      instructions: 20,
      warm: [
        stage('JIT', 0.2),
        stage('BPF, format to callable', 12),
        stage('native, format to callable', 5),
        stage('Linux BPF_PROG_LOAD and close', 40),
      ],
      first: { engines: [{ engine: 'bpf', make: 1500, call: 300 }] },
    },
  };

  it('each goal has its verdict', () => {
    const found = new Map(verdicts(run).map(({ name, verdict }: Verdict) => [name, verdict]));
    expect(found.size).toBe(verdicts(run).length);
    expect(Object.fromEntries(found)).toMatchObject({
      'record, BPF / native': 'reached',
      'record, BPF / native, worst, an outlier at the best of all placements': 'reached',
      'fixed stride out of cache, BPF best / native per record': 'missed',
      'key stream, BPF best / table': 'reached',
      'key stream, BPF best / table, worst': 'missed',
      'four streams, BPF / table': 'not measured',
      'generated JavaScript / BPF, 1000 records a call, key stream, keys of 2 to 5 words': 'missed',
      'generated JavaScript / BPF, 1000 records a call, key stream, keys of one word': 'reached',
      'format to callable, warm, sum of the stages': 'missed',
      'format to callable / Linux BPF_PROG_LOAD': 'reached',
      'format to callable / DPDK load': 'not measured',
      'JIT, a BPF instruction': 'reached',
      'first routine of a process and its first record, besides koffi': 'reached',
    });
  });

  it('a loss is told where like is beside like: calls beside calls, loops beside all but our table, four streams apart', () => {
    const lost = losses(run).filter(({ where }: Loss) => !/^F[2345]|memory/.test(where));
    expect(lost.map(({ where, rival }: Loss) => `${where}: ${rival}`)).toEqual([
      'F1 stride L1, in bulk: gcc -O3',
      'F1 four streams, 1000 records from JavaScript: JS halves',
      'format to callable: native, format to callable',
    ]);
  });
});

it('a loop pays after as many records as it takes time to make', () => {
  const row = (title: string, ns: number) => ({ title, kind: 'engine', ns });
  const ladder = ['stride', 'stream'].map((kind) => ({
    format: 'F1',
    kind,
    place: 'L1',
    rows: [row('native', 4), row('BPF avx2', 2), row('BPF avx512', 1), row('BPF 4 streams', 1)],
  }));
  const { reason, rows } = pays(tools, ladder, { random: work.seeded(5), formats: 2 });
  expect(reason).toMatch(/^machine code runs here; /);
  expect(rows.length).toBe(tools.tiers.length === 0 ? 0 : tools.tiers.length + 2);
  for (const { µs, saved, records } of rows) expect(records).toBe(Math.ceil((µs * 1000) / saved));
});

it('all lanes give the keys of the sample image, as bcachefs wrote them', async () => {
  const quiet = { random: work.seeded(4), rounds: 1, images: 1, say: () => {} };
  const [image] = await realNodes({ ...tools, compilers: [] }, quiet);
  expect(image).toMatchObject({ image: 'mini', nodes: 92 });
  expect(image.keys).toBeGreaterThan(2000);
  expect(image.rows.length).toBeGreaterThan(2);
});

it('bpf-unpack bench refuses what it does not know', () => {
  const cli = fileURLToPath(new URL('../dist/cli.js', import.meta.url));
  for (const words of [['here'], ['--seed', '0'], ['--rounds', '3']]) {
    const { status, stderr } = spawnSync(process.execPath, [cli, 'bench', ...words]);
    expect(status).toBe(2);
    expect(stderr.toString()).toMatch(/^bpf-unpack: .*\nTry 'bpf-unpack bench --help'/);
  }
});
