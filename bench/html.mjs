// The results as one page of HTML: charts in SVG, the tables and the answers. Nothing is loaded from anywhere.

import { answers as answersOf } from './answers.mjs';
import { heading, ladderGroups, report } from './report.mjs';
import { bytesOf, RATIOS } from './spread.mjs';
import { median } from './work.mjs';

const COLOURS = {
  BPF: '#1f6feb',
  columns: '#58a6ff',
  native: '#b35900',
  table: '#c2185b',
  C: '#2e7d32',
  'other JITs': '#6a3d9a',
  JavaScript: '#b08800',
  interpreter: '#888888',
  floor: '#bbbbbb',
};
const WIDTH = 860;
const LABEL = 260;
const BAR = 15;

const escaped = (text) => String(text).replace(/[&<>"]/g, (char) => `&#${char.charCodeAt(0)};`);
const text = (x, y, content, anchor = 'start') =>
  `<text x="${x}" y="${y}" text-anchor="${anchor}">${escaped(content)}</text>`;
const svg = (height, content) => `<svg viewBox="0 0 ${WIDTH} ${height}" role="img">${content}</svg>`;

/** Bars: { label, value, group }, shortest first, cut off where they would dwarf the others. */
function bars(items, unit) {
  const sorted = [...items].sort((a, b) => a.value - b.value);
  const most = Math.min(sorted.at(-1).value, 6 * sorted[sorted.length >> 1].value);
  const scale = (WIDTH - LABEL - 90) / most;
  const rows = sorted.map(({ label, value, group }, i) => {
    const y = i * (BAR + 4);
    const width = Math.max(1, Math.min(value, most) * scale);
    const cut = value > most ? ' …' : '';
    return `${text(LABEL - 6, y + 12, label, 'end')}<rect x="${LABEL}" y="${y}" width="${width.toFixed(1)}" height="${BAR}" fill="${COLOURS[group] ?? '#555555'}"/>${text(LABEL + width + 4, y + 12, `${value.toFixed(2)} ${unit}${cut}`)}`;
  });
  return svg(sorted.length * (BAR + 4), rows.join(''));
}

/** How many formats have a ratio, in steps: a histogram with 1 and the median marked. */
function histogram(values) {
  const [height, bins] = [120, 48];
  const sorted = [...values].sort((a, b) => a - b);
  const low = Math.min(0.9, sorted[0]);
  const high = Math.max(1.1, sorted.at(-1));
  const at = (value) => 40 + ((value - low) / (high - low)) * (WIDTH - 80);
  const counts = new Array(bins).fill(0);
  for (const value of values) counts[Math.min(bins - 1, Math.floor(((value - low) / (high - low)) * bins))]++;
  const most = Math.max(...counts);
  const width = (WIDTH - 80) / bins;
  const columns = counts.map((count, i) => {
    const tall = (count / most) * height;
    return `<rect x="${(40 + i * width).toFixed(1)}" y="${(height - tall).toFixed(1)}" width="${(width - 1).toFixed(1)}" height="${tall.toFixed(1)}" fill="${COLOURS.BPF}"/>`;
  });
  const middle = median(values);
  const line = (value, colour) =>
    `<line x1="${at(value)}" x2="${at(value)}" y1="0" y2="${height}" stroke="${colour}" stroke-width="2"/>`;
  const labels = [low, 1, middle, high].map((value) =>
    text(
      at(value),
      height + (value === middle ? 30 : 14),
      value === middle ? `median ${value.toFixed(2)}` : value.toFixed(2),
      'middle',
    ),
  );
  return svg(height + 36, columns.join('') + line(1, '#000000') + line(middle, '#d1242f') + labels.join(''));
}

const legend = () =>
  `<p>${Object.entries(COLOURS)
    .map(([group, colour]) => `<span style="color:${colour}">■</span> ${escaped(group)}`)
    .join(' &nbsp; ')}</p>`;

function ladderCharts(run) {
  return ladderGroups(run).flatMap(({ title, formats, lines }) =>
    formats.map((format, i) => {
      const items = lines.flatMap(({ name, group, cells }) =>
        cells[i] && group !== 'interpreter' ? [{ label: name, value: cells[i].ns, group }] : [],
      );
      return `<details${i === 0 ? ' open' : ''}><summary>${escaped(format)}, ${escaped(title)}</summary>${bars(items, 'ns')}</details>`;
    }),
  );
}

function spreadCharts({ spread }) {
  return Object.keys(RATIOS).flatMap((name) => {
    const values = spread.flatMap(({ ratios }) => ratios[name] ?? []);
    return values.length === 0 ? [] : [`<h3>${escaped(name)}</h3>${histogram(values)}`];
  });
}

const groupOfStage = (stage) =>
  ['native', 'table', 'Linux', 'DPDK', 'uBPF', 'JS', 'WebAssembly'].find((start) =>
    stage.startsWith(start),
  ) ?? 'BPF';
const STAGE_COLOUR = {
  native: 'native',
  table: 'table',
  Linux: 'other JITs',
  DPDK: 'other JITs',
  uBPF: 'other JITs',
  JS: 'JavaScript',
  WebAssembly: 'JavaScript',
  BPF: 'BPF',
};

/** The page; `run` is what the JSON file has. */
export function html(run) {
  const answers = run.answers ?? answersOf(run);
  const latencies = run.latency.warm.map(({ stage, p50 }) => ({
    label: stage,
    value: p50,
    group: STAGE_COLOUR[groupOfStage(stage)],
  }));
  const sizes = ['BPF', 'native', 'gcc -O3'].flatMap((title) => {
    const value = bytesOf(run.spread, title);
    return value === undefined ? [] : [{ label: title, value, group: title.startsWith('gcc') ? 'C' : title }];
  });
  const five = run.ladder.filter(({ kind, place }) => kind === 'stride' && place === 'L1');
  const sizeCharts = five.map(({ format, rows }) => {
    const items = rows
      .filter(({ bytes }) => bytes !== undefined)
      .map(({ title, group, bytes }) => ({ label: title, value: bytes, group }));
    return `<details><summary>${escaped(format)}</summary>${bars(items, 'B')}</details>`;
  });
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>bpf-unpack: native against BPF</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 900px; margin: 2em auto; padding: 0 1em; color: #1f2328; }
svg { width: 100%; font: 11px system-ui, sans-serif; } pre { overflow-x: auto; font-size: 12px; }
summary { cursor: pointer; font-weight: 600; margin: .6em 0; } dt { font-weight: 600; margin-top: .6em; } dd { margin: 0 0 0 1em; }
</style></head><body>
<h1>Native against BPF</h1>
${heading(run)
  .map((line) => `<p>${escaped(line)}</p>`)
  .join('\n')}
<dl>${answers.map(({ question, answer }) => `<dt>${escaped(question)}</dt><dd>${escaped(answer)}</dd>`).join('\n')}</dl>
<h2>Who is how fast</h2><p>ns a record, the minimum over all rounds. Every lane decoded the same records and gave the same bytes.</p>${legend()}
${ladderCharts(run).join('\n')}
<h2>Over many formats</h2><p>How many of ${run.spread.length} formats have which ratio of times: below 1, the first is faster.</p>
${spreadCharts(run).join('\n')}
<h2>Latency</h2><p>µs, the median of ${run.latency.formats} formats, warm.</p>
${bars(latencies, 'µs')}
<h2>Code size</h2><p>Bytes of a routine for one record, the median of ${run.spread.length} formats; then of each format above.</p>
${bars(sizes, 'B')}
${sizeCharts.join('\n')}
<h2>All figures</h2><pre>${escaped(report(run))}</pre>
</body></html>
`;
}
