// After how many records the loops of a format have made up for the time it takes to make them.

import { createUnpacker } from '../dist/index.js';
import { ofLane } from './race.mjs';
import { FORMATS, keyStream, median, nextKey, randomFormat, realFormats, shuffle } from './work.mjs';

const KEYS = 128; // enough for whole lines
const TOGETHER = 4;

/** What is made at its first use; how; and what it takes the place of, as lanes of the ladder. */
const LOOPS = {
  'fixed stride, avx2': { tier: 'avx2', run: strideOf, kind: 'stride', of: 'BPF avx2', instead: 'native' },
  'fixed stride, whole lines': {
    tier: 'avx512',
    run: strideOf,
    kind: 'stride',
    of: 'BPF avx512',
    instead: 'BPF avx2',
    over: 'fixed stride, avx2',
  },
  'key stream': { tier: 'avx2', run: streamOf, kind: 'stream', of: 'BPF avx2', instead: 'native' },
  'four streams': { tier: 'avx2', run: streamsOf, kind: 'stream', of: 'BPF 4 streams', instead: 'native' },
};

/** @returns { reason, rows: { loop, µs, saved, records } }: the time to make it, ns saved a record, and after how many that pays */
export function pays(tools, ladder, { random, formats: count }) {
  const some = shuffle(realFormats(), random).slice(0, count);
  while (some.length < count) some.push(randomFormat(random, false));
  const works = some.map((format) => ({ format, keys: keyStream(format, KEYS, 0, random) }));
  const made = {};
  const rows = Object.entries(LOOPS).flatMap(([loop, { tier, run, kind, of, instead, over }]) => {
    if (!tools.tiers.includes(tier)) return [];
    made[loop] = median(works.map((work) => making(work, tier, run)));
    const µs = made[loop] - (over ? made[over] : 0);
    const saved = median(
      ladder
        .filter((work) => work.kind === kind && work.place === 'L1' && FORMATS[work.format])
        .map(({ rows }) => ofLane(rows, instead, 'engine').ns - ofLane(rows, of, 'engine').ns),
    );
    return [{ loop, µs, saved, records: Math.ceil((µs * 1000) / saved) }];
  });
  return { reason: createUnpacker(FORMATS.F2).reason, rows };
}

/** µs that the first call takes longer than the second. */
function making(work, tier, makeRun) {
  const unpacker = createUnpacker(work.format, { tier });
  const run = makeRun(unpacker, work);
  const time = () => {
    const begun = process.hrtime.bigint();
    run();
    return Number(process.hrtime.bigint() - begun) / 1000;
  };
  const first = time();
  const longer = first - time();
  unpacker.dispose();
  return longer;
}

function strideOf(unpacker, { format, keys }) {
  const out = new Uint8Array(KEYS * format.unpackedBytes);
  return () => unpacker.unpackMany(keys, KEYS, { out });
}

function streamOf(unpacker, { keys }) {
  return () => unpacker.unpackStream(keys);
}

function streamsOf(unpacker, { keys }) {
  const each = (KEYS / TOGETHER) * nextKey(keys, 0);
  const streams = Array.from({ length: TOGETHER }, (_, i) => ({
    keys,
    start: i * each,
    end: (i + 1) * each,
  }));
  return () => unpacker.unpackStreams(streams);
}
