// The results as tables of text.

import { BCACHEFS, GOALS, nativeOnFive, verdictOf } from './goals.mjs';
import { atPlaces, bytesOf, OUTLIER, summary } from './spread.mjs';
import { FORMATS } from './work.mjs';

const two = (number) => number.toFixed(2);

/** Rows of cells under a heading; the first column is left-aligned. */
export function table(heading, rows) {
  const all = [heading, ...rows].map((row) => row.map((cell) => String(cell ?? '-')));
  const widths = heading.map((_, column) => Math.max(...all.map((row) => row[column].length)));
  return all.map((row) =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])))
      .join('  ')
      .trimEnd(),
  );
}

export const laneName = ({ title, kind }) => `${title}, ${kind}`;

export function report(run) {
  return [
    ...heading(run),
    ...ladderTables(run),
    ...spreadTables(run),
    ...nodeTables(run),
    ...callTables(run),
    ...payTables(run),
    ...latencyTables(run),
    ...goalTables(run),
    '',
    ...run.answers.flatMap(({ question, answer }) => [question, `  ${answer}`]),
  ].join('\n');
}

export function heading({ machine, mode, missing, notes }) {
  const { cpu, cores, linux, node, tier, clock } = machine;
  return [
    `${cpu}, ${cores} cores, ${tier}, ${clock.toFixed(2)} GHz measured; Linux ${linux}, Node ${node}; ${mode} mode`,
    ...missing.map((sentence) => `NOT MEASURED: ${sentence}`),
    ...notes,
  ];
}

const KIND = { stride: 'fixed stride', stream: 'key stream, the next key found in the header' };
const PLACE = {
  L1: 'in the first-level cache',
  L2: 'in the second-level cache',
  memory: 'out of the caches',
};

/** One table for each kind of work and place: a column for each format. */
export function ladderGroups({ ladder }) {
  return Object.keys(KIND).flatMap((kind) =>
    Object.keys(PLACE).flatMap((place) => {
      const works = ladder.filter((work) => work.kind === kind && work.place === place);
      if (works.length === 0) return [];
      const names = [...new Set(works.flatMap(({ rows }) => rows.map(laneName)))];
      const cell = (work, name) => work.rows.find((row) => laneName(row) === name);
      const lines = names.map((name) => ({
        name,
        group: works.map((work) => cell(work, name)?.group).find(Boolean),
        cells: works.map((work) => cell(work, name)),
      }));
      return [{ title: `${KIND[kind]}, ${PLACE[place]}`, formats: works.map(({ format }) => format), lines }];
    }),
  );
}

function ladderTables(run) {
  const spread = (row) => (run.mode === 'full' ? `${two(row.low)}-${two(row.high)}` : two(row.median));
  const what = run.mode === 'full' ? '95 % interval of the median' : 'median';
  return ladderGroups(run).flatMap(({ title, formats, lines }) => [
    '',
    `${title}: ns a record, minimum (${what}) and core cycles of the minimum`,
    ...table(
      ['', ...formats],
      lines.map(({ name, cells }) => [
        name,
        ...cells.map((row) => row && `${two(row.ns)} (${spread(row)}) ${row.cycles.toFixed(1)}`),
      ]),
    ),
  ]);
}

const PARTS = {
  'all formats': () => true,
  'keys of 4 or 5 words': ({ words }) => words >= 4,
  'a field over nine bytes': ({ straddles }) => straddles,
  'of real nodes': ({ origin }) => origin === 'real',
  'headers and frames, no keys': ({ origin }) => origin === 'no key',
};

function spreadTables({ spread, mode }) {
  const goalOf = (name) => GOALS.find(({ ratio }) => ratio === name)?.most;
  const rows = Object.entries(PARTS).flatMap(([part, chosen]) =>
    summary(spread, chosen).map(({ name, count, median, low, high, worst, interval }) => [
      `${part}: ${name}`,
      count,
      two(median),
      ...(mode === 'full' ? [`${two(interval.low)}-${two(interval.high)}`] : []),
      two(low),
      two(high),
      two(worst),
      goalOf(name) ?? '',
      goalOf(name) === undefined ? '' : verdictOf(median, goalOf(name)),
    ]),
  );
  const confirmed = spread.filter((row) => atPlaces(row) > OUTLIER).length;
  const titles = ['BPF', 'native', 'gcc -O3'].filter((title) => bytesOf(spread, title) !== undefined);
  return [
    '',
    'ratios over formats, in the first-level cache',
    ...table(
      [
        '',
        'formats',
        'median',
        ...(mode === 'full' ? ['95 % interval'] : []),
        '5 %',
        '95 %',
        'worst',
        'goal',
        '',
      ],
      rows,
    ),
    `BPF slower than native by more than 5 %, a call each, at every placement: ${confirmed} of ${spread.length}`,
    `left out of the table's lane, because no table describes them: ${spread.filter(({ inTable }) => !inTable).length} of ${spread.length}`,
    `bytes of a routine, median: ${titles.map((title) => `${title} ${bytesOf(spread, title)}`).join(', ')}`,
  ];
}

