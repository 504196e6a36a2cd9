// Helper functions: JavaScript functions that a program calls by number, the same in every engine. They see copies of
// the program's memory, so that nothing they keep leads into it.

import { byteLength, MAX_U64, requireBytes, shown } from '../bytes.js';
import { ArgumentError } from '../errors.js';
import { type Arg, argName, type GivenArg } from './arguments.js';
import { checkHelper, type HelperSpec, type MemorySpec } from './contract.js';

/** Takes a number as a bigint and memory as its bytes; what it leaves in memory that it may write is copied back. */
export type HelperFunction = (...args: Arg[]) => bigint;

export interface Helper extends HelperSpec {
  readonly call: HelperFunction;
}

/** By the number in `call`. */
export type Helpers = Readonly<Record<number, Helper>>;

/** The registers and the memory of a call, as an engine has them; `index` 0 is r1. */
export interface HelperCall {
  number(index: number): bigint;
  /** A copy of memory at an address in a register, zeros where it is only written. */
  take(index: number, spec: MemorySpec): Uint8Array;
  give(index: number, bytes: Uint8Array): void;
  /** @throws ArgumentError if the memory of the running call has gone or changed its size */
  requireIntact(): void;
}

/**
 * Takes the functions of a table once, with the signatures that were proven, where something was.
 * @throws ArgumentError 'A-HELPERS' naming the helper
 */
export function takeHelpers(
  helpers: Helpers = {},
  proven?: Readonly<Record<number, HelperSpec>>,
): Map<number, Helper> {
  const bad = (message: string) => new ArgumentError('A-HELPERS', message);
  if (typeof helpers !== 'object' || helpers === null)
    throw bad('helpers must be an object, the helper functions by their numbers');
  return new Map(
    Object.entries(helpers).map(([id, helper]) => {
      if (typeof helper?.call !== 'function')
        throw bad(`helpers[${id}] must be { args, returns?, call } with a function to call`);
      const call: HelperFunction = helper.call.bind(helper);
      const signature = proven?.[Number(id)] ?? checkHelper(helper, id, bad);
      return [Number(id), { ...signature, call }];
    }),
  );
}

/**
 * Calls a helper function for a program.
 * @returns r0, unsigned
 * @throws what the function throws; ArgumentError 'A-HELPER' if a number given or returned is not in the signature's range
 */
export function callHelper(id: number, { args, returns, call }: Helper, machine: HelperCall): bigint {
  const given = args.map((spec, i) => {
    if (spec.kind === 'memory') return machine.take(i, spec);
    const number = machine.number(i);
    requireInRange(number, spec, `helper function ${id}: r${i + 1}`);
    return number;
  });
  const result: unknown = call(...given);
  machine.requireIntact();
  requireInRange(result, returns ?? {}, `the result of helper function ${id}`);
  args.forEach((spec, i) => {
    if (spec.kind !== 'memory' || spec.access === 'read') return;
    machine.give(i, requireBytes(given[i], spec.bytes, `the memory in r${i + 1} of helper function ${id}`));
  });
  return result;
}

function requireInRange(
  value: unknown,
  { min = 0n, max = MAX_U64 }: { readonly min?: bigint; readonly max?: bigint },
  what: string,
): asserts value is bigint {
  if (typeof value === 'bigint' && value >= min && value <= max) return;
  throw new ArgumentError(
    'A-HELPER',
    `${what} must be a bigint from ${min} to ${max} by its signature, got ${shown(value)}`,
  );
}

/** Remembers the buffers of a call; the check says whether a helper function has detached or resized one. */
export function watchBuffers(args: readonly GivenArg[]): () => void {
  const before = args.map((arg) => (typeof arg === 'object' ? byteLength(arg) : 0));
  return () =>
    args.forEach((arg, i) => {
      if (typeof arg !== 'object' || byteLength(arg) === before[i]) return;
      const message = `${argName(i)} had ${before[i]} bytes and has ${byteLength(arg)} now: a helper function must not detach or resize a buffer in use`;
      throw new ArgumentError('A-IN-USE', message);
    });
}
