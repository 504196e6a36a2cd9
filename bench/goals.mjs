// What is to be reached, in one list: each goal's value in a run, and whether it is. A goal whose value is not there was not measured.

import { ofLane } from './race.mjs';
import { atPlaces, OUTLIER, summary } from './spread.mjs';
import { FORMATS, median } from './work.mjs';

/** bcachefs's own emitter, disabled upstream, on F1 to F5 in a call each on a fixed stride: another CPU (Sapphire Rapids), same records. */
export const BCACHEFS = { bytes: [87, 82, 75, 74, 119], cycles: [5.6, 5.6, 5.4, 5.8, 7.3] };

const ratio = (name, most) => ({ name, ratio: name, most, value: (run) => ofRatio(run, name)?.median });
const worstRatio = (name, most) => ({
  name: `${name}, worst`,
  most,
  value: (run) => ofRatio(run, name)?.worst,
});
const overTable = (name) => [ratio(name, 1), worstRatio(name, 1)];
const latencyGoal = (name, most, unit, value) => ({
  name,
  most,
  unit,
  value: ({ latency }) => value(latency),
});
const overJavaScript = (way, least) =>
  Object.entries({
    'keys of 2 to 5 words': (words) => words > 1,
    'keys of one word': (words) => words === 1,
  }).map(([keys, chosen]) => ({
    name: `generated JavaScript / BPF, 1000 records a call, ${way}, ${keys}`,
    least,
    value: ({ calls }) =>
      middle(
        calls.againstJavaScript
          .filter(({ format }) => chosen(FORMATS[format].keyU64s))
          .map((row) => row[way]),
      ),
  }));

/** { name, most or least, unit?, value(run) }; `ratio` names the row of the ratios over formats whose median it is. */
export const GOALS = [
  ratio('record, BPF / native', 1),
  {
    name: 'record, BPF / native, worst, an outlier at the best of all placements',
    most: OUTLIER,
    value: ({ spread }) => Math.max(...spread.map(atPlaces)),
  },
  {
    name: 'bytes of a routine, BPF / native',
    most: 1,
    value: ({ spread }) => median(spread.map(({ bytes }) => bytes.BPF / bytes.native)),
  },
  ratio('fixed stride, BPF avx2 / native per record', 0.45),
  ratio('fixed stride, BPF avx512 / native per record', 0.3),
  {
    name: 'fixed stride out of cache, BPF best / native per record',
    most: 0.4,
    value: outOfCache,
  },
  ratio('key stream, BPF best / native per record', 0.72),
  ratio('four streams, BPF / native per record', 0.35),
  ratio('columns of keys of 1 or 2 words, BPF best / native per record', 0.25),
  ratio('fixed stride, BPF best / gcc -O3 loop', 0.45),
  ratio('key stream, BPF best / gcc -O3 loop', 1),
  ...overTable('fixed stride, BPF best / table'),
  ...overTable('key stream, BPF best / table'),
  ...overTable('four streams, BPF / table'),
  ...overTable("columns, BPF best / table's whole records"),
  ...overJavaScript('fixed stride', 5),
  ...overJavaScript('key stream', 2),
  ...overJavaScript('four streams', 3),
  latencyGoal('format to callable, warm, sum of the stages', 10, 'µs', (all) =>
    p50(all, 'BPF, format to callable'),
  ),
  latencyGoal('createUnpacker, warm', 10, 'µs', (all) => p50(all, 'createUnpacker')),
  latencyGoal('format to callable / Linux BPF_PROG_LOAD', 1 / 3, '', (all) => overRival(all, 'Linux')),
  latencyGoal('format to callable / DPDK load', 1, '', (all) => overRival(all, 'DPDK')),
  latencyGoal('JIT, a BPF instruction', 10, 'ns', (all) => (p50(all, 'JIT') * 1000) / all.instructions),
  latencyGoal('createUnpacker, format seen before', 1, 'µs', (all) =>
    p50(all, 'createUnpacker, format seen before'),
  ),
  latencyGoal('first routine of a process and its first record, besides koffi', 2, 'ms', ({ first }) => {
    const { make, call } = first.engines.find(({ engine }) => engine === 'bpf');
    return (make + call) / 1000;
  }),
  {
    name: "native emitter, cycles on F1 to F5 / bcachefs's emitter on another CPU, worst",
    most: 1.05,
    value: (run) => overBcachefs(run, 'cycles'),
  },
  {
    name: "native emitter, bytes on F1 to F5 / bcachefs's emitter, worst",
    most: 1.05,
    value: (run) => overBcachefs(run, 'bytes'),
  },
];

/** @returns { name, value, unit, goal, verdict: 'reached' | 'missed' | 'not measured' } of each goal */
export function verdicts(run) {
  return GOALS.map(({ name, most, least, unit = '', value: valueIn }) => {
    const value = valueIn(run);
    const goal = most === undefined ? `>= ${least}` : `<= ${Number(most.toFixed(2))}`;
    return { name, value, unit, goal, verdict: verdictOf(value, most, least) };
  });
}

/** Of a value beside its upper or lower bound. */
export function verdictOf(value, most = Number.POSITIVE_INFINITY, least = Number.NEGATIVE_INFINITY) {
  if (!Number.isFinite(value)) return 'not measured';
  return value <= most && value >= least ? 'reached' : 'missed';
}

const middle = (values) => (values.length === 0 ? undefined : median(values));

const ofRatio = ({ spread }, wanted) => summary(spread).find(({ name }) => name === wanted);

/** Of a stage, in µs. */
const p50 = ({ warm }, stage) => warm.find((row) => row.stage === stage)?.p50;

function overRival(latency, rival) {
  const load = latency.warm.find(({ stage }) => stage.startsWith(`${rival} `))?.p50;
  return p50(latency, 'BPF, format to callable') / load;
}

function outOfCache({ ladder, machine }) {
  const works = ladder.filter(({ kind, place }) => kind === 'stride' && place === 'memory');
  const over = ({ rows }) =>
    ofLane(rows, `BPF ${machine.tier}`, 'engine')?.ns / ofLane(rows, 'native', 'a call each').ns;
  return middle(works.map(over));
}

/** Of the native emitter's routines for F1 to F5 on a fixed stride in the first-level cache: 'bytes' or 'cycles'. */
export const nativeOnFive = ({ ladder }, what) =>
  Object.keys(FORMATS).map((name) => {
    const { rows } = ladder.find(
      ({ format, kind, place }) => format === name && kind === 'stride' && place === 'L1',
    );
    return ofLane(rows, 'native', 'a call each')[what];
  });

const overBcachefs = (run, what) =>
  Math.max(...nativeOnFive(run, what).map((value, i) => value / BCACHEFS[what][i]));
