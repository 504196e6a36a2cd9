import { type Dialect, disassemble } from '../index.js';
import type { Command, CommandLine } from './options.js';
import { FILE_HELP, FILE_USAGE, FILE_VALUES, readProgramFile } from './programs.js';

export const disasmCommand: Command = {
  name: 'disasm',
  summary: 'print a BPF program as text',
  usage: `usage: bpf-unpack disasm ${FILE_USAGE} [--dialect kernel|classic]`,
  help: `Prints the instructions of a program, which asm reads back.

${FILE_HELP}
  --dialect NAME   kernel (the default): as in the Linux verifier's log; classic: as for uBPF's assembler`,
  values: [...FILE_VALUES, 'dialect'],
  flags: [],
  async run(line, output) {
    const dialect = dialectOption(line);
    await output.print(disassemble(readProgramFile(line), { dialect }).trimEnd());
    return 0;
  },
};

function dialectOption({ values, fail }: CommandLine): Dialect {
  const { dialect = 'kernel' } = values;
  if (dialect === 'kernel' || dialect === 'classic') return dialect;
  return fail(`--dialect must be kernel or classic, not '${dialect}'`);
}
