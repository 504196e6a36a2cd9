// What each instruction requires of the state before it, as data; and the check of each requirement.

import type { ArgSpec, Contract } from '../bpf/contract.js';
import { MAX_FRAMES, STACK_BYTES } from '../bpf/isa.js';
import type { Instruction } from '../bpf/program.js';
import { MAX_U64 } from '../bytes.js';
import { comparisonOf } from './branches.js';
import { Rejection, withSign } from './report.js';
import * as stack from './stack.js';
import { type State, topOf } from './states.js';
import { offsetsOf, Pointer, type Region, type Value } from './values.js';
import { firstMissing } from './written.js';

export type Requirement =
  /** The register holds something. */
  | { readonly kind: 'initialised'; readonly register: number }
  /** It holds a number, and not an address, for this use. */
  | { readonly kind: 'number'; readonly register: number; readonly use: string }
  /** A pointer and a number may be added; subtracted may be also two pointers into one region. */
  | { readonly kind: 'pointer arithmetic'; readonly op: string; readonly dst: number; readonly src: number }
  | { readonly kind: 'comparable'; readonly instruction: Instruction }
  /** `size` bytes at register + off may be read, written, or both (by an atomic operation, then aligned). */
  | {
      readonly kind: 'access';
      readonly register: number;
      readonly off: number;
      readonly size: number;
      readonly action: Action;
      /** Whether addresses that are read get out: a helper function sees single bytes. */
      readonly shown?: boolean;
    }
  | { readonly kind: 'aligned'; readonly register: number; readonly off: number; readonly size: number }
  /** An address in `register` stays on the stack. */
  | { readonly kind: 'kept'; readonly register: number; readonly base: number }
  | { readonly kind: 'callable'; readonly helper: number | undefined }
  | { readonly kind: 'returnable' };

type Action = 'read' | 'write' | 'atomic';

export function requirementsOf(instruction: Instruction): Requirement[] {
  const { row, dst, src, off, imm } = instruction;
  const initialised = (...registers: number[]): Requirement[] =>
    registers.map((register) => ({ kind: 'initialised', register }));
  const access = (register: number, action: Action): Requirement => {
    return { kind: 'access', register, off, size: row.size, action };
  };
  const operands = row.source === 'reg' ? [dst, src] : [dst];
  switch (row.kind) {
    case 'alu':
      if (row.op === 'mov') {
        if (row.source === 'imm') return [];
        const part = row.bits === 64 && row.signExtend === 0 ? [] : [number(src, 'a move of a part of it')];
        return [...initialised(src), ...part];
      }
      if (row.bits === 64 && (row.op === 'add' || row.op === 'sub')) {
        if (row.source === 'imm') return initialised(dst);
        return [...initialised(dst, src), { kind: 'pointer arithmetic', op: row.op, dst, src }];
      }
      return [...initialised(...operands), ...operands.map((register) => number(register, row.name))];
    case 'endian':
      return [...initialised(dst), number(dst, row.name)];
    case 'load':
      return [access(src, 'read')];
    case 'store':
      return [...(row.source === 'reg' ? storable(src, dst, row.size) : []), access(dst, 'write')];
    case 'atomic':
      return atomicRequirements(instruction, access);
    case 'jump':
      return [...initialised(...operands), { kind: 'comparable', instruction }];
    case 'call':
      return [{ kind: 'callable', helper: row.op === 'helper' ? imm : undefined }];
    case 'exit':
      return [{ kind: 'returnable' }];
    default:
      return [];
  }
}

const number = (register: number, use: string): Requirement => ({ kind: 'number', register, use });

function storable(register: number, base: number, size: number): Requirement[] {
  const kept: Requirement =
    size === 8 ? { kind: 'kept', register, base } : number(register, `a store of ${size} of its bytes`);
  return [{ kind: 'initialised', register }, kept];
}

function atomicRequirements(
  { row, dst, src, off }: Instruction,
  access: (register: number, action: Action) => Requirement,
): Requirement[] {
  const register = row.op === 'load_acquire' ? src : dst;
  const aligned: Requirement = { kind: 'aligned', register, off, size: row.size };
  if (row.op === 'load_acquire') return [access(src, 'read'), aligned];
  if (row.op === 'store_release') return [...storable(src, dst, row.size), access(dst, 'write'), aligned];
  const numbers = row.op === 'cmpxchg' ? [src, 0] : [src];
  return [
    ...numbers.map((register): Requirement => ({ kind: 'initialised', register })),
    ...numbers.map((register) => number(register, 'an atomic operation')),
    access(dst, 'atomic'),
    aligned,
  ];
}

