// Looks for faults for as long as it is told to: node scripts/fuzz.mjs WHAT [--seconds N] [--seed N]
// A failure names what it failed on; the same seed gives the same inputs again.

import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';

/** What can be fuzzed, and the test that does it for a short while. */
const TESTS = {
  images: 'test/corruption.test.ts',
  verifier: 'test/verifier-fuzz.test.ts',
  loops: 'test/verifier-loops.test.ts',
  invariants: 'test/invariants.test.ts',
  bytes: 'test/verifier-bytes.test.ts',
  formats: 'test/format-fuzz.test.ts',
  kernel: 'test/agreement-formats.test.ts',
  verdicts: 'test/agreement-mutants.test.ts',
  diff: 'test/differential.test.ts',
  memory: 'test/shared-stress.test.ts',
};

const { values, positionals } = parseArgs({
  options: { seconds: { type: 'string', default: '60' }, seed: { type: 'string', default: '1' } },
  allowPositionals: true,
});
const test = TESTS[positionals[0]];
const seconds = Number(values.seconds);
const seed = Number(values.seed);
if (!test || !(seconds > 0) || !Number.isInteger(seed)) {
  console.error(`usage: fuzz.mjs ${Object.keys(TESTS).join('|')} [--seconds N] [--seed N]`);
  process.exit(2);
}
const { status } = spawnSync(
  process.execPath,
  ['node_modules/vitest/vitest.mjs', 'run', test, `--testTimeout=${seconds * 1000 + 60_000}`],
  {
    cwd: new URL('..', import.meta.url),
    stdio: 'inherit',
    env: { ...process.env, FUZZ_SECONDS: String(seconds), FUZZ_SEED: String(seed) },
  },
);
process.exit(status ?? 1);
