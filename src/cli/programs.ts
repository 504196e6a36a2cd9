// What the commands on BPF programs have in common: reading one, and running it on a piece of memory.

import { closeSync, openSync, readSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { hexBytes, isElf } from '../bytes.js';
import { BpfUnpackError } from '../errors.js';
import {
  CodeArena,
  type Contract,
  compileX64,
  type Helpers,
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
  return naming(path!, () => (isElf(bytes) ? readElf(bytes).program(values.function) : readProgram(bytes)));
}

/** Has errors name the file that they are about. */
export function naming<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof BpfUnpackError)) throw error;
    const file = path === '-' ? 'standard input' : path;
    throw new BpfUnpackError(
      error.code,
      `${file}: ${error.message}`,
      { ...error.where, file },
      { cause: error },
    );
  }
}

/** No program is larger; devices have no end. */
const MAX_INPUT_BYTES = 64 * 1024 * 1024;

/** @param path '-' for standard input */
export function readInput(path: string): Uint8Array {
  try {
    const fd = path === '-' ? 0 : openSync(path, 'r');
    try {
      return readAll(fd);
    } finally {
      if (fd !== 0) closeSync(fd);
    }
  } catch (cause) {
    throw new BpfUnpackError('E-INPUT', `${path}: ${(cause as Error).message}`, { file: path }, { cause });
  }
}

function readAll(fd: number): Uint8Array {
  const pieces: Uint8Array[] = [];
  const piece = new Uint8Array(64 * 1024);
  for (let total = 0, read = 0; (read = readSync(fd, piece)) > 0; ) {
    total += read;
    if (total > MAX_INPUT_BYTES) throw new Error(`more than ${MAX_INPUT_BYTES} bytes are no program`);
    pieces.push(piece.slice(0, read));
  }
  return Buffer.concat(pieces);
}

/** Memory from hexadecimal text. */
export function memoryFrom(text: string, { fail }: CommandLine): Uint8Array {
  return (
    hexBytes(text) ?? fail(`memory must be given as whole hexadecimal bytes, not '${text.slice(0, 60)}'`)
  );
}

/** The default export of an ES module: helper functions by their numbers. */
export async function readHelpers(path: string | undefined): Promise<Helpers> {
  if (path === undefined) return {};
  try {
    const { default: helpers } = await import(pathToFileURL(resolve(path)).href);
    if (typeof helpers === 'object' && helpers !== null) return guarded(helpers);
  } catch (cause) {
    throw new BpfUnpackError('E-INPUT', `${path}: ${(cause as Error).message}`, { file: path }, { cause });
  }
  const message = `${path}: its default export must be an object of helper functions by their numbers, { 1: { args, returns?, call } }`;
  throw new BpfUnpackError('E-INPUT', message, { file: path });
}

/** The helper functions, with what they throw as an error of ours. */
function guarded(helpers: Helpers): Helpers {
  const entries = Object.entries(helpers).map(([id, helper]) => {
    const call = (...args: (Uint8Array | bigint)[]): bigint => {
      try {
        return helper.call(...args);
      } catch (cause) {
        throw new BpfUnpackError(
          'E-HELPER',
          `helper function ${id} threw: ${(cause as Error)?.message ?? cause}`,
          {},
          { cause },
        );
      }
    };
    if (typeof helper?.call !== 'function') return [id, helper];
    const { args, returns } = helper;
    return [id, { args, ...(returns && { returns }), call }];
  });
  return Object.fromEntries(entries);
}

export interface RunOptions {
  readonly helpers?: Helpers;
  /** For the interpreter. */
  readonly maxInstructions?: number;
}

type Run = (program: Program, memory: Uint8Array, options?: RunOptions) => bigint;

/** How to run a program with r1 = the address of `memory`, which it may change, and r2 = its length; gives r0. */
export const MACHINES: Readonly<Record<'interpreter' | 'jit', Run>> = {
  interpreter: (program, memory, options = {}) =>
    interpret(program, { args: [memory, BigInt(memory.length)], ...options }).r0,
  jit(program, memory, { helpers = {} } = {}) {
    const verified = verify(program, { ...memoryContract(memory.length), helpers });
    const arena = new CodeArena();
    try {
      return arena.place(compileX64(verified), { helpers }).call([memory, BigInt(memory.length)]);
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
