// BPF against native and against C over many formats: random legal ones, byte-aligned and tight, those of real nodes, and headers and
// frames that are no keys.

import { IN_L1, makeWork } from './ladder.mjs';
import { engines, isInTable, loops, perRecord } from './lanes/lanes.mjs';
import { ownRoutines } from './lanes/routines.mjs';
import { inC } from './machine.mjs';
import { interval, ofLane, race } from './race.mjs';
import {
  median,
  OTHER_FORMATS,
  randomFormat,
  randomFrame,
  randomHeader,
  realFormats,
  shuffle,
  straddles,
} from './work.mjs';

/** More than this over native is an outlier, which is measured again at other places in memory. */
export const OUTLIER = 1.05;
/** Where in a cache line the code starts then. */
const PHASES = [0, 16, 32];
const AGAIN = 3;
const OURS = ['BPF', 'native'];

/** What is divided by what, each a lane's title and kind; for keys of so many words, or all. */
export const RATIOS = {
  'record, BPF / native': { kind: 'stride', of: ['BPF', 'a call each'], by: ['native', 'a call each'] },
  'record, BPF / gcc -O3': { kind: 'stride', of: ['BPF', 'a call each'], by: ['gcc -O3', 'a call each'] },
  'record, native / gcc -O3': {
    kind: 'stride',
    of: ['native', 'a call each'],
    by: ['gcc -O3', 'a call each'],
  },
  'fixed stride, BPF avx2 / native per record': {
    kind: 'stride',
    of: ['BPF avx2', 'engine'],
    by: ['native', 'a call each'],
  },
  'fixed stride, BPF avx512 / native per record': {
    kind: 'stride',
    of: ['BPF avx512', 'engine'],
    by: ['native', 'a call each'],
  },
  'fixed stride, BPF best / gcc -O3 loop': {
    kind: 'stride',
    of: ['best', 'engine'],
    by: ['gcc -O3', 'loop'],
  },
  'key stream, BPF best / native per record': {
    kind: 'stream',
    of: ['best', 'engine'],
    by: ['native', 'a call each'],
  },
  'key stream, BPF best / gcc -O3 loop': { kind: 'stream', of: ['best', 'engine'], by: ['gcc -O3', 'loop'] },
  'columns of keys of 1 or 2 words, BPF best / native per record': {
    kind: 'stride',
    of: ['BPF columns best', 'engine'],
    by: ['native', 'a call each'],
    words: [1, 2],
  },
  'fixed stride, BPF best / table': { kind: 'stride', of: ['best', 'engine'], by: ['table', 'engine'] },
  'key stream, BPF best / table': { kind: 'stream', of: ['best', 'engine'], by: ['table', 'engine'] },
  'four streams, BPF / table': { kind: 'stream', of: ['BPF 4 streams', 'engine'], by: ['table', 'engine'] },
  "columns, BPF best / table's whole records": {
    kind: 'stride',
    of: ['BPF columns best', 'engine'],
    by: ['table', 'engine'],
  },
  'four streams, BPF / native per record': {
    kind: 'stream',
    of: ['BPF 4 streams', 'engine'],
    by: ['native', 'a call each'],
  },
};

/** Of each ratio: { name, count, median, low, high, worst, interval }, over all formats or those that `chosen` takes. */
export function summary(spread, chosen = () => true) {
  return Object.keys(RATIOS).flatMap((name) => {
    const values = spread.filter(chosen).flatMap(({ ratios }) => ratios[name] ?? []);
    if (values.length === 0) return [];
    const sorted = [...values].sort((a, b) => a - b);
    const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
    const figures = { median: median(values), low: at(0.05), high: at(0.95), worst: sorted.at(-1) };
    return [{ name, count: values.length, ...figures, interval: interval(values) }];
  });
}

/** Bytes of a routine, the median of the formats. */
export function bytesOf(spread, title) {
  const all = spread.flatMap(({ bytes }) => bytes[title] ?? []);
  return all.length === 0 ? undefined : median(all);
}

