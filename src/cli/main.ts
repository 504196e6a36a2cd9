// The command: finds the subcommand, and turns errors into one line on stderr and an exit code.

import { readFileSync } from 'node:fs';
import { BpfUnpackError } from '../errors.js';
import { asmCommand } from './asm.js';
import { benchCommand } from './bench.js';
import { compileCommand } from './compile.js';
import { conformanceCommand } from './conformance.js';
import { demoCommand } from './demo.js';
import { disasmCommand } from './disasm.js';
import { keysCommand } from './keys.js';
import { memoryCommand } from './memory.js';
import { nodesCommand } from './nodes.js';
import { type Command, EXIT, parseCommandLine, UsageError } from './options.js';
import { Output } from './output.js';
import { runCommand } from './run.js';
import { verifyCommand } from './verify.js';

const COMMANDS: readonly Command[] = [
  nodesCommand,
  keysCommand,
  compileCommand,
  asmCommand,
  disasmCommand,
  runCommand,
  verifyCommand,
  conformanceCommand,
  memoryCommand,
  benchCommand,
  demoCommand,
];

/** @returns the exit code: 0 all went well, 1 something could not be read or run, 2 the command line is wrong */
export async function main(words: readonly string[]): Promise<number> {
  const output = new Output(process.stdout);
  try {
    const code = await dispatch(words, output);
    await output.flush();
    return code;
  } catch (error) {
    await output.flush();
    if (error instanceof UsageError) {
      process.stderr.write(`bpf-unpack: ${error.message}\nTry 'bpf-unpack ${error.command}--help'.\n`);
      return EXIT.usage;
    }
    if (!(error instanceof BpfUnpackError)) throw error;
    const [first, ...shown] = error.message.split('\n');
    process.stderr.write(`${[`bpf-unpack: ${first} [${error.code}]`, ...shown].join('\n')}\n`);
    return EXIT.unreadable;
  }
}

async function dispatch(words: readonly string[], output: Output): Promise<number> {
  const [name, ...rest] = words;
  if (name === 'help' && rest[0] !== undefined) return dispatch([rest[0], '--help'], output);
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    await output.print(help());
    return name === undefined ? EXIT.usage : EXIT.ok;
  }
  if (name === '--version') {
    await output.print(version());
    return EXIT.ok;
  }
  const command = COMMANDS.find((candidate) => candidate.name === name);
  if (!command) throw new UsageError(`there is no command '${name}'`, '');
  const line = parseCommandLine(command, rest);
  if (line === 'help') {
    await output.print(`${command.usage}\n\n${command.help}`);
    return EXIT.ok;
  }
  return command.run(line, output);
}

function version(): string {
  return JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version;
}

function help(): string {
  const width = Math.max(...COMMANDS.map(({ name }) => name.length));
  return `bpf-unpack ${version()}: bit-packed record formats, compiled to verified BPF and on to machine code

usage: bpf-unpack COMMAND [OPTIONS]

${COMMANDS.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`).join('\n')}

'bpf-unpack COMMAND --help' tells more.
exit codes: 0 all went well; 1 something could not be read or run; 2 wrong usage`;
}
