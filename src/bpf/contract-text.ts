// A contract in words, for a person.

import { MAX_U64 } from '../bytes.js';
import type { Access, ArgSpec, Contract } from './contract.js';
import { MAX_ARGS } from './contract.js';

const RIGHTS: Readonly<Record<Access, string>> = {
  read: 'may be read',
  write: 'may be written',
  readwrite: 'may be read and written',
};

/** A line for each argument, and one for each promise that goes beyond them. */
export function contractText(contract: Contract): string[] {
  const { args, writesAll = [], disjoint, allowPointerLeaks } = contract;
  const given = args.map((arg, i) => `r${i + 1}: ${argText(arg, writesAll.includes(i))}`);
  const memories = args.filter((arg) => arg?.kind === 'memory').length;
  return [
    ...given,
    ...(args.length < MAX_ARGS ? [`${restText(args.length)} not given`] : []),
    ...(memories > 1
      ? [disjoint ? 'no two pieces of memory overlap' : 'the pieces of memory may overlap']
      : []),
    ...(allowPointerLeaks ? ['r0 and memory may be given addresses'] : []),
  ];
}

function restText(given: number): string {
  return given === MAX_ARGS - 1 ? `r${MAX_ARGS}:` : `r${given + 1} to r${MAX_ARGS}:`;
}

function argText(arg: ArgSpec | undefined, writesAll: boolean): string {
  if (!arg) return 'not given';
  if (arg.kind === 'memory') {
    const bytes = `${arg.bytes} ${arg.bytes === 1 ? 'byte' : 'bytes'} that ${RIGHTS[arg.access]}`;
    return writesAll ? `${bytes}, each of which must be written` : bytes;
  }
  const { min = 0n, max = MAX_U64 } = arg;
  if (min === max) return `the number ${min}`;
  if (max === MAX_U64) return min === 0n ? 'any number' : `a number from ${min} up`;
  return `a number from ${min} to ${max}`;
}
