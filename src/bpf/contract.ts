// What a program may rely on when it is called: the verifier's entry state, and the boundary's duty at each call.

import { MAX_U64, shown } from '../bytes.js';
import { ArgumentError } from '../errors.js';
import { requireFormat } from '../format/define.js';
import type { Format } from '../format/model.js';

/** Arguments go in r1 to r5. */
export const MAX_ARGS = 5;

export type Access = 'read' | 'write' | 'readwrite';
export type Alignment = 1 | 2 | 4 | 8;

export type ArgSpec =
  /** The address of `bytes` bytes, a multiple of `align` (1, 2, 4 or 8; default: 8 where atomic operations rest on it); 0 when `bytes` is 0. */
  | { readonly kind: 'memory'; readonly bytes: number; readonly access: Access; readonly align?: Alignment }
  /** The address of a buffer whose length the program learns from an argument of kind 'end' or 'length'; 0 when that is 0. */
  | {
      readonly kind: 'buffer';
      readonly access: Access;
      readonly minBytes?: number;
      readonly maxBytes?: number;
    }
  /** The address behind the last byte of the buffer that argument `of` (0 = r1) is; derived at the call. */
  | { readonly kind: 'end'; readonly of: number }
  /** The number of bytes of the buffer that argument `of` is; derived at the call. */
  | { readonly kind: 'length'; readonly of: number }
  /** An unsigned 64-bit number from `min` (default 0) to `max` (default 2^64 - 1). */
  | { readonly kind: 'scalar'; readonly min?: bigint; readonly max?: bigint };

export type MemorySpec = ArgSpec & { readonly kind: 'memory' };
export type BufferSpec = ArgSpec & { readonly kind: 'buffer' };
export type ScalarSpec = ArgSpec & { readonly kind: 'scalar' };

/** What a helper function takes in r1, r2, … and returns in r0. */
export interface HelperSpec {
  /** Memory of at least one byte, read, written wholly, or both; and numbers. */
  readonly args: readonly (MemorySpec | ScalarSpec)[];
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
  /** Whether to refuse also what Linux refuses and RFC 9669 defines; see docs/verifier.md. Default: no. */
  readonly kernelCompatible?: boolean;
  /** Instructions that the verifier walks at most, over all paths, and that the interpreter runs at most. */
  readonly maxInstructions?: number;
}

// A displacement has 16 signed bits and a JavaScript buffer at most 2^53 bytes; 2^32 keeps sums far from either end.
const MAX_REGION_BYTES = 2 ** 32;

/** The contract of a lowered format: r1 = unpacked record, wholly written; r2 = packed record. */
export function contractFor(format: Format): Contract {
  requireFormat(format);
  const { packedBytes, unpackedBytes } = format;
  const place = (packedBytes * 41 + unpackedBytes) % FORMAT_CONTRACTS;
  const [written, read] = (formatContracts[place]?.args ?? []) as readonly MemorySpec[];
  if (written?.bytes === unpackedBytes && read?.bytes === packedBytes) return formatContracts[place]!;
  const contract = checkContract({
    args: [
      { kind: 'memory', bytes: unpackedBytes, access: 'write' },
      { kind: 'memory', bytes: packedBytes, access: 'read' },
    ],
    writesAll: [0],
    disjoint: true,
  });
  formatContracts[place] = contract;
  return contract;
}

/** The contracts of formats that were asked for lately: there are few different ones, and one takes a microsecond to make. */
const formatContracts: (Contract | undefined)[] = [];
const FORMAT_CONTRACTS = 256;

/** Those that `checkContract` made: they are frozen through and through. */
const checkedOnes = new WeakSet<Contract>();

/**
 * Checks a contract and returns a frozen copy of it.
 * @throws ArgumentError with code 'A-CONTRACT' naming the argument
 */
