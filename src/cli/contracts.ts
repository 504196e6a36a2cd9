// Contracts on the command line: --arg r1=mem:64:rw --arg r2=scalar:0..100

import type { Access, ArgSpec, Contract } from '../index.js';
import type { CommandLine } from './options.js';

export const CONTRACT_VALUES = ['writes-all'];
export const CONTRACT_LISTS = ['arg'];
export const CONTRACT_FLAGS = ['disjoint', 'allow-pointer-leaks', 'kernel-compatible'];
export const CONTRACT_USAGE =
  '[--arg rN=SPEC]… [--writes-all rN,…] [--disjoint] [--allow-pointer-leaks] [--kernel-compatible]';
export const CONTRACT_HELP = `  --arg rN=mem:BYTES:ACCESS
                   the register holds the address of that many bytes, which the program may read, write or both: r, w
                   or rw
  --arg rN=buffer[:MIN..MAX]:ACCESS
                   it holds the address of a buffer whose length the program has to learn
  --arg rN=end:rM, --arg rN=length:rM
                   it holds the address behind the buffer that rM holds the address of, or its length in bytes
  --arg rN=scalar[:MIN..MAX]
                   it holds an unsigned number of that range, or any 64-bit number; a register that is not named holds
                   nothing that may be read
  --writes-all rN,…
                   memory whose every byte must be written on every path
  --disjoint       no two of the memories overlap
  --allow-pointer-leaks
                   r0 and memory may be given addresses
  --kernel-compatible
                   refuse also what Linux refuses by rules that safety does not need`;

const ACCESS: Readonly<Record<string, Access>> = { r: 'read', w: 'write', rw: 'readwrite' };

export function contractOption({ values, lists, flags, fail }: CommandLine): Contract {
  const args: (ArgSpec | undefined)[] = [];
  for (const text of lists.arg ?? []) {
    const [, name, spec] =
      /^([^=]*)=(.*)$/.exec(text) ?? fail(`--arg must be like r1=mem:64:rw, not '${text}'`);
    const index = argIndex(name!, 'arg', fail);
    if (args[index]) fail(`--arg ${name} is given twice`);
    args[index] =
      argSpec(spec!) ??
      fail(
        `--arg ${name} must be mem:BYTES:r|w|rw, buffer[:MIN..MAX]:r|w|rw, end:rN, length:rN or scalar[:MIN..MAX], not '${spec}'`,
      );
  }
  const writesAll = values['writes-all']?.split(',').map((name) => argIndex(name, 'writes-all', fail));
  return {
    args: Array.from(args),
    ...(writesAll && { writesAll }),
    disjoint: flags.has('disjoint'),
    allowPointerLeaks: flags.has('allow-pointer-leaks'),
    kernelCompatible: flags.has('kernel-compatible'),
  };
}

function argIndex(name: string, option: string, fail: CommandLine['fail']): number {
  return /^r[1-5]$/.test(name)
    ? Number(name[1]) - 1
    : fail(`--${option} names the registers r1 to r5, not '${name}'`);
}

function argSpec(text: string): ArgSpec | undefined {
  const [, bytes, access] = /^mem:(\d+):(r|w|rw)$/.exec(text) ?? [];
  if (bytes !== undefined) return { kind: 'memory', bytes: Number(bytes), access: ACCESS[access!]! };
  const buffer = /^buffer(?::(\d+)\.\.(\d+))?:(r|w|rw)$/.exec(text);
  if (buffer) {
    const [, minBytes, maxBytes, rights] = buffer;
    const size = minBytes === undefined ? {} : { minBytes: Number(minBytes), maxBytes: Number(maxBytes) };
    return { kind: 'buffer', access: ACCESS[rights!]!, ...size };
  }
  const [, derived, of] = /^(end|length):r([1-5])$/.exec(text) ?? [];
  if (derived === 'end' || derived === 'length') return { kind: derived, of: Number(of) - 1 };
  if (text === 'scalar') return { kind: 'scalar' };
  const [, min, max] = /^scalar:(0x[\da-f]+|\d+)(?:\.\.(0x[\da-f]+|\d+))?$/i.exec(text) ?? [];
  return min === undefined ? undefined : { kind: 'scalar', min: BigInt(min), max: BigInt(max ?? min) };
}
