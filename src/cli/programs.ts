// What the commands on BPF programs have in common: reading one, and running it on a piece of memory.

import { readFileSync } from 'node:fs';
import { hexBytes, isElf } from '../bytes.js';
import { BpfUnpackError } from '../errors.js';
import {
  CodeArena,
  type Contract,
  compileX64,
  interpret,
  type Program,
  readElf,
  readProgram,
  verify,
} from '../index.js';
import type { CommandLine } from './options.js';

export const FILE_VALUES = ['function'];
export const FILE_USAGE = 'FILE [--function NAME]';
export const FILE_HELP = `FILE holds assembly text (of the Linux verifier's log or of uBPF's assembler), hexadecimal text, raw bytes, or an ELF
object of clang or gcc; '-' is standard input.

  --function NAME  the function of an ELF object to begin with (default: its only global one)`;

/** The program in the one file that the command line names. */
export function readProgramFile({ values, operands, fail }: CommandLine): Program {
  const [path, ...others] = operands;
  if (path === undefined) fail('which FILE?');
  if (others.length > 0) fail(`one FILE at a time, not '${others[0]}' as well`);
  const bytes = readInput(path!);
  if (values.function !== undefined && !isElf(bytes)) fail('--function is for ELF objects');
  try {
    return isElf(bytes) ? readElf(bytes).program(values.function) : readProgram(bytes);
  } catch (error) {
    if (!(error instanceof BpfUnpackError)) throw error;
    const file = path === '-' ? 'standard input' : path!;
    throw new BpfUnpackError(
      error.code,
      `${file}: ${error.message}`,
      { ...error.where, file },
      { cause: error },
    );
  }
}

/** @param path '-' for standard input */
export function readInput(path: string): Uint8Array {
  try {
    return readFileSync(path === '-' ? 0 : path);
  } catch (cause) {
    throw new BpfUnpackError('E-INPUT', `${path}: ${(cause as Error).message}`, { file: path }, { cause });
  }
}

/** Memory from hexadecimal text. */
export function memoryFrom(text: string, { fail }: CommandLine): Uint8Array {
  return (
    hexBytes(text) ?? fail(`memory must be given as whole hexadecimal bytes, not '${text.slice(0, 60)}'`)
  );
}

type Run = (program: Program, memory: Uint8Array, maxInstructions?: number) => bigint;

/** How to run a program with r1 = the address of `memory`, which it may change, and r2 = its length; gives r0. */
export const MACHINES: Readonly<Record<'interpreter' | 'jit', Run>> = {
  interpreter: (program, memory, maxInstructions) =>
    interpret(program, {
      args: [memory, BigInt(memory.length)],
      ...(maxInstructions !== undefined && { maxInstructions }),
    }).r0,
  jit(program, memory) {
    const verified = verify(program, memoryContract(memory.length));
    const arena = new CodeArena();
    try {
      return arena.place(compileX64(verified)).call([memory, BigInt(memory.length)]);
    } finally {
      arena.dispose();
    }
  },
};

function memoryContract(bytes: number): Contract {
  const length = BigInt(bytes);
  return {
    args: [
      { kind: 'memory', bytes, access: 'readwrite' },
      { kind: 'scalar', min: length, max: length },
    ],
  };
}

/** The machine of --engine: `interpreter`, or the JIT by its own name or the one that other commands have for it. */
export function machineOption({ values, fail }: CommandLine): keyof typeof MACHINES {
  const engine = values.engine ?? 'interpreter';
  if (engine === 'interpreter') return engine;
  return engine === 'jit' || engine === 'bpf'
    ? 'jit'
    : fail(`--engine must be interpreter or jit, not '${engine}'`);
}

/** How many instructions, of --max-instructions. */
export function limitOption({ values, fail }: CommandLine): number | undefined {
  const text = values['max-instructions'];
  if (text === undefined) return undefined;
  const limit = /^\d+$/.test(text) ? Number(text) : 0;
  return Number.isSafeInteger(limit) && limit > 0
    ? limit
    : fail(`--max-instructions must be a number from 1 on, not '${text}'`);
}
