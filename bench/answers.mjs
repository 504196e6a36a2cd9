// The questions of the thread, each answered in a sentence with figures of this run.

import { interval, ofLane } from './race.mjs';
import { RATIOS } from './spread.mjs';
import { median } from './work.mjs';

const two = (number) => (number === undefined ? '-' : number.toFixed(2));
const one = (number) => number.toFixed(1);

/** What is to be reached, as upper bounds of a ratio's median over the formats. */
const GOALS = {
  'record, BPF / native': 1,
  'fixed stride, BPF avx2 / native per record': 0.45,
  'fixed stride, BPF avx512 / native per record': 0.3,
  'fixed stride, BPF best / gcc -O3 loop': 0.45,
  'key stream, BPF best / native per record': 0.72,
  'key stream, BPF best / gcc -O3 loop': 1,
  'columns of keys of 1 or 2 words, BPF best / native per record': 0.25,
  'fixed stride, BPF best / table': 1,
  'key stream, BPF best / table': 1,
  'four streams, BPF / native per record': 0.35,
};

/** Of each ratio: { name, count, median, low, high, worst, goal }, over all formats or those that `chosen` takes. */
export function summary(spread, chosen = () => true) {
  return Object.keys(RATIOS).flatMap((name) => {
    const values = spread.filter(chosen).flatMap(({ ratios }) => ratios[name] ?? []);
    if (values.length === 0) return [];
    const sorted = [...values].sort((a, b) => a - b);
    const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
    const figures = {
      median: median(values),
      low: at(0.05),
      high: at(0.95),
      worst: sorted.at(-1),
      interval: interval(values),
    };
    return [{ name, count: values.length, ...figures, goal: GOALS[name] }];
  });
}

export const bytesOf = (spread, title) => {
  const all = spread.flatMap(({ bytes }) => bytes[title] ?? []);
  return all.length === 0 ? undefined : median(all);
};

export function answers(run) {
  return [direct(run), better(run), call(run), bytes(run), latency(run), loses(run)];
}

function direct({ spread }) {
  const record = summary(spread).find(({ name }) => name === 'record, BPF / native');
  const outliers = spread.filter(({ confirmed }) => confirmed > 1.05).length;
  const verdict = record.median <= 1 ? 'Yes' : record.median <= 1.05 ? 'Nearly' : 'No';
  return {
    question: 'Is BPF as fast as direct emission?',
    answer: `${verdict}: called once a record in the same loop it takes ${two(record.median)} times as long as the native emitter's routine, the median of ${record.count} formats (5 % below ${two(record.low)}, 5 % above ${two(record.high)}); ${outliers} of them are slower by more than 5 % at every place in memory that was tried.`,
  };
}

function better({ spread }) {
  const rows = summary(spread);
  const of = (name) => rows.find((row) => row.name === name)?.median;
  const bpf = of('record, BPF / gcc -O3');
  if (bpf === undefined)
    return {
      question: 'Is either better than good C?',
      answer: 'Not measured: there is no C compiler here.',
    };
  return {
    question: 'Is either better than good C?',
    answer: `A call a record, BPF takes ${two(bpf)} and native ${two(of('record, native / gcc -O3'))} times as long as gcc -O3 with the format as constants; in bulk BPF takes ${two(of('fixed stride, BPF best / gcc -O3 loop'))} of the time of gcc's own loop on a fixed stride and ${two(of('key stream, BPF best / gcc -O3 loop'))} along one key stream (medians).`,
  };
}

/** From how many records a call BPF is faster than generated JavaScript; undefined if never. */
export function breakEven(byCount, kind) {
  const points = byCount.filter((point) => point.kind === kind);
  const ahead = ({ rows }) => ofLane(rows, 'JS halves').ns - ofLane(rows, 'BPF').ns;
  const after = points.findIndex((point) => ahead(point) > 0);
  if (after <= 0) return points[after]?.count;
  const [a, b] = [points[after - 1], points[after]];
  return Math.ceil(a.count + ((b.count - a.count) * -ahead(a)) / (ahead(b) - ahead(a)));
}

