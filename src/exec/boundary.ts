// The call boundary: what the proof assumed of the arguments is checked here, before the FFI sees them.

import type { ArgSpec, Contract } from '../bpf/contract.js';
import { type Arg, argName, checkArgKinds, MAX_U64, overlap, requireBigint, requireBytes } from '../bytes.js';
import { ArgumentError } from '../errors.js';
import type { MachineCode } from '../jit/target.js';
import type { Libc } from './libc.js';

/** The five words to pass: an empty buffer as 0, registers that are not arguments as 0. */
export function checkArgs(args: readonly Arg[], code: MachineCode, libc: Libc): [Arg, Arg, Arg, Arg, Arg] {
  checkArgKinds(args);
  if (code.abi) checkContract(args, code.abi, libc);
  if (code.needsAlignment) for (const [i, arg] of args.entries()) requireAligned(arg, i, libc);
  const word = (i: number): Arg => {
    const arg = args[i] ?? 0n;
    return typeof arg !== 'bigint' && arg.length === 0 ? 0n : arg;
  };
  return [word(0), word(1), word(2), word(3), word(4)];
}

function checkContract(args: readonly Arg[], abi: Contract, libc: Libc): void {
  if (args.length !== abi.args.length) {
    throw new ArgumentError('A-ARGS', `the routine takes ${abi.args.length} arguments, got ${args.length}`);
  }
  args.forEach((arg, i) => {
    checkArg(arg, abi.args[i], i);
  });
  if (!abi.disjoint) return;
  const sized = args.flatMap((arg, index) => {
    const spec = abi.args[index];
    return spec?.kind === 'memory' ? [{ index, bytes: (arg as Uint8Array).subarray(0, spec.bytes) }] : [];
  });
  for (const a of sized) {
    for (const b of sized) {
      if (a.index < b.index && overlap(a.bytes, b.bytes, libc.addressOf)) {
        throw new ArgumentError(
          'A-OVERLAP',
          `${argName(a.index)} and ${argName(b.index)} overlap, and the routine was proven for memory that does not`,
        );
      }
    }
  }
}

function checkArg(arg: Arg, spec: ArgSpec | undefined, index: number): void {
  if (spec?.kind === 'memory') requireBytes(arg, spec.bytes, argName(index));
  else if (spec?.kind === 'scalar') requireBigint(arg, spec.min ?? 0n, spec.max ?? MAX_U64, argName(index));
}

function requireAligned(arg: Arg, index: number, libc: Libc): void {
  if (typeof arg === 'bigint' || libc.addressOf(arg) % 8n === 0n) return;
  throw new ArgumentError(
    'A-ALIGN',
    `${argName(index)} must start at a multiple of 8 bytes: the routine has atomic operations on it`,
  );
}
