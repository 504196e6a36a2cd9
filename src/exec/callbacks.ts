// JavaScript functions that placed code calls. All calls come in through one function, since koffi has 8,192 at most; a
// number that is written into the code says which helper of which routine is meant. The numbers, the flag and the
// running call are the thread's own: so code that calls helper functions runs in the thread that placed it.

import type { Arg } from '../bpf/arguments.js';
import { callHelper, type Helper, type Helpers, takeHelpers, watchBuffers } from '../bpf/helper.js';
import { ArgumentError } from '../errors.js';
import type { MachineCode } from '../jit/target.js';
import { libc } from './libc.js';

interface Callable {
  readonly id: number;
  readonly helper: Helper;
}

/** The call of a routine that is running. */
interface Running {
  /** 1, or one more than that of the call whose helper function made this one. */
  readonly depth: number;
  readonly requireIntact: () => void;
  error?: unknown;
}

/** Each is a few frames of native code and of JavaScript; node's default stack is full after some 160. */
const MAX_NESTED = 32;

const callables: (Callable | undefined)[] = [];
const free: number[] = [];
let running: Running | undefined;
/** Up while a helper function has not answered; code reads it after each call. */
let flag: Uint32Array | undefined;
let dispatch: bigint | undefined;

/**
 * Gives the helpers that code calls their numbers, by their ids.
 * @throws ArgumentError 'A-HELPERS' if the code calls a helper that was not given, or what was given is none
 */
export function enlist(code: MachineCode, helpers: Helpers | undefined): ReadonlyMap<number, number> {
  const given = takeHelpers(helpers, code.abi?.helpers);
  const called = new Set(
    code.relocations.flatMap(({ symbol }) =>
      typeof symbol === 'object' && 'helper' in symbol ? [symbol.helper] : [],
    ),
  );
  for (const id of called) requireGiven(id, given);
  return new Map([...called].map((id) => [id, numberFor({ id, helper: given.get(id)! })]));
}

function requireGiven(id: number, given: ReadonlyMap<number, Helper>): void {
  if (given.has(id)) return;
  throw new ArgumentError(
    'A-HELPERS',
    `the code calls helper function ${id}, and none was given: place(code, { helpers: { ${id}: { args, call } } })`,
  );
}

function numberFor(callable: Callable): number {
  const number = free.pop() ?? callables.length;
  callables[number] = callable;
  return number;
}

export function release(numbers: readonly number[]): void {
  for (const number of numbers) {
    callables[number] = undefined;
    free.push(number);
  }
}

/**
 * Calls code that calls helper functions.
 * @throws what a helper function threw, and what was wrong with its answer; ArgumentError 'A-DEPTH' where helper functions
 *   call routines that call helper functions too deeply
 */
export function callWithHelpers(args: readonly Arg[], call: () => bigint): bigint {
  const up = flagArray();
  const outer = { running, flag: up[0]! };
  const inner: Running = { depth: (running?.depth ?? 0) + 1, requireIntact: watchBuffers(args) };
  if (inner.depth > MAX_NESTED)
    throw new ArgumentError('A-DEPTH', `calls from helper functions are nested more than ${MAX_NESTED} deep`);
  running = inner;
  up[0] = 0;
  try {
    const r0 = call();
    if (up[0] === 0) return r0;
    throw inner.error ?? new ArgumentError('A-HELPER', 'a helper function was not run to its end');
  } finally {
    running = outer.running;
    up[0] = outer.flag;
  }
}

function answer(r1: bigint, r2: bigint, r3: bigint, r4: bigint, r5: bigint, number: bigint): bigint {
  const call = running!;
  try {
    const { id, helper } = callables[Number(number)]!;
    const registers = [r1, r2, r3, r4, r5];
    const result = callHelper(id, helper, {
      number: (index) => registers[index]!,
      take: (index, { bytes, access }) =>
        access === 'write' ? new Uint8Array(bytes) : libc().copyFrom(registers[index]!, bytes),
      give: (index, bytes) => libc().copyTo(registers[index]!, bytes),
      requireIntact: call.requireIntact,
    });
    flagArray()[0] = 0;
    return result;
  } catch (error) {
    call.error = error;
    return 0n;
  }
}

// An ArrayBuffer's memory never moves, and this one is never given up.
const flagArray = (): Uint32Array => (flag ??= new Uint32Array(new ArrayBuffer(8)));
export const flagAddress = (): bigint => libc().addressOf(new Uint8Array(flagArray().buffer));
export const dispatchAddress = (): bigint => (dispatch ??= libc().callback(answer));