/** BPF to native, a call each: of an outlier the least of all places, because it counts only if all agree. */
export const atPlaces = ({ ratios, confirmed = Number.POSITIVE_INFINITY }) =>
  Math.min(ratios['record, BPF / native'], confirmed);

/** @returns a row for each format: { origin, words, straddles, inTable, bytes: { BPF, native, 'gcc -O3' }, ratios, confirmed } */
export function spread(tools, { random, rounds, formats: wanted, say }) {
  const chosen = chooseFormats(random, wanted);
  say(`${chosen.length} formats`);
  const functions = inC(
    { ...tools, compilers: tools.compilers.slice(0, 1) },
    chosen.map(({ format }) => format),
    ['-O3'],
  );
  return chosen.map(({ origin, format }, i) => {
    if (i % 100 === 99) say(`${i + 1} formats`);
    return measure(tools, { origin, format, functions: functions[i], random, rounds });
  });
}

function chooseFormats(random, count) {
  const real = shuffle(realFormats(), random).slice(0, Math.ceil(count / 5));
  const made = Array.from({ length: count }, (_, i) => {
    const aligned = i % 2 === 0;
    return { origin: aligned ? 'byte-aligned' : 'tight', format: randomFormat(random, aligned) };
  });
  const others = Array.from({ length: Math.ceil(count / 8) }, (_, i) =>
    i % 2 === 0 ? randomHeader(random) : randomFrame(random),
  );
  return [
    ...made,
    ...real.map((format) => ({ origin: 'real', format })),
    ...[...Object.values(OTHER_FORMATS), ...others].map((format) => ({ origin: 'no key', format })),
  ];
}

export function measure(tools, { origin, format, functions, random, rounds }) {
  const rows = {};
  for (const kind of format.keyU64s === undefined ? ['stride'] : ['stride', 'stream']) {
    const work = makeWork(format, kind, IN_L1, random);
    const routines = ownRoutines(tools, format, functions).filter(
      ({ title }) => title !== 'BPF, plain' && title !== 'empty call',
    );
    const inLoops = loops({ ...tools, general: {} }, work, functions);
    const lanes = [...perRecord(tools, work, routines), ...inLoops, ...engines(tools, work)];
    rows[kind] = race(tools, lanes, { rounds, random });
  }
  const ratios = Object.fromEntries(
    Object.entries(RATIOS)
      .filter(([, { words }]) => words === undefined || words.includes(format.keyU64s))
      .map(([name, { kind, of, by }]) => [name, ratio(rows[kind] ?? [], of, by, tools)]),
  );
  const bytes = Object.fromEntries(
    rows.stride.filter(({ bytes }) => bytes !== undefined).map(({ title, bytes }) => [title, bytes]),
  );
  const outlier = ratios['record, BPF / native'] > OUTLIER;
  const confirmed = outlier ? Math.min(...measureAgain(tools, format, random, rounds)) : undefined;
  const { keyU64s } = format;
  return {
    origin,
    words: keyU64s,
    straddles: straddles(format),
    inTable: isInTable(format),
    bytes,
    ratios,
    confirmed,
  };
}

function ratio(rows, [of, ofKind], [by, byKind], tools) {
  const title = (of === 'best' ? 'BPF best' : of).replace(/best$/, tools.tiers.at(-1));
  const a = ofLane(rows, title, ofKind);
  const b = ofLane(rows, by, byKind);
  return a && b ? a.ns / b.ns : undefined;
}

/** BPF to native at other places in memory. */
function measureAgain(tools, format, random, rounds) {
  return PHASES.map((phase) => {
    tools.player.phase = phase;
    const work = makeWork(format, 'stride', IN_L1, random);
    const routines = ownRoutines(tools, format, []).filter(({ title }) => OURS.includes(title));
    const rows = race(tools, perRecord(tools, work, routines), { rounds: rounds * AGAIN, random });
    tools.player.phase = 0;
    return ratio(rows, ['BPF'], ['native'], tools);
  });
}
