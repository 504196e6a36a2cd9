import { encodeProgram } from '../index.js';
import type { Command } from './options.js';
import { FILE_HELP, FILE_USAGE, FILE_VALUES, readProgramFile } from './programs.js';

export const asmCommand: Command = {
  name: 'asm',
  summary: 'assemble a BPF program',
  usage: `usage: bpf-unpack asm ${FILE_USAGE}`,
  help: `Prints the bytes of a program in hexadecimal.

${FILE_HELP}`,
  values: FILE_VALUES,
  flags: [],
  async run(line, output) {
    await output.print(Buffer.from(encodeProgram(readProgramFile(line))).toString('hex'));
    return 0;
  },
};
