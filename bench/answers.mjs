// The questions of the thread, each answered in a sentence with figures of this run.

import { verdicts } from './goals.mjs';
import { ofLane } from './race.mjs';
import { atPlaces, bytesOf, OUTLIER, summary } from './spread.mjs';

const two = (number) => (number === undefined ? '-' : number.toFixed(2));
const one = (number) => number.toFixed(1);

export function answers(run) {
  return [direct(run), better(run), call(run), bytes(run), latency(run), loses(run)];
}

function direct({ spread }) {
  const record = summary(spread).find(({ name }) => name === 'record, BPF / native');
  const outliers = spread.filter((row) => atPlaces(row) > OUTLIER).length;
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
    answer: `Step by step ${one(callable)} µs by BPF (the sum of the stages, first call included) and ${one(of('native, format to callable'))} µs natively once warm, and createUnpacker takes ${one(of('createUnpacker'))} µs${others.length === 0 ? '' : `; for the same program ${others.join(', ')}`}; that pays after ${parts.join(', ')} (F2, a key stream).${loops.length === 0 ? '' : ` Loops of the format's own pay after ${loops.map(({ loop, records }) => `${records} records (${loop})`).join(', ')}.`}`,
  };
}

/**
 * What is slower than somebody else, like beside like: { where, rival, ratio }. A call each against calls each; the loops of the engine
 * against everything else on the same records; four streams together, apart, against whoever is fastest along one. Our own table is no rival.
 */
export function losses({ ladder, nodes, calls, latency }) {
  return [
    ...ladder.flatMap(({ format, kind, place, rows }) => lostTo(`${format} ${kind} ${place}`, rows)),
    ...nodes.flatMap(({ image, rows }) => lostTo(`nodes of ${image}`, rows)),
    ...calls.againstJavaScript.flatMap(({ format, ...ways }) =>
      Object.entries(ways).flatMap(([way, ratio]) =>
        slower(`${format} ${way}, 1000 records from JavaScript`, { title: 'BPF', ns: 1 }, [
          { title: 'JS halves', ns: ratio },
        ]),
      ),
    ),
    ...latencyLosses(latency),
  ];
}

/** What rounds to 1.00 is no loss. */
const LEAST = 1.005;
const FOUR = 'BPF 4 streams';
const RIVALS = ['C', 'native', 'other JITs', 'JavaScript'];

function lostTo(where, rows) {
  const rivals = rows.filter(({ group }) => RIVALS.includes(group));
  const each = rivals.filter(({ kind }) => kind === 'a call each');
  const engines = rows.filter(
    ({ title, group, kind }) => group === 'BPF' && kind === 'engine' && title !== FOUR,
  );
  return [
    ...slower(`${where}, a call each`, ofLane(rows, 'BPF', 'a call each'), each),
    ...slower(`${where}, in bulk`, fastest(engines), rivals),
    ...slower(`${where}, four streams`, ofLane(rows, FOUR), rivals),
  ];
}

const fastest = (rows) => (rows.length === 0 ? undefined : rows.reduce((a, b) => (b.ns < a.ns ? b : a)));

function slower(where, ours, rivals) {
  const rival = fastest(rivals);
  if (!ours || !rival || ours.ns < rival.ns * LEAST) return [];
  return [{ where, rival: rival.title, ratio: ours.ns / rival.ns }];
}

const LOADS = [
  'native, format to callable',
  'Linux BPF_PROG_LOAD and close',
  'DPDK load and destroy',
  'uBPF load and destroy',
];

function latencyLosses({ warm }) {
  const ours = warm.find(({ stage }) => stage === 'BPF, format to callable');
  return warm
    .filter(({ stage, p50 }) => LOADS.includes(stage) && p50 < ours.p50)
    .map(({ stage, p50 }) => ({ where: 'format to callable', rival: stage, ratio: ours.p50 / p50 }));
}

function loses(run) {
  const { one: rows } = run.calls;
  const of = (title) => rows.find((row) => row.title === title).ns;
  const single = `a single record by a call from JavaScript (JS halves ${two(of('unpack, bpf') / of('JS halves'))})`;
  const lost = losses(run).map(({ where, rival, ratio }) => `${where} (${rival} ${two(ratio)})`);
  const missed = verdicts(run).filter(({ verdict }) => verdict === 'missed');
  return {
    question: 'Where does BPF lose?',
    answer: `With how many times as long it takes: ${[single, ...lost].join('; ')}. Goals missed: ${missed.map(({ name }) => name).join('; ') || 'none'}.`,
  };
}
