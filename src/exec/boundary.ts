// The call boundary: what the proof assumed of the arguments is checked here, before the FFI sees them.

import { type Arg, argName, type GivenArg, requireContract } from '../bpf/arguments.js';
import type { Alignment, ArgSpec } from '../bpf/contract.js';
import { byteLength } from '../bytes.js';
import { ArgumentError } from '../errors.js';
import type { MachineCode } from '../jit/target.js';
import type { Libc } from './libc.js';

/** What a call of machine code is checked by. */
export type Checked = Pick<MachineCode, 'abi' | 'needsAlignment'>;

/**
 * The five words to pass: memory of no bytes as 0, registers that are not arguments as 0.
 * @param args as `takeArgs` took them
 */
export function checkArgs(args: readonly GivenArg[], code: Checked, libc: Libc): [Arg, Arg, Arg, Arg, Arg] {
  const specs = code.abi?.args ?? [];
  if (code.abi) requireContract(args, code.abi, libc.addressOf);
  for (const [i, arg] of args.entries()) requireAligned(arg, alignmentOf(specs[i], code), i, libc);
  const word = (i: number): Arg => wordOf(args[i], specs[i], args, libc);
  return [word(0), word(1), word(2), word(3), word(4)];
}

function wordOf(arg: GivenArg, spec: ArgSpec | undefined, args: readonly GivenArg[], libc: Libc): Arg {
  if (typeof arg === 'bigint') return arg;
  if (spec?.kind === 'end' || spec?.kind === 'length') {
    const buffer = args[spec.of] as Uint8Array;
    const length = BigInt(byteLength(buffer));
    return spec.kind === 'length' || length === 0n ? length : libc.addressOf(buffer) + length;
  }
  // The verifier takes memory of no bytes for the number 0, however long the buffer is.
  const bytes = spec?.kind === 'memory' ? spec.bytes : arg ? byteLength(arg) : 0;
  return arg === undefined || bytes === 0 ? 0n : arg;
}

function alignmentOf(spec: ArgSpec | undefined, { needsAlignment }: Checked): Alignment {
  if (spec?.kind === 'memory' && spec.align !== undefined) return spec.align;
  return needsAlignment ? 8 : 1;
}

function requireAligned(arg: GivenArg, alignment: Alignment, index: number, libc: Libc): void {
  if (typeof arg !== 'object' || alignment === 1 || libc.addressOf(arg) % BigInt(alignment) === 0n) return;
  throw new ArgumentError(
    'A-ALIGN',
    `${argName(index)} must start at a multiple of ${alignment} bytes: the routine was proven for that`,
  );
}
