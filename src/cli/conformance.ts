// A plugin of bpf_conformance: its runner gives the memory as the first argument and one string of options as the
// second, each of which may be empty, and the program on standard input; it reads r0 from standard output.

import { hexBytes } from '../bytes.js';
import { ProgramError } from '../errors.js';
import { decodeProgram } from '../index.js';
import type { Command } from './options.js';
import { MACHINES, machineOption, memoryFrom, readInput } from './programs.js';

export const conformanceCommand: Command = {
  name: 'conformance',
  summary: 'run a BPF program as a plugin of bpf_conformance',
  usage: 'usage: bpf-unpack conformance [MEMORY] [--engine=interpreter|jit] < PROGRAM',
  help: `Reads a program in hexadecimal from standard input, runs it with r1 = the address of MEMORY (hexadecimal, may be empty)
and r2 = its length, and prints r0 in hexadecimal. If that cannot be done, it says why on standard error and exits with 1.

  --engine=NAME  interpreter (the default), or jit for what is proven safe on memory of that length`,
  values: ['engine'],
  flags: [],
  async run(line, output) {
    const [text = '', ...others] = line.operands.filter((word, i) => i === 0 || word !== '');
    if (others.length > 0) line.fail(`one MEMORY at a time, not '${others[0]}' as well`);
    const memory = memoryFrom(text, line);
    const engine = machineOption(line);
    const program = hexBytes(Buffer.from(readInput('-')).toString());
    if (!program)
      throw new ProgramError('P-HEX', 'standard input must be a program as whole hexadecimal bytes');
    await output.print(MACHINES[engine](decodeProgram(program), memory).toString(16));
    return 0;
  },
};
