// The call boundary: what the proof assumed of the arguments is checked here, before the FFI sees them.

import { type Arg, argName, requireContract, takeArgs } from '../bpf/contract.js';
import { byteLength } from '../bytes.js';
import { ArgumentError } from '../errors.js';
import type { MachineCode } from '../jit/target.js';
import type { Libc } from './libc.js';

/** The five words to pass: memory of no bytes as 0, registers that are not arguments as 0. */
export function checkArgs(given: readonly Arg[], code: MachineCode, libc: Libc): [Arg, Arg, Arg, Arg, Arg] {
  const args = takeArgs(given);
  if (code.abi) requireContract(args, code.abi, libc.addressOf);
  if (code.needsAlignment) for (const [i, arg] of args.entries()) requireAligned(arg, i, libc);
  const word = (i: number): Arg => {
    const arg = args[i] ?? 0n;
    if (typeof arg === 'bigint') return arg;
    const spec = code.abi?.args[i];
    // The verifier takes memory of no bytes for the number 0, however long the buffer is.
    const bytes = spec?.kind === 'memory' ? spec.bytes : byteLength(arg);
    return bytes === 0 ? 0n : arg;
  };
  return [word(0), word(1), word(2), word(3), word(4)];
}

function requireAligned(arg: Arg, index: number, libc: Libc): void {
  if (typeof arg === 'bigint' || libc.addressOf(arg) % 8n === 0n) return;
  throw new ArgumentError(
    'A-ALIGN',
    `${argName(index)} must start at a multiple of 8 bytes: the routine has atomic operations on it`,
  );
}
