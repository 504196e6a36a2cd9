// Lanes take turns in random order. The figure is the minimum over the rounds, because the machine's other work only ever adds
// time; the median is told beside it.

import { median, minimum, shuffle } from './work.mjs';

const WARM_MS = 4;
const WARM_SCRIPT_MS = 50;
/** Slow lanes take part in every so many rounds only. */
const SLOW = 10;

/**
 * Checks the lanes, then times them.
 * @returns a row for each: { title, group, kind, bytes?, ns, median, low, high, cycles }, per record; low to high is the 95 % interval
 *   of the median
 */
export function race(tools, lanes, { rounds, random, warm = true }) {
  for (const lane of lanes) lane.check();
  if (warm) for (const lane of lanes) warmUp(lane);
  const times = new Map(lanes.map((lane) => [lane, { ns: [], cycles: [] }]));
  for (let round = 0; round < rounds; round++) {
    const cycle = tools.player.nsOfCycle();
    for (const lane of shuffle(lanes, random)) {
      if (lane.slow && round % SLOW !== 0) continue;
      const ns = lane.sample() / lane.keys;
      const all = times.get(lane);
      all.ns.push(ns);
      all.cycles.push(ns / cycle);
    }
  }
  return lanes.map((lane) => {
    const { title, group, kind, bytes } = lane;
    const { ns, cycles } = times.get(lane);
    return {
      title,
      group,
      kind,
      bytes,
      ns: minimum(ns),
      median: median(ns),
      ...interval(ns),
      cycles: minimum(cycles),
    };
  });
}

function warmUp({ sample, warm }) {
  const until = performance.now() + (warm ? WARM_SCRIPT_MS : WARM_MS);
  do sample();
  while (performance.now() < until);
}

/** The 95 % interval of the median, from the order of the values. */
export function interval(values) {
  const sorted = Float64Array.from(values).sort();
  const reach = 0.98 * Math.sqrt(sorted.length);
  const at = (index) => sorted[Math.max(0, Math.min(sorted.length - 1, Math.round(index)))];
  return { low: at(sorted.length / 2 - reach - 0.5), high: at(sorted.length / 2 + reach - 0.5) };
}

export const ofLane = (rows, title, kind) =>
  rows.find((row) => row.title === title && (kind === undefined || row.kind === kind));
