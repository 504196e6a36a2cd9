// The call boundary: what the proof assumed of the arguments is checked here, before the FFI sees them.

import { type Arg, argName, type GivenArg, requireContract } from '../bpf/arguments.js';
import type { Alignment, ArgSpec } from '../bpf/contract.js';
import { byteLength } from '../bytes.js';
import { ArgumentError } from '../errors.js';
import type { MachineCode } from '../jit/target.js';
import type { Gate, Libc } from './libc.js';

/** What a call of machine code is checked by. */
export type Checked = Pick<MachineCode, 'abi' | 'needsAlignment'>;

type Words = [Arg, Arg, Arg, Arg, Arg];

/**
 * The words to pass in r1 to r5: memory of no bytes as 0, registers that are not arguments as 0.
 * @param args as `takeArgs` took them
 */
export function checkArgs(args: readonly GivenArg[], code: Checked, libc: Libc): Words {
  const { abi } = code;
  if (abi) requireContract(args, abi, libc.addressOf);
  const words: Words = [0n, 0n, 0n, 0n, 0n];
  const count = Math.max(args.length, abi?.args.length ?? 0);
  for (let i = 0; i < count; i++) {
    const spec = abi?.args[i];
    requireAligned(args[i], alignmentOf(spec, code), i, libc);
    words[i] = wordOf(args[i], spec, args, libc);
  }
  return words;
}

/** Calls code that `checkArgs` gave the words for. */
export function enter(gate: Gate, entry: bigint, { abi }: Checked, words: Words, libc: Libc): bigint {
  if (abi && abi.args.length <= 2) return BigInt(gate.two(entry, words[0], words[1]));
  return libc.call6(gate, entry, ...words, 0n);
}

function wordOf(arg: GivenArg, spec: ArgSpec | undefined, args: readonly GivenArg[], libc: Libc): Arg {
  if (typeof arg === 'bigint') return arg;
  if (spec?.kind === 'end' || spec?.kind === 'length') {
    const buffer = args[spec.of] as Uint8Array;
    const length = BigInt(byteLength(buffer));
    return spec.kind === 'length' || length === 0n ? length : libc.addressOf(buffer) + length;
  }
  if (arg === undefined) return 0n;
  // The verifier takes memory of no bytes for the number 0, however long the buffer is.
  return (spec?.kind === 'memory' ? spec.bytes : byteLength(arg)) === 0 ? 0n : arg;
}

function alignmentOf(spec: ArgSpec | undefined, { needsAlignment }: Checked): Alignment {
  if (spec?.kind === 'memory' && spec.align !== undefined) return spec.align;
  return needsAlignment ? 8 : 1;
}

function requireAligned(arg: GivenArg, alignment: Alignment, index: number, libc: Libc): void {
  if (alignment === 1 || typeof arg !== 'object' || libc.addressOf(arg) % BigInt(alignment) === 0n) return;
  throw new ArgumentError(
    'A-ALIGN',
    `${argName(index)} must start at a multiple of ${alignment} bytes: the routine was proven for that`,
  );
}
