// ns per key of each engine, in cache: `node bench/engines.mjs [--rounds N]`.
//
// A call from JavaScript costs the same however many keys it decodes, so each engine is timed with FEW and with MANY
// keys a call; the slope between the two is the cost of a key, what is left is the cost of a call. Engines take turns
// in random order within a round; the figure is the minimum over the rounds, because the machine's other work only
// ever adds time. The records are compared with the reference's before anything is timed.

import { parseArgs } from 'node:util';
import { createUnpacker } from '../dist/index.js';
import { FORMATS, keyStream, machine, minimum, percentile, seeded, shuffle } from './work.mjs';

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '150' } } });
const ROUNDS = Number(values.rounds);
const ENGINES = ['bpf', 'native', 'interpreter', 'reference'];
const FEW = 16;
const MANY = 384; // 15 KiB of records
const random = seeded(1);

/** A workload is a function of the unpacker and the number of keys. */
function workloads(format) {
  const fixed = keyStream(format, MANY, 0, random);
  const stream = keyStream(format, MANY, 3, random);
  const out = new Uint8Array(MANY * 40);
  return {
    'fixed stride': (unpacker, count) => unpacker.unpackMany(fixed, count, { out }),
    'key stream': (unpacker, count) => unpacker.unpackStream(stream, { maxRecords: count, out }).out,
  };
}

/** ns of one call, the mean of as many as take about `ms`. */
function timeCall(run, calls) {
  const begun = process.hrtime.bigint();
  for (let i = 0; i < calls; i++) run();
  return Number(process.hrtime.bigint() - begun) / calls;
}

function measure(format, work) {
  const lanes = ENGINES.map((engine) => {
    const unpacker = createUnpacker(format, { engine });
    const slow = engine === 'interpreter' || engine === 'reference';
    return { engine, unpacker, calls: slow ? 1 : 200, few: [], many: [], slow };
  });
  const want = Buffer.from(work(lanes.at(-1).unpacker, MANY));
  for (const { engine, unpacker } of lanes) {
    if (Buffer.compare(work(unpacker, MANY), want) !== 0)
      throw new Error(`${engine} differs from the reference`);
  }
  for (let round = 0; round < ROUNDS; round++) {
    for (const { unpacker, calls, few, many } of shuffle(lanes, random)) {
      few.push(timeCall(() => work(unpacker, FEW), calls));
      many.push(timeCall(() => work(unpacker, MANY), calls));
    }
  }
  return lanes.map(({ engine, unpacker, few, many, slow }) => {
    unpacker.dispose();
    const slope = (pick) => (pick(many) - pick(few)) / (MANY - FEW);
    const median = (times) => percentile(times, 50);
    return {
      engine,
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
    const native = results.find(({ engine }) => engine === 'native').key;
    for (const { engine, key, keyMedian, call } of results) {
      const figure = `${key.toFixed(2)} (${keyMedian.toFixed(2)})`;
      console.log(
        `${name.padEnd(7)} ${title.padEnd(14)} ${engine.padEnd(12)} ${figure.padStart(20)} ${(key / native).toFixed(2).padStart(14)} ${(call?.toFixed(0) ?? '-').padStart(12)}`,
      );
    }
  }
}
