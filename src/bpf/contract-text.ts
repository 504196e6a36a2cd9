// A contract in words, for a person.

import { MAX_U64 } from '../bytes.js';
import { type Access, type ArgSpec, type Contract, type HelperSpec, MAX_ARGS } from './contract.js';

const RIGHTS: Readonly<Record<Access, string>> = {
  read: 'may be read',
  write: 'may be written',
  readwrite: 'may be read and written',
};

/** A line for each argument, and one for each promise that goes beyond them. */
export function contractText(contract: Contract): string[] {
  const { args, writesAll = [], helpers = {}, disjoint, allowPointerLeaks, kernelCompatible } = contract;
  const given = args.map((arg, i) => `r${i + 1}: ${argText(arg, writesAll.includes(i))}`);
  const memories = args.filter((arg) => arg?.kind === 'memory' || arg?.kind === 'buffer').length;
  return [
    ...given,
    ...(args.length < MAX_ARGS ? [`${restText(args.length)} not given`] : []),
    ...(memories > 1
      ? [disjoint ? 'no two pieces of memory overlap' : 'the pieces of memory may overlap']
      : []),
    ...(allowPointerLeaks ? ['r0 and memory may be given addresses'] : []),
    ...(kernelCompatible ? ['what Linux refuses by its own rules is refused'] : []),
    ...Object.entries(helpers).map(([id, spec]) => helperText(id, spec)),
    ...(contract.maxInstructions === undefined
      ? []
      : [`at most ${contract.maxInstructions} instructions are walked`]),
  ];
}

function restText(given: number): string {
  return given === MAX_ARGS - 1 ? `r${MAX_ARGS}:` : `r${given + 1} to r${MAX_ARGS}:`;
}

function argText(arg: ArgSpec | undefined, writesAll: boolean): string {
  if (!arg) return 'not given';
  switch (arg.kind) {
    case 'memory': {
      const aligned = arg.align === undefined ? '' : `, aligned to ${arg.align},`;
      const bytes = `${arg.bytes} ${arg.bytes === 1 ? 'byte' : 'bytes'}${aligned} that ${RIGHTS[arg.access]}`;
      return writesAll ? `${bytes}, each of which must be written` : bytes;
    }
    case 'buffer':
      return `a buffer of ${arg.minBytes ?? 0} to ${arg.maxBytes ?? 2 ** 32} bytes that ${RIGHTS[arg.access]}`;
    case 'end':
      return `the end of r${arg.of + 1}'s buffer`;
    case 'length':
      return `the length of r${arg.of + 1}'s buffer`;
    default:
      return rangeText(arg);
  }
}

function helperText(id: string, { args, returns }: HelperSpec): string {
  const takes = args.map((arg, i) => `r${i + 1}: ${argText(arg, false)}`).join('; ') || 'nothing';
  return `helper function ${id} takes ${takes}; returns ${rangeText(returns ?? {})}`;
}

function rangeText({ min = 0n, max = MAX_U64 }: { readonly min?: bigint; readonly max?: bigint }): string {
  if (min === max) return `the number ${min}`;
  if (max === MAX_U64) return min === 0n ? 'any number' : `a number from ${min} up`;
  return `a number from ${min} to ${max}`;
}
