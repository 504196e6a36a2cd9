// Prints where our verifier and Linux's agree: node scripts/agreement.mjs [--live] [--max-instructions N]
// Exits with 1 if anything unsafe is accepted. With --live the kernel of this machine decides again, in the mode that its
// capabilities make: all of them, or CAP_BPF only:
//   setpriv --bounding-set=-all,+bpf --inh-caps=-all,+bpf node scripts/agreement.mjs --live

import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    live: { type: 'boolean', default: false },
    'max-instructions': { type: 'string', default: '1000000' },
  },
});
const limit = values['max-instructions'];
if (!(Number(limit) > 0)) {
  console.error('--max-instructions must be a number from 1 on');
  process.exit(2);
}
const { status } = spawnSync(
  process.execPath,
  [
    'node_modules/vitest/vitest.mjs',
    'run',
    'test/agreement.test.ts',
    '--reporter=dot',
    '--disable-console-intercept',
    '--testTimeout=3600000',
  ],
  {
    cwd: new URL('..', import.meta.url),
    stdio: 'inherit',
    env: {
      ...process.env,
      ...(values.live && { AGREEMENT_LIVE: '1' }),
      AGREEMENT_MAX_INSTRUCTIONS: limit,
    },
  },
);
process.exit(status ?? 1);