/** @throws Rejection if the state does not meet the requirement for every run */
export function check(requirement: Requirement, state: State, contract: Contract): void {
  const leaks = contract.allowPointerLeaks === true;
  switch (requirement.kind) {
    case 'initialised':
      heldIn(state, requirement.register);
      return;
    case 'number': {
      const { register, use } = requirement;
      if (!leaks && heldIn(state, register) instanceof Pointer)
        throw leak(`r${register} holds an address, and ${use} makes a number of it`);
      return;
    }
    case 'pointer arithmetic':
      if (!leaks) checkPointerArithmetic(requirement, state);
      return;
    case 'comparable':
      if (!leaks && comparisonOf(requirement.instruction, state).kind === 'opaque')
        throw leak(
          'this comparison tells something about an address; only pointers into the same memory can be compared, or one with 0',
        );
      return;
    case 'access':
      checkAccess(requirement, state, leaks);
      return;
    case 'aligned':
      checkAligned(requirement, state);
      return;
    case 'kept': {
      const { register, base } = requirement;
      const to = heldIn(state, base);
      if (
        !leaks &&
        to instanceof Pointer &&
        to.region.frame < 0 &&
        heldIn(state, register) instanceof Pointer
      )
        throw leak(`r${register} holds an address, which would be stored in ${to.region.name}`);
      return;
    }
    case 'callable':
      checkCall(requirement.helper, state, contract, leaks);
      return;
    case 'returnable':
      checkReturn(state, contract, leaks);
  }
}

const leak = (what: string) =>
  new Rejection('V-LEAK', `${what} (the contract may allow this: allowPointerLeaks)`);

function heldIn(state: State, register: number): Value {
  const value = topOf(state).registers[register];
  if (value) return value;
  throw new Rejection('V-UNINIT-REG', `r${register} is read, but nothing was written to it on this path`);
}

function checkPointerArithmetic(
  { op, dst, src }: { op: string; dst: number; src: number },
  state: State,
): void {
  const a = heldIn(state, dst);
  const b = heldIn(state, src);
  if (!(b instanceof Pointer)) return;
  if (op === 'add' && !(a instanceof Pointer)) return;
  if (op === 'sub' && a instanceof Pointer && a.region === b.region) return;
  const rule =
    op === 'add'
      ? 'two addresses cannot be added'
      : 'an address can be subtracted only from one into the same memory';
  throw new Rejection('V-POINTER-ARITH', `${rule}: r${dst} and r${src}`);
}

function pointerAt(state: State, register: number, what: string): Pointer {
  const value = heldIn(state, register);
  if (value instanceof Pointer) return value;
  throw new Rejection('V-NOT-POINTER', `${what} at r${register}, which holds a number and not an address`);
}

interface Place {
  readonly register: number;
  readonly off: number;
  readonly size: number;
}

function checkAccess(requirement: Requirement & { kind: 'access' }, state: State, leaks: boolean): void {
  const { register, off, size, action, shown = false } = requirement;
  const what = action === 'atomic' ? `${size}-byte atomic operation` : `${size}-byte ${action}`;
  const pointer = pointerAt(state, register, what);
  const { region } = pointer;
  if (region.access === 'read' && action !== 'read')
    throw new Rejection('V-READ-ONLY', `${what} of ${region.name}, which may only be read`);
  if (region.access === 'write' && action !== 'write')
    throw new Rejection('V-WRITE-ONLY', `${what} of ${region.name}, which may only be written`);
  const { first, last } = offsetsOf(pointer, off);
  if (first < region.start || last + BigInt(size) > region.start + region.bytes)
    throw outOfBounds(requirement, what, pointer);
  if (action !== 'write' && region.frame >= 0)
    checkStackRead(state, region, { first, last, size }, action === 'atomic' || shown, what, leaks);
}

