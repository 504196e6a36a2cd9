// The benchmark is scripts of its own, in bench/: it times much that is no part of the library.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { type Command, EXIT } from './options.js';

const SCRIPT = fileURLToPath(new URL('../../bench/main.mjs', import.meta.url));

export const benchCommand: Command = {
  name: 'bench',
  summary: 'measure BPF against native code, C, other JITs and JavaScript',
  usage: 'usage: bpf-unpack bench [--full] [--seed NUMBER] [--out FOLDER]',
  help: `Every lane decodes the same records and is checked before it is timed. Prints tables and answers; what the machine has not
(a C compiler, bpf(2), AVX) is named and left out.

  --full         all workloads, over a thousand formats, with intervals: many minutes; without it, less than one
  --seed NUMBER  of the random formats and records; default: 1
  --out FOLDER   where results.json and results.html go; default: bench-results here`,
  values: ['seed', 'out'],
  flags: ['full'],
  async run(line) {
    if (line.operands.length > 0) line.fail('bench takes no operands');
    const { seed = '1', out = 'bench-results' } = line.values;
    if (!/^[1-9]\d{0,8}$/.test(seed)) line.fail(`--seed must be a whole number from 1, not '${seed}'`);
    const full = line.flags.has('full') ? ['--full'] : [];
    const child = spawn(process.execPath, [SCRIPT, ...full, '--seed', seed, '--out', out], {
      stdio: 'inherit',
    });
    const [code] = await once(child, 'exit');
    return code ?? EXIT.unreadable;
  },
};
