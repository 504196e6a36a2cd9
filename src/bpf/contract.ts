// What a program may rely on when it is called: the verifier's entry state, and the boundary's duty at each call.

import { byteLength, MAX_U64, overlap, requireBigint, requireBytes } from '../bytes.js';
import { ArgumentError } from '../errors.js';
import { requireFormat } from '../format/define.js';
import type { Format } from '../format/model.js';

/** An argument of a BPF program: a buffer, passed as its address (an empty one as 0), or a number. */
export type Arg = Uint8Array | bigint;

/** Arguments go in r1 to r5. */
export const MAX_ARGS = 5;

export type Access = 'read' | 'write' | 'readwrite';

export type ArgSpec =
  /** The address of `bytes` bytes; 0 when `bytes` is 0. */
  | { readonly kind: 'memory'; readonly bytes: number; readonly access: Access }
  /** An unsigned 64-bit number from `min` (default 0) to `max` (default 2^64 - 1). */
  | { readonly kind: 'scalar'; readonly min?: bigint; readonly max?: bigint };

/** What a helper function takes in r1, r2, … and returns in r0. */
export interface HelperSpec {
  /** Memory of at least one byte, read, written wholly, or both; and numbers. */
  readonly args: readonly ArgSpec[];
  /** The least and the greatest number that it returns, unsigned. Default: any 64-bit number. */
  readonly returns?: { readonly min?: bigint; readonly max?: bigint };
}

export interface Contract {
  /** r1, r2, … r5; undefined = not given, so not readable. */
  readonly args: readonly (ArgSpec | undefined)[];
  /** The helper functions that the program may call, by the number in `call`. Default: none. */
  readonly helpers?: Readonly<Record<number, HelperSpec>>;
  /** Indexes of memory arguments whose every byte must be written on every path to exit. */
  readonly writesAll?: readonly number[];
  /** No two memory arguments overlap. Default: they may. */
  readonly disjoint?: boolean;
  /** Whether r0 and written memory may hold addresses. Default: they may not. */
  readonly allowPointerLeaks?: boolean;
}

// A displacement has 16 signed bits and a JavaScript buffer at most 2^53 bytes; 2^32 keeps sums far from either end.
const MAX_REGION_BYTES = 2 ** 32;

/** The contract of a lowered format: r1 = unpacked record, wholly written; r2 = packed record. */
export function contractFor(format: Format): Contract {
  requireFormat(format);
  return checkContract({
    args: [
      { kind: 'memory', bytes: format.unpackedBytes, access: 'write' },
      { kind: 'memory', bytes: format.packedBytes, access: 'read' },
    ],
    writesAll: [0],
    disjoint: true,
  });
}

/**
 * Checks a contract and returns a frozen copy of it.
 * @throws ArgumentError with code 'A-CONTRACT' naming the argument
 */
export function checkContract(contract: Contract): Contract {
  const bad: Bad = (message) => new ArgumentError('A-CONTRACT', `contract: ${message}`);
  if (typeof contract !== 'object' || contract === null || !Array.isArray(contract.args)) {
    throw bad('args must be an array, one entry for each of r1, r2, …');
  }
  if (contract.args.length > MAX_ARGS)
    throw bad(`a program has at most ${MAX_ARGS} arguments, got ${contract.args.length}`);
  const args = Array.from(contract.args, (arg, i) => checkArg(arg, `args[${i}] (r${i + 1})`, bad));
  const writesAll = contract.writesAll ?? [];
  if (!Array.isArray(writesAll)) throw bad('writesAll must be an array of argument indexes');
  for (const index of writesAll) {
    const arg = Number.isInteger(index) ? args[index] : undefined;
    if (arg?.kind !== 'memory' || arg.access === 'read') {
      throw bad(`writesAll names args[${String(index)}], which is not writable memory`);
    }
  }
  for (const flag of ['disjoint', 'allowPointerLeaks'] as const) {
    if (contract[flag] !== undefined && typeof contract[flag] !== 'boolean')
      throw bad(`${flag} must be true or false`);
  }
  return Object.freeze({
    args: Object.freeze(args),
    writesAll: Object.freeze([...writesAll]),
    disjoint: contract.disjoint ?? false,
    allowPointerLeaks: contract.allowPointerLeaks ?? false,
    helpers: checkHelpers(contract.helpers, bad),
  });
}

type Bad = (message: string) => ArgumentError;

function checkHelpers(helpers: Contract['helpers'] = {}, bad: Bad): NonNullable<Contract['helpers']> {
  if (typeof helpers !== 'object' || helpers === null)
    throw bad('helpers must be an object, the helper functions by their numbers');
  const checked = Object.entries(helpers).map(([id, spec]) => [
    helperId(id, bad),
    checkHelper(spec, id, bad),
  ]);
  return Object.freeze(Object.fromEntries(checked));
}

function helperId(id: string, bad: Bad): number {
  const number = /^\d+$/.test(id) ? Number(id) : -1;
  if (number < 0 || number >= 2 ** 31) throw bad(`helpers: '${id}' is no number from 0 to 2^31 - 1`);
  return number;
}

/**
 * A frozen copy of a helper function's signature.
 * @throws what `bad` makes of the sentence
 */