export function checkContract(contract: Contract): Contract {
  if (checkedOnes.has(contract)) return contract;
  const bad: Bad = (message) => new ArgumentError('A-CONTRACT', `contract: ${message}`);
  if (typeof contract !== 'object' || contract === null || !Array.isArray(contract.args)) {
    throw bad('args must be an array, one entry for each of r1, r2, …');
  }
  if (contract.args.length > MAX_ARGS)
    throw bad(`a program has at most ${MAX_ARGS} arguments, got ${contract.args.length}`);
  const args = Array.from(contract.args, (arg, i) => checkArg(arg, `args[${i}] (r${i + 1})`, bad));
  for (const [i, arg] of args.entries()) {
    if (arg?.kind !== 'end' && arg?.kind !== 'length') continue;
    if (!Number.isInteger(arg.of) || args[arg.of]?.kind !== 'buffer')
      throw bad(`args[${i}] (r${i + 1}) is the ${arg.kind} of args[${shown(arg.of)}], which is no buffer`);
  }
  const writesAll = contract.writesAll ?? [];
  if (!Array.isArray(writesAll)) throw bad('writesAll must be an array of argument indexes');
  for (const index of writesAll) {
    const arg = Number.isInteger(index) ? args[index] : undefined;
    if (arg?.kind !== 'memory' || arg.access === 'read') {
      throw bad(`writesAll names args[${shown(index)}], which is not writable memory`);
    }
  }
  for (const flag of ['disjoint', 'allowPointerLeaks', 'kernelCompatible'] as const) {
    if (contract[flag] !== undefined && typeof contract[flag] !== 'boolean')
      throw bad(`${flag} must be true or false`);
  }
  const { maxInstructions } = contract;
  if (maxInstructions !== undefined && !(Number.isSafeInteger(maxInstructions) && maxInstructions >= 1))
    throw bad(`maxInstructions must be a whole number from 1, got ${shown(maxInstructions)}`);
  const checked = Object.freeze({
    args: Object.freeze(args),
    writesAll: Object.freeze([...writesAll]),
    disjoint: contract.disjoint ?? false,
    allowPointerLeaks: contract.allowPointerLeaks ?? false,
    kernelCompatible: contract.kernelCompatible ?? false,
    ...(maxInstructions !== undefined && { maxInstructions }),
    helpers: checkHelpers(contract.helpers, bad),
  });
  checkedOnes.add(checked);
  return checked;
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
  const number = /^(0|[1-9]\d*)$/.test(id) ? Number(id) : -1;
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
    if (arg?.kind === 'memory' && arg.align !== undefined)
      throw bad(`${name}.args[${i}]: a helper function gets a copy of memory, so that it has no align`);
    if (arg?.kind === 'scalar' || (arg?.kind === 'memory' && arg.bytes > 0)) return arg;
    throw bad(`${name}.args[${i}] must be a number or memory of at least one byte`);
  });
  const { returns = {} } = spec;
  if (typeof returns !== 'object' || returns === null) throw bad(`${name}.returns must be { min?, max? }`);
  const { min, max } = checkScalar(returns, `${name}.returns`, bad);
  return Object.freeze({ args: Object.freeze(args), returns: Object.freeze({ min, max }) });
}

function checkArg(arg: ArgSpec | undefined, name: string, bad: Bad): ArgSpec | undefined {
  if (arg === undefined || arg === null) return undefined;
  switch (arg.kind) {
    case 'memory':
      return checkMemory(arg, name, bad);
    case 'buffer':
      return checkBuffer(arg, name, bad);
    case 'end':
    case 'length':
      return Object.freeze({ kind: arg.kind, of: arg.of });
    case 'scalar':
      return Object.freeze({ kind: 'scalar', ...checkScalar(arg, name, bad) });
    default:
      throw bad(`${name}: kind must be 'memory', 'buffer', 'end', 'length' or 'scalar'`);
  }
}

function checkMemory({ bytes, access, align }: MemorySpec, name: string, bad: Bad): MemorySpec {
  checkSize(bytes, `${name}: bytes`, bad);
  checkAccess(access, name, bad);
  if (align !== undefined && ![1, 2, 4, 8].includes(align))
    throw bad(`${name}: align must be 1, 2, 4 or 8, got ${shown(align)}`);
  return Object.freeze({ kind: 'memory', bytes, access, ...(align !== undefined && { align }) });
}

function checkBuffer(
  { access, minBytes = 0, maxBytes = MAX_REGION_BYTES }: BufferSpec,
  name: string,
  bad: Bad,
): BufferSpec {
  checkSize(minBytes, `${name}: minBytes`, bad);
  checkSize(maxBytes, `${name}: maxBytes`, bad);
  checkAccess(access, name, bad);
  if (minBytes > maxBytes) throw bad(`${name}: minBytes ${minBytes} is more than maxBytes ${maxBytes}`);
  return Object.freeze({ kind: 'buffer', access, minBytes, maxBytes });
}

function checkSize(bytes: unknown, name: string, bad: Bad): void {
  if (Number.isInteger(bytes) && (bytes as number) >= 0 && (bytes as number) <= MAX_REGION_BYTES) return;
  throw bad(`${name} must be a whole number from 0 to 2^32, got ${shown(bytes)}`);
}

function checkAccess(access: unknown, name: string, bad: Bad): void {
  if (access === 'read' || access === 'write' || access === 'readwrite') return;
  throw bad(`${name}: access must be 'read', 'write' or 'readwrite', got ${shown(access)}`);
}

function checkScalar(
  range: { readonly min?: bigint; readonly max?: bigint },
  name: string,
  bad: Bad,
): { min: bigint; max: bigint } {
  const { min = 0n, max = MAX_U64 } = range;
  const isU64 = (value: unknown) => typeof value === 'bigint' && value >= 0n && value <= MAX_U64;
  if (!isU64(min) || !isU64(max) || min > max) {
    throw bad(
      `${name}: min and max must be bigints, 0 <= min <= max < 2^64, got ${shown(min)} and ${shown(max)}`,
    );
  }
  return { min, max };
}
