// Random formats, lowered, verified, compiled and run by every engine. FUZZ_SEED and FUZZ_SECONDS make this a longer
// run, see scripts/fuzz.mjs.

import { expect, it } from 'vitest';
import { createUnpacker, type Format, referenceUnpack } from '../src/index.js';
import { ENGINES_HERE, unpacks } from './engines.js';
import { randomBkeyFormat, randomBytes, randomFormat, seeded } from './random-formats.js';
import { hex } from './vectors.js';

const FORMATS = 10_000;
const RECORDS = 3;
const SEED = Number(process.env.FUZZ_SEED ?? 4);
const SECONDS = Number(process.env.FUZZ_SECONDS ?? 0);

function describeFormat(format: Format): string {
  return JSON.stringify(format, (_, value) => (typeof value === 'bigint' ? String(value) : value));
}

it('interpreter, BPF JIT, native code and tables give what the reference gives', () => {
  const random = seeded(SEED);
  const end = Date.now() + SECONDS * 1000;
  let formats = 0;
  let inTables = 0;
  for (; formats < FORMATS || Date.now() < end; formats++) {
    const format = formats % 2 === 0 ? randomBkeyFormat(random) : randomFormat(random);
    const records = Array.from({ length: RECORDS }, () => randomBytes(random, format.packedBytes));
    const want = records.map((record) => hex(referenceUnpack(format, record)));
    for (const engine of ENGINES_HERE) {
      if (engine === 'reference' || !unpacks(engine, format)) continue;
      if (engine === 'table') inTables++;
      const unpacker = createUnpacker(format, { engine });
      const got = records.map((record) => hex(unpacker.unpack(record)));
      if (got.join() !== want.join())
        expect.fail(`${engine} gives ${got} instead of ${want} for ${describeFormat(format)}`);
      unpacker.dispose();
    }
  }
  console.log(
    `${formats} formats, ${RECORDS} records each, by all engines and the reference, ${inTables} of them in tables`,
  );
  expect(formats).toBeGreaterThanOrEqual(FORMATS);
  expect(inTables > formats / 2).toBe(ENGINES_HERE.includes('table'));
});