export function checkHelper(spec: HelperSpec, id: number | string, bad: Bad): HelperSpec {
  const name = `helpers[${id}]`;
  if (typeof spec !== 'object' || spec === null || !Array.isArray(spec.args) || spec.args.length > MAX_ARGS)
    throw bad(`${name} must be { args, returns? } with at most ${MAX_ARGS} args`);
  const args = Array.from(spec.args, (given: ArgSpec | undefined, i) => {
    const arg = checkArg(given, `${name}.args[${i}]`, bad);
    if (!arg || (arg.kind === 'memory' && arg.bytes === 0))
      throw bad(`${name}.args[${i}] must be a number or memory of at least one byte`);
    return arg;
  });
  const { min, max } = checkScalar(spec.returns ?? {}, `${name}.returns`, bad);
  return Object.freeze({ args: Object.freeze(args), returns: Object.freeze({ min, max }) });
}

function checkArg(arg: ArgSpec | undefined, name: string, bad: Bad): ArgSpec | undefined {
  if (arg === undefined || arg === null) return undefined;
  if (arg.kind === 'memory') {
    const { bytes, access } = arg;
    if (!Number.isInteger(bytes) || bytes < 0 || bytes > MAX_REGION_BYTES) {
      throw bad(`${name}: bytes must be a whole number from 0 to 2^32, got ${bytes}`);
    }
    if (access !== 'read' && access !== 'write' && access !== 'readwrite') {
      throw bad(`${name}: access must be 'read', 'write' or 'readwrite', got ${JSON.stringify(access)}`);
    }
    return Object.freeze({ kind: 'memory', bytes, access });
  }
  if (arg.kind !== 'scalar') throw bad(`${name}: kind must be 'memory' or 'scalar'`);
  return Object.freeze({ kind: 'scalar', ...checkScalar(arg, name, bad) });
}

function checkScalar(
  range: { readonly min?: bigint; readonly max?: bigint },
  name: string,
  bad: Bad,
): { min: bigint; max: bigint } {
  const { min = 0n, max = MAX_U64 } = range;
  const isU64 = (value: unknown) => typeof value === 'bigint' && value >= 0n && value <= MAX_U64;
  if (!isU64(min) || !isU64(max) || min > max) {
    throw bad(`${name}: min and max must be bigints, 0 <= min <= max < 2^64, got ${min} and ${max}`);
  }
  return { min, max };
}

/**
 * Takes the arguments of a call once, so that what is checked is what is passed.
 * @returns at most five plain buffers and numbers from 0 to 2^64 - 1
 * @throws ArgumentError naming the argument
 */
export function takeArgs(args: unknown): Arg[] {
  if (!Array.isArray(args) || args.length > MAX_ARGS) {
    throw new ArgumentError('A-ARGS', `args must be an array of at most ${MAX_ARGS} arguments`);
  }
  return Array.from(args, (arg: unknown, index) => {
    if (typeof arg !== 'bigint') return requireBytes(arg, 0, `${argName(index)}, unless it is a bigint,`);
    requireBigint(arg, 0n, MAX_U64, argName(index));
    return arg;
  });
}

/**
 * Checks that arguments are what a contract promises of them. A buffer may be longer than the contract's memory.
 * @param addressOf tells addresses apart where two SharedArrayBuffer objects may be one memory
 * @throws ArgumentError naming the argument: 'A-ARGS', 'A-TYPE', 'A-LENGTH', 'A-RANGE' or 'A-OVERLAP'
 */
export function requireContract(
  args: readonly Arg[],
  contract: Contract,
  addressOf?: (bytes: Uint8Array) => bigint,
): void {
  if (args.length !== contract.args.length) {
    throw new ArgumentError(
      'A-ARGS',
      `the program takes ${contract.args.length} arguments, got ${args.length}`,
    );
  }
  contract.args.forEach((spec, i) => {
    if (spec?.kind === 'memory') requireBytes(args[i], spec.bytes, argName(i));
    else if (spec?.kind === 'scalar') requireBigint(args[i], spec.min ?? 0n, spec.max ?? MAX_U64, argName(i));
  });
  if (contract.disjoint) requireDisjoint(args, contract, addressOf);
}

function requireDisjoint(
  args: readonly Arg[],
  contract: Contract,
  addressOf: ((bytes: Uint8Array) => bigint) | undefined,
): void {
  const memory = args.map((arg, i) => memoryOf(arg, contract.args[i]));
  memory.forEach((one, b) => {
    memory.slice(0, b).forEach((other, a) => {
      if (!one || !other || !overlap(one, other, addressOf)) return;
      const message = `${argName(a)} and ${argName(b)} overlap, and the contract promises memory that does not`;
      throw new ArgumentError('A-OVERLAP', message);
    });
  });
}

/** The bytes of an argument that the contract gives to the program; undefined for a number. */
export function memoryOf(arg: Arg, spec: ArgSpec | undefined): Uint8Array | undefined {
  if (typeof arg === 'bigint') return undefined;
  return spec?.kind === 'memory' && byteLength(arg) !== spec.bytes ? arg.subarray(0, spec.bytes) : arg;
}

export const argName = (index: number): string => `args[${index}] (r${index + 1})`;
