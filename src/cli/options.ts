// The command line: words to options, by each command's own list.

import { parseArgs } from 'node:util';
import { ENGINES, type EngineName } from '../index.js';
import type { Output } from './output.js';

export const EXIT = { ok: 0, unreadable: 1, usage: 2 } as const;

export class UsageError extends Error {
  /** @param command whose help is to be pointed at, with a space behind it; or nothing */
  constructor(
    message: string,
    readonly command: string,
  ) {
    super(message);
  }
}

export interface CommandLine {
  /** Options that take a value. */
  readonly values: Readonly<Record<string, string | undefined>>;
  /** Options that take a value each time they are given. */
  readonly lists: Readonly<Record<string, readonly string[] | undefined>>;
  readonly flags: ReadonlySet<string>;
  readonly operands: readonly string[];
  /** Ends the command with a word on its usage. */
  readonly fail: (message: string) => never;
}

export interface Command {
  readonly name: string;
  readonly summary: string;
  readonly usage: string;
  readonly help: string;
  /** Names of options that take a value, of those that may be given again with another, and of those that take none. */
  readonly values: readonly string[];
  readonly lists?: readonly string[];
  readonly flags: readonly string[];
  run(line: CommandLine, output: Output): Promise<number>;
}

export function parseCommandLine(command: Command, words: readonly string[]): CommandLine | 'help' {
  const fail = (message: string): never => {
    throw new UsageError(message, `${command.name} `);
  };
  const options = Object.fromEntries([
    ...command.values.map((name) => [name, { type: 'string' as const }]),
    ...(command.lists ?? []).map((name) => [name, { type: 'string' as const, multiple: true }]),
    ...[...command.flags, 'help'].map((name) => [name, { type: 'boolean' as const }]),
    ['help', { type: 'boolean' as const, short: 'h' }],
  ]);
  let parsed: { values: Record<string, string | string[] | boolean | undefined>; positionals: string[] };
  try {
    parsed = parseArgs({ args: [...words], options, allowPositionals: true }) as typeof parsed;
  } catch (error) {
    return fail((error as Error).message);
  }
  if (parsed.values.help) return 'help';
  const entries = Object.entries(parsed.values);
  return {
    values: Object.fromEntries(entries.filter(([, value]) => typeof value === 'string')) as Record<
      string,
      string
    >,
    lists: Object.fromEntries(entries.filter(([, value]) => Array.isArray(value))) as Record<
      string,
      string[]
    >,
    flags: new Set(entries.filter(([, value]) => value === true).map(([name]) => name)),
    operands: parsed.positionals,
    fail,
  };
}

export function engineOption({ values, fail }: CommandLine): 'auto' | EngineName {
  const engine = values.engine ?? 'auto';
  if (engine === 'auto') return engine;
  return (
    ENGINES.find((name) => name === engine) ??
    fail(`--engine must be ${ENGINES.join(', ')} or auto, not '${engine}'`)
  );
}

/** A whole number of bytes, with K, M, G or T for powers of 1024. */
export function bytesOption({ values, fail }: CommandLine, name: string): number | undefined {
  const text = values[name];
  if (text === undefined) return undefined;
  const match = /^(\d+)([KMGT]?)$/i.exec(text);
  const bytes = match
    ? Number(match[1]) * 1024 ** ' KMGT'.indexOf(match[2]!.toUpperCase() || ' ')
    : Number.NaN;
  return Number.isSafeInteger(bytes)
    ? bytes
    : fail(`--${name} must be a number of bytes like 500M or 2G, not '${text}'`);
}
