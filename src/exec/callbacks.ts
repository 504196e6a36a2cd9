// JavaScript functions that placed code calls. All calls come in through one function, since koffi has 8,192 at most; a
// number that is written into the code says which helper of which routine is meant. The numbers and the state of the
// calls are the thread's own: so code that calls helper functions runs in the thread that placed it.
//
// JavaScript may be cut off anywhere, by the timeout of node:vm or worker.terminate(), and then runs no `finally`. So what
// counts is the depth that native code keeps: records of deeper calls are of calls that are over.

import type { Arg } from '../bpf/arguments.js';
import { callHelper, type Helper, type Helpers, takeHelpers, watchBuffers } from '../bpf/helper.js';
import { ArgumentError } from '../errors.js';
import { CALL_STATE, type MachineCode } from '../jit/target.js';
import { libc } from './libc.js';

interface Callable {
  readonly id: number;
  readonly helper: Helper;
}

/** A call of code that calls helper functions. */
interface Running {
  /** 1, or one more than that of the call whose helper function made this one. */
  readonly depth: number;
  readonly outer: Running | undefined;
  /** Whose code it is. */
  readonly owner: object;
  readonly requireIntact: () => void;
  failure?: { readonly error: unknown };
}

const callables: (Callable | undefined)[] = [];
const free: number[] = [];
let innermost: Running | undefined;
let state: Uint32Array | undefined;
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

/** The innermost call that is under way. */
function running(): Running | undefined {
  const depth = stateWords()[CALL_STATE.depth]!;
  while (innermost && innermost.depth > depth) innermost = innermost.outer;
  return innermost;
}

/** Whether code of this owner is being called: a helper function of it may ask. */
export function isRunning(owner: object): boolean {
  for (let call = running(); call; call = call.outer) if (call.owner === owner) return true;
  return false;
}

/** Whether a helper function is being called. */
export const isAnyRunning = (): boolean => running() !== undefined;

/**
 * Calls code that calls helper functions.
 * @throws what a helper function threw, and what was wrong with its answer; ArgumentError 'A-DEPTH' where helper functions
 *   call routines that call helper functions too deeply
 */
export function callWithHelpers(owner: object, args: readonly Arg[], call: () => bigint): bigint {
  const outer = running();
  const depth = (outer?.depth ?? 0) + 1;
  if (depth > CALL_STATE.maxDepth) {
    const message = `calls from helper functions are nested more than ${CALL_STATE.maxDepth} deep`;
    throw new ArgumentError('A-DEPTH', message);
  }
  const inner: Running = { depth, outer, owner, requireIntact: watchBuffers(args) };
  stateWords()[depth] = 0;
  innermost = inner;
  const r0 = call();
  innermost = outer;
  if (stateWords()[depth] === 0) return r0;
  if (inner.failure) throw inner.failure.error;
  throw new ArgumentError('A-HELPER', 'a helper function was not run to its end');
}

function answer(r1: bigint, r2: bigint, r3: bigint, r4: bigint, r5: bigint, number: bigint): bigint {
  const call = running()!;
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
    stateWords()[call.depth] = 0;
    return result;
  } catch (error) {
    call.failure = { error };
    return 0n;
  }
}

// An ArrayBuffer's memory never moves, and this one is never given up.
const stateWords = (): Uint32Array => (state ??= new Uint32Array(new ArrayBuffer(4 * CALL_STATE.words)));
export const stateAddress = (): bigint => libc().addressOf(new Uint8Array(stateWords().buffer));
export const dispatchAddress = (): bigint => (dispatch ??= libc().callback(answer));