function call({ calls: { one: rows, byCount }, ladder }) {
  const of = (title) => rows.find((row) => row.title === title).ns;
  const empty = ladder
    .filter(({ place, kind }) => place === 'L1' && kind === 'stride')
    .map(({ rows }) => ofLane(rows, 'empty call').ns);
  return {
    question: 'What does a call cost?',
    answer: `From machine code ${one(Math.min(...empty))} ns; from JavaScript ${one(of('unpack, bpf'))} ns for unpack, where generated JavaScript, which does not cross over, takes ${one(of('JS halves'))} ns; a call of many is faster than JavaScript from ${breakEven(byCount, 'stride') ?? 'more than 1000'} records on (fixed stride) or ${breakEven(byCount, 'stream') ?? 'more than 1000'} (key stream).`,
  };
}

function bytes({ spread, ladder }) {
  const sizes = (title) =>
    ladder
      .filter(({ kind, place, format }) => kind === 'stride' && place === 'L1' && /^F\d$/.test(format))
      .map(({ rows }) => ofLane(rows, title)?.bytes)
      .join('/');
  const gcc = bytesOf(spread, 'gcc -O3');
  return {
    question: 'How many bytes does a routine take?',
    answer: `${bytesOf(spread, 'BPF')} by BPF and ${bytesOf(spread, 'native')} natively, medians of ${spread.length} formats${gcc === undefined ? '' : `, and ${gcc} by gcc -O3`}; F1 to F5 take ${sizes('BPF')} and ${sizes('native')} (bcachefs's own emitter: 87/82/75/74/119).`,
  };
}

function latency({ latency: { warm }, ladder, pays: { rows: loops } }) {
  const of = (stage) => warm.find((row) => row.stage === stage)?.p50;
  const callable = of('BPF, format to callable');
  const { rows } = ladder.find(
    ({ format, kind, place }) => format === 'F2' && kind === 'stream' && place === 'L1',
  );
  const ns = (title, kind) => ofLane(rows, title, kind)?.ns;
  const pays = (rival) =>
    rival === undefined ? undefined : Math.ceil((callable * 1000) / (rival - ns('BPF', 'a call each')));
  const parts = [
    `${pays(ns('interpreter'))} keys against the interpreter`,
    `${pays(ns('JS halves', 'loop'))} against generated JavaScript`,
  ];
  const general = [pays(ns('C bit stream')), pays(ns('C table'))].filter((keys) => keys > 0);
  if (general.length > 0) parts.push(`${Math.min(...general)} against C that reads the format at run time`);
  const others = ['Linux BPF_PROG_LOAD and close', 'DPDK load and destroy', 'uBPF load and destroy'].flatMap(
    (stage) => {
      const time = of(stage);
      return time === undefined ? [] : [`${stage.split(' ')[0]} ${one(time)} µs`];
    },
  );
  return {
    question: 'How long from a format to something that can be called, and when does it pay?',
    answer: `${one(callable)} µs by BPF and ${one(of('native, format to callable'))} µs natively once warm${others.length === 0 ? '' : `; for the same program ${others.join(', ')}`}; that pays after ${parts.join(', ')} (F2, a key stream).${loops.length === 0 ? '' : ` Loops of the format's own pay after ${loops.map(({ loop, records }) => `${records} records (${loop})`).join(', ')}.`}`,
  };
}

/** Every workload in which the best BPF lane is not the fastest but C, native or a script is. */
function loses({ ladder, calls: { one: rows } }) {
  const lost = ladder.flatMap(({ format, kind, place, rows }) => {
    const taking = rows.filter(({ group }) => !['floor', 'interpreter', 'columns'].includes(group));
    const best = (list) => list.reduce((least, row) => (row.ns < least.ns ? row : least));
    const ours = best(taking.filter(({ group }) => group === 'BPF'));
    const rival = best(taking.filter(({ group }) => group !== 'BPF'));
    if (rival.ns >= ours.ns) return [];
    return [`${format} ${kind} ${place} (${rival.title} ${two(rival.ns)}, BPF ${two(ours.ns)} ns)`];
  });
  const of = (title) => rows.find((row) => row.title === title).ns;
  const call = `a single record by a call from JavaScript (${one(of('unpack, bpf') / of('JS halves'))} times as long as generated JavaScript)`;
  return {
    question: 'Where does BPF lose?',
    answer: `With ${[call, ...lost].join('; ')}.`,
  };
}
