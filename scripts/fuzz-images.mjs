// Damages images for as long as it is told to: node scripts/fuzz-images.mjs [--seconds N] [--seed N]
// A failure names its run and seed; the same seed gives the same damage again.

import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: { seconds: { type: 'string', default: '60' }, seed: { type: 'string', default: '1' } },
});
const seconds = Number(values.seconds);
const seed = Number(values.seed);
if (!(seconds > 0) || !Number.isInteger(seed)) {
  console.error('usage: fuzz-images.mjs [--seconds N] [--seed N], N a number above 0 and a whole number');
  process.exit(2);
}
const { status } = spawnSync(
  process.execPath,
  [
    'node_modules/vitest/vitest.mjs',
    'run',
    'test/corruption.test.ts',
    `--testTimeout=${seconds * 1000 + 60_000}`,
  ],
  {
    cwd: new URL('..', import.meta.url),
    stdio: 'inherit',
    env: { ...process.env, FUZZ_SECONDS: String(seconds), FUZZ_SEED: String(seed) },
  },
);
process.exit(status ?? 1);
