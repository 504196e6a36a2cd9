// ns per key of each engine and tier, in cache: `node bench/engines.mjs [--rounds N]`.
//
// A call from JavaScript costs the same however many keys it decodes, so each engine is timed with FEW and with MANY
// keys a call; the slope between the two is the cost of a key, what is left is the cost of a call. Engines take turns
// in random order within a round; the figure is the minimum over the rounds, because the machine's other work only
// ever adds time. The records are compared with the reference's before anything is timed.

import { parseArgs } from 'node:util';
import { createUnpacker, TIERS } from '../dist/index.js';
import { FORMATS, keyStream, machine, minimum, percentile, seeded, shuffle } from './work.mjs';

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '400' } } });
const ROUNDS = Number(values.rounds);
/** Of these engines one round in so many is enough. */
const SLOW = ['interpreter', 'reference'];
const SLOW_EVERY = 20;
const FEW = 128;
const MANY = 384; // 15 KiB of records
const CALLS = 20;
const random = seeded(1);

/** The tiers that this machine has. */
const best = createUnpacker(FORMATS.F1, { engine: 'bpf' });
const tiers = TIERS.slice(0, TIERS.indexOf(best.tier) + 1);
best.dispose();
const LANES = [
  { name: 'native', engine: 'native' },
  ...tiers.map((tier) => ({ name: `bpf ${tier}`, engine: 'bpf', tier })),
  ...SLOW.map((engine) => ({ name: engine, engine })),
];

/** A workload is a function of the unpacker and the number of keys. */
function workloads(format) {
  const fixed = keyStream(format, MANY, 0, random);
  const stream = keyStream(format, MANY, 3, random);
  const four = Array.from({ length: 4 }, () => keyStream(format, MANY / 4, 3, random));
  const out = new Uint8Array(MANY * 40);
  const parts = four.map((_, i) => out.subarray(i * MANY * 10, (i + 1) * MANY * 10));
  return {
    'fixed stride': (unpacker, count) => unpacker.unpackMany(fixed, count, { out }),
    'key stream': (unpacker, count) => unpacker.unpackStream(stream, { maxRecords: count, out }).out,
    'four streams': (unpacker, count) => {
      const streams = four.map((keys, i) => ({ keys, maxRecords: count / 4, out: parts[i] }));
      unpacker.unpackStreams(streams);
      return out;
    },
  };
}

/** ns of one call, the mean of `calls`. */
function timeCall(run, calls) {
  const begun = process.hrtime.bigint();
  for (let i = 0; i < calls; i++) run();
  return Number(process.hrtime.bigint() - begun) / calls;
}

function measure(format, work) {
  const lanes = LANES.map(({ name, engine, tier }) => {
    const unpacker = createUnpacker(format, { engine, tier });
    const slow = SLOW.includes(engine);
    return { name, unpacker, calls: slow ? 1 : CALLS, few: [], many: [], slow };
  });
  const want = Buffer.from(work(lanes.at(-1).unpacker, MANY));
  for (const { name, unpacker } of lanes) {
    if (Buffer.compare(work(unpacker, MANY), want) !== 0)
      throw new Error(`${name} differs from the reference`);
  }
  for (let round = 0; round < ROUNDS; round++) {
    for (const { unpacker, calls, few, many, slow } of shuffle(lanes, random)) {
      if (slow && round % SLOW_EVERY !== 0) continue;
      few.push(timeCall(() => work(unpacker, FEW), calls));
      many.push(timeCall(() => work(unpacker, MANY), calls));
    }
  }
  return lanes.map(({ name, unpacker, few, many, slow }) => {
    unpacker.dispose();
    const slope = (pick) => (pick(many) - pick(few)) / (MANY - FEW);
    const median = (times) => percentile(times, 50);
    return {
      name,
      key: slope(minimum),
      keyMedian: slope(median),
      call: slow ? undefined : minimum(few) - slope(minimum) * FEW,
    };
  });
}

console.log(`${machine()}; ${ROUNDS} rounds, ${FEW} and ${MANY} keys a call; ns, minimum (median)\n`);
console.log('format  workload       engine        ns/key            ratio to native   ns/call');
for (const [name, format] of Object.entries(FORMATS)) {
  for (const [title, work] of Object.entries(workloads(format))) {
    const results = measure(format, work);
    const native = results.find(({ name }) => name === 'native').key;
    for (const { name: lane, key, keyMedian, call } of results) {
      const figure = `${key.toFixed(2)} (${keyMedian.toFixed(2)})`;
      console.log(
        `${name.padEnd(7)} ${title.padEnd(14)} ${lane.padEnd(12)} ${figure.padStart(20)} ${(key / native).toFixed(2).padStart(14)} ${(call?.toFixed(0) ?? '-').padStart(12)}`,
      );
    }
  }
}