function goalTables(run) {
  const figure = ({ value, unit }) => (Number.isFinite(value) ? `${value.toFixed(3)} ${unit}`.trim() : '-');
  return [
    '',
    "native emitter, a call each on a fixed stride in the first-level cache, beside bcachefs's emitter on another CPU (Sapphire Rapids)",
    ...table(
      ['', ...Object.keys(FORMATS)],
      ['cycles', 'bytes'].flatMap((what) => [
        [`${what}, native`, ...nativeOnFive(run, what).map((value) => Number(value.toFixed(1)))],
        [`${what}, bcachefs's`, ...BCACHEFS[what]],
      ]),
    ),
    '',
    'goals',
    ...table(
      ['', 'value', 'goal', ''],
      run.goals.map((row) => [row.name, figure(row), `${row.goal} ${row.unit}`.trim(), row.verdict]),
    ),
  ];
}

function nodeTables({ nodes }) {
  return nodes.flatMap(({ image, nodes, bsets, keys, leftOut, formats, rows }) => [
    '',
    `real nodes of ${image}: ${nodes} nodes, ${formats} formats, ${bsets} bsets, ${keys} keys (${leftOut} bsets with unpacked keys left out)`,
    ...table(
      ['', 'ns/key', 'median'],
      rows.map((row) => [laneName(row), two(row.ns), two(row.median)]),
    ),
  ]);
}

function callTables({ calls: { one, byCount, againstJavaScript } }) {
  const titles = byCount[0].rows.map(({ title }) => title);
  return [
    '',
    'one record by one call from JavaScript (F2)',
    ...table(
      ['', 'ns', 'median'],
      one.map(({ title, ns, median }) => [title, two(ns), two(median)]),
    ),
    '',
    'µs of a call from JavaScript, by records (F2)',
    ...table(
      ['', 'records', ...titles],
      byCount.map(({ kind, count, rows }) => [KIND[kind], count, ...rows.map(({ ns }) => two(ns / 1000))]),
    ),
    '',
    'generated JavaScript / BPF, 1000 records a call, crossing included (F4 is a format of one word)',
    ...table(
      ['', 'fixed stride', 'key stream', 'four streams'],
      againstJavaScript.map((row) => [
        row.format,
        two(row['fixed stride']),
        two(row['key stream']),
        two(row['four streams']),
      ]),
    ),
  ];
}

function payTables({ pays: { reason, rows } }) {
  return [
    '',
    `after how many records a format's loop has paid for being made (auto: ${reason})`,
    ...table(
      ['', 'µs to make', 'ns saved a record', 'records'],
      rows.map(({ loop, µs, saved, records }) => [loop, two(µs), two(saved), records]),
    ),
  ];
}

function latencyTables({ latency: { formats, origin, warm, instructions, first, compilers } }) {
  const ms = (us) => two(us / 1000);
  return [
    '',
    `µs from a format to something that can be called, warm, ${formats} ${origin} formats of ${instructions.toFixed(1)} BPF instructions`,
    ...table(
      ['', 'p50', 'p99'],
      warm.map(({ stage, p50, p99 }) => [stage, two(p50), two(p99)]),
    ),
    '',
    'first in a process, median, ms',
    ...table(
      ['', "the library's modules", 'koffi and code memory', 'format to unpacker', 'first record'],
      first.engines.map(({ engine, modules, load, make, call }) => [
        engine,
        ...[modules, load, make, call].map(ms),
      ]),
    ),
    ...table(
      ['', ...Object.keys(first.stages)],
      [['bpf, step by step', ...Object.values(first.stages).map(ms)]],
    ),
    ...compilers.map(({ title, ms }) => `${title}, one format to a shared library: ${ms.toFixed(0)} ms`),
  ];
}
