// Random programs in all engines: what one says, all say. FUZZ_SEED and FUZZ_SECONDS make this a longer run, see
// scripts/fuzz.mjs.

import { afterAll, expect, it } from 'vitest';
import { compareProgram, type Difference, Tally } from './fuzz/differential.js';
import { oraclesHere } from './fuzz/oracles.js';
import { report } from './fuzz/report.js';
import { writeVector } from './program-vectors.js';
import { hex } from './vectors.js';

const SEED = Number(process.env.FUZZ_SEED ?? 1);
const SECONDS = Number(process.env.FUZZ_SECONDS ?? 0);
const PROGRAMS = 500;
const MAX_FOUND = 10;

const oracles = oraclesHere();
afterAll(() => {
  for (const oracle of oracles) oracle.dispose();
});

it('every engine gives the same r0 and memory for random programs of all instructions', () => {
  const tally = new Tally();
  const found: string[] = [];
  const end = Date.now() + SECONDS * 1000;
  for (let i = 0; (i < PROGRAMS || Date.now() < end) && found.length < MAX_FOUND; i++) {
    const difference = compareProgram((SEED * 1_000_003 + i) | 0, oracles, tally);
    if (difference) found.push(keep(difference));
  }
  console.log(report(tally, oracles));
  expect(found).toEqual([]);
  expect(tally.missing()).toEqual([]);
});

/** Writes the program to where the vectors are. */
function keep({ oracle, seed, program, memory, expected, actual }: Difference): string {
  const title = `the ${oracle} differed from the interpreter on the program of seed ${seed}`;
  const path = writeVector(`found-${seed >>> 0}.txt`, { title, program, memory, expected });
  return `${title}, see ${path}: it gives r0 = 0x${actual.r0.toString(16)}, memory ${hex(actual.memory)}`;
}
