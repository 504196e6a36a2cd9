import type { Command } from './options.js';
import {
  FILE_HELP,
  FILE_USAGE,
  FILE_VALUES,
  limitOption,
  MACHINES,
  machineOption,
  memoryFrom,
  naming,
  readHelpers,
  readProgramFile,
} from './programs.js';

export const runCommand: Command = {
  name: 'run',
  summary: 'run a BPF program',
  usage: `usage: bpf-unpack run ${FILE_USAGE} [--mem HEX] [--engine interpreter|jit] [--helpers MODULE] [--max-instructions N]`,
  help: `Runs a program with r1 = the address of the memory and r2 = its length (both 0 without), and prints r0 and the memory
afterwards.

${FILE_HELP}
  --mem HEX        the memory, in hexadecimal
  --engine NAME    interpreter (the default) checks each access; jit takes what is proven safe on memory of that length,
                   and says why it is not
  --helpers MODULE an ES module whose default export has the helper functions by number: { 1: { args, returns?, call } }
  --max-instructions N
                   when the interpreter gives up (default: ten million)`,
  values: [...FILE_VALUES, 'mem', 'engine', 'helpers', 'max-instructions'],
  flags: [],
  async run(line, output) {
    const engine = machineOption(line);
    const limit = limitOption(line);
    if (engine === 'jit' && limit !== undefined)
      line.fail('--max-instructions is for the interpreter; what the JIT takes is proven to end');
    const memory = memoryFrom(line.values.mem ?? '', line);
    const program = readProgramFile(line);
    const helpers = await readHelpers(line.values.helpers);
    const limits = limit === undefined ? {} : { maxInstructions: limit };
    const r0 = naming(line.operands[0]!, () => MACHINES[engine](program, memory, { helpers, ...limits }));
    await output.print(`r0 = 0x${r0.toString(16)}`);
    if (memory.length > 0) await output.print(`memory = ${Buffer.from(memory).toString('hex')}`);
    return 0;
  },
};