function outOfBounds(requirement: Requirement & { kind: 'access' }, what: string, to: Pointer): Rejection {
  const { size, action, off } = requirement;
  const { region } = to;
  const { first, last } = offsetsOf(to, off);
  const end = last + BigInt(size);
  const below = first < region.start;
  const above = end > region.start + region.bytes;
  const certainly = below ? 'begins before' : 'reaches past';
  const possibly = below && above ? 'lie outside of' : below ? 'begin before' : 'reach past';
  const where = first === last ? certainly : `may ${possibly}`;
  const code = action === 'read' ? 'V-OOB-READ' : 'V-OOB-WRITE';
  const place = `${region.base}${withSign(first)}..${end}`;
  return new Rejection(code, `${what} at ${place} ${where} the ${region.bytes} bytes of ${region.name}`);
}

function checkStackRead(
  state: State,
  region: Region,
  { first, last, size }: { first: bigint; last: bigint; size: number },
  inPieces: boolean,
  what: string,
  leaks: boolean,
): void {
  const contents = state.frames[region.frame]!.stack;
  const at = Number(first) + STACK_BYTES;
  const scattered = first !== last || inPieces;
  const flaw = stack.flaw(contents, at, Number(last - first) + size, scattered);
  if (!flaw || (flaw.what === 'pointer' && leaks)) return;
  const byte = `r10-${STACK_BYTES - flaw.at}`;
  if (flaw.what === 'uninitialised')
    throw new Rejection(
      'V-UNINIT-STACK',
      `${what} of ${region.name}, where byte ${byte} was not written on this path`,
    );
  throw leak(`${what} of ${region.name}, where byte ${byte} may be part of an address`);
}

/** Regions of every kind begin at multiples of 8. */
function checkAligned({ register, off, size }: Place, state: State): void {
  const { t } = pointerAt(state, register, 'atomic operation').offset.need().whole;
  const possible = ((t.value + BigInt(off)) | t.mask) & BigInt(size - 1);
  if (possible === 0n) return;
  throw new Rejection(
    'V-ALIGN',
    `a ${size}-byte atomic operation needs an offset that is certainly a multiple of ${size}`,
  );
}

function checkCall(helper: number | undefined, state: State, contract: Contract, leaks: boolean): void {
  if (helper !== undefined) {
    const spec = contract.helpers?.[helper];
    if (!spec) throw new Rejection('V-HELPER', `helper function ${helper} is not declared in the contract`);
    for (const [i, arg] of spec.args.entries()) checkHelperArg(arg, i + 1, helper, state, leaks);
    return;
  }
  if (state.frames.length >= MAX_FRAMES)
    throw new Rejection(
      'V-CALL',
      `local calls may be nested ${MAX_FRAMES} frames deep, and this is one more`,
    );
}

function checkHelperArg(arg: ArgSpec, register: number, helper: number, state: State, leaks: boolean): void {
  if (arg.kind === 'memory') {
    const access = { kind: 'access', register, off: 0, size: arg.bytes, shown: true } as const;
    if (arg.access !== 'write') checkAccess({ ...access, action: 'read' }, state, leaks);
    if (arg.access !== 'read') checkAccess({ ...access, action: 'write' }, state, leaks);
    return;
  }
  const { min = 0n, max = MAX_U64 } = arg;
  const value = heldIn(state, register);
  if (value instanceof Pointer && !leaks)
    throw leak(`r${register} holds an address, and helper function ${helper} takes a number there`);
  if (min === 0n && max === MAX_U64) return;
  const { u } = value instanceof Pointer ? { u: { min: 0n, max: MAX_U64 } } : value.need().whole;
  if (u.min >= min && u.max <= max) return;
  throw new Rejection(
    'V-HELPER-ARG',
    `r${register} may be ${u.min} to ${u.max}, and helper function ${helper} takes ${min} to ${max} there`,
  );
}

function checkReturn(state: State, contract: Contract, leaks: boolean): void {
  if (state.frames.length > 1) {
    const value = topOf(state).registers[0];
    if (value instanceof Pointer && value.region.frame === state.frames.length - 1)
      throw new Rejection('V-CALL', 'r0 holds an address on the stack of the function that returns');
    return;
  }
  const value = heldIn(state, 0);
  if (!leaks && value instanceof Pointer) throw leak('r0 holds an address when the program ends');
  state.written.forEach((bytes, arg) => {
    const spec = contract.args[arg];
    const missing = bytes && spec?.kind === 'memory' ? firstMissing(bytes, spec.bytes) : -1;
    if (missing >= 0)
      throw new Rejection(
        'V-UNWRITTEN',
        `byte ${missing} of r${arg + 1}'s memory has not been written on every way here`,
      );
  });
}
