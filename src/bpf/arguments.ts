// The arguments of a call: taken once, and held against what a contract promises of them.

import { byteLength, MAX_U64, overlap, part, requireBigint, requireBytes } from '../bytes.js';
import { ArgumentError } from '../errors.js';
import { type ArgSpec, type Contract, MAX_ARGS } from './contract.js';

/** An argument of a BPF program: a buffer, passed as its address (an empty one as 0), or a number. */
export type Arg = Uint8Array | bigint;

/** Undefined for what the contract derives from another argument, or does not give. */
export type GivenArg = Arg | undefined;

/**
 * Takes the arguments of a call once, so that what is checked is what is passed.
 * @returns at most five plain buffers, numbers from 0 to 2^64 - 1, and undefined for what is not given
 * @throws ArgumentError naming the argument
 */
export function takeArgs(args: unknown): GivenArg[] {
  const count = Array.isArray(args) ? args.length : undefined;
  if (count === undefined || count > MAX_ARGS) {
    throw new ArgumentError('A-ARGS', `args must be an array of at most ${MAX_ARGS} arguments`);
  }
  const taken: GivenArg[] = [];
  for (let i = 0; i < count; i++) taken.push(takeArg((args as unknown[])[i], i));
  return taken;
}

function takeArg(arg: unknown, index: number): GivenArg {
  if (arg === undefined) return undefined;
  if (typeof arg !== 'bigint') return requireBytes(arg, 0, OR_BIGINT[index]!);
  requireBigint(arg, 0n, MAX_U64, argName(index));
  return arg;
}

/**
 * Checks that arguments are what a contract promises of them. A buffer may be longer than the contract's memory.
 * @param addressOf tells addresses apart where two SharedArrayBuffer objects may be one memory
 * @throws ArgumentError naming the argument: 'A-ARGS', 'A-TYPE', 'A-LENGTH', 'A-RANGE' or 'A-OVERLAP'
 */
export function requireContract(
  args: readonly GivenArg[],
  contract: Contract,
  addressOf?: (bytes: Uint8Array) => bigint,
): void {
  const specs = contract.args;
  if (args.length > specs.length) throw wrongCount(args, specs);
  for (let i = 0; i < specs.length; i++) {
    const spec = specs[i];
    if (!spec) continue;
    if (i >= args.length && !isDerived(spec)) throw wrongCount(args, specs);
    requireArg(args[i], spec, i);
  }
  if (contract.disjoint) requireDisjoint(args, contract, addressOf);
}

const wrongCount = (args: readonly unknown[], specs: readonly unknown[]) =>
  new ArgumentError('A-ARGS', `the program takes ${specs.length} arguments, got ${args.length}`);

export const isDerived = (spec: ArgSpec): spec is ArgSpec & { kind: 'end' | 'length' } =>
  spec.kind === 'end' || spec.kind === 'length';

function requireArg(arg: GivenArg, spec: ArgSpec, index: number): void {
  const name = argName(index);
  if (spec.kind === 'memory') requireBytes(arg, spec.bytes, name);
  else if (spec.kind === 'scalar') requireBigint(arg, spec.min ?? 0n, spec.max ?? MAX_U64, name);
  else if (spec.kind === 'buffer') {
    const length = byteLength(requireBytes(arg, spec.minBytes ?? 0, name));
    if (length > spec.maxBytes!)
      throw new ArgumentError(
        'A-LENGTH',
        `${name} has ${length} bytes, at most ${spec.maxBytes} are allowed`,
      );
  } else if (arg !== undefined)
    throw new ArgumentError(
      'A-ARGS',
      `${name} is the ${spec.kind} of ${argName(spec.of)} by the contract: leave it undefined`,
    );
}

function requireDisjoint(
  args: readonly GivenArg[],
  contract: Contract,
  addressOf: ((bytes: Uint8Array) => bigint) | undefined,
): void {
  for (let b = 1; b < args.length; b++) {
    const one = args[b];
    if (typeof one !== 'object') continue;
    for (let a = 0; a < b; a++) {
      const other = args[a];
      if (typeof other !== 'object') continue;
      const length = usedBytes(one, contract.args[b]);
      if (!overlap(one, 0, length, other, usedBytes(other, contract.args[a]), addressOf)) continue;
      const message = `${argName(a)} and ${argName(b)} overlap, and the contract promises memory that does not`;
      throw new ArgumentError('A-OVERLAP', message);
    }
  }
}

const usedBytes = (arg: Uint8Array, spec: ArgSpec | undefined): number =>
  spec?.kind === 'memory' ? spec.bytes : byteLength(arg);

/** The bytes of an argument that the contract gives to the program; undefined where that is no memory. */
export function memoryOf(arg: GivenArg, spec: ArgSpec | undefined): Uint8Array | undefined {
  if (typeof arg === 'bigint' || arg === undefined) return undefined;
  const bytes = usedBytes(arg, spec);
  return byteLength(arg) === bytes ? arg : part(arg, 0, bytes);
}

// Made once: a call that is right should not build the text for one that is not.
const NAMES = Array.from({ length: MAX_ARGS }, (_, i) => `args[${i}] (r${i + 1})`);
const OR_BIGINT = NAMES.map((name) => `${name}, unless it is a bigint,`);

export const argName = (index: number): string => NAMES[index]!;
