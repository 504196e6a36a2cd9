// What each instruction requires of the state before it, as data; and the check of each requirement.

import type { Contract, HelperSpec } from '../bpf/contract.js';
import { MAX_FRAMES, type Row, STACK_BYTES } from '../bpf/isa.js';
import type { Instruction } from '../bpf/program.js';
import { MAX_U64 } from '../bytes.js';
import { comparisonOf } from './branches.js';
import { Rejection, withSign } from './report.js';
import * as stack from './stack.js';
import { type State, topOf } from './states.js';
import { offsetsOf, Pointer, type Region, type Value } from './values.js';
import { firstMissing } from './written.js';

/** Which register of an instruction; `r0` is that of a compare-and-exchange. */
type Operand = 'dst' | 'src' | 'r0';

export type Requirement =
  /** The register holds something. */
  | { readonly kind: 'initialised'; readonly operand: Operand }
  /** It holds a number, and not an address, for this use. */
  | { readonly kind: 'number'; readonly operand: Operand; readonly use: string }
  /** A pointer and a number may be added; subtracted may be also two pointers into one region. */
  | { readonly kind: 'pointer arithmetic' }
  | { readonly kind: 'comparable' }
  /** The bytes at register + off may be read, written, or both (by an atomic operation, then aligned). */
  | { readonly kind: 'access'; readonly operand: Operand; readonly action: Action }
  | { readonly kind: 'aligned'; readonly operand: Operand }
  /** An address in `src` stays on the stack. */
  | { readonly kind: 'kept' }
  | { readonly kind: 'callable' }
  | { readonly kind: 'returnable' };

type Action = 'read' | 'write' | 'atomic';

const requirements: (readonly Requirement[])[] = [];

/** What every instruction of a row requires. */
export function requirementsOf(row: Row): readonly Requirement[] {
  return row.number < 0 ? NOTHING : (requirements[row.number] ??= makeRequirements(row));
}

const NOTHING: readonly Requirement[] = [];

function makeRequirements(row: Row): Requirement[] {
  const operands: Operand[] = row.source === 'reg' ? ['dst', 'src'] : ['dst'];
  switch (row.kind) {
    case 'alu':
      if (row.op === 'mov') {
        if (row.source === 'imm') return [];
        const part = row.bits === 64 && row.signExtend === 0 ? [] : [number('src', 'a move of a part of it')];
        return [...initialised('src'), ...part];
      }
      if (row.bits === 64 && (row.op === 'add' || row.op === 'sub')) {
        return [...initialised(...operands), ...(row.source === 'imm' ? [] : [POINTER_ARITHMETIC])];
      }
      return [...initialised(...operands), ...operands.map((operand) => number(operand, row.name))];
    case 'endian':
      return [...initialised('dst'), number('dst', row.name)];
    case 'load':
      return [access('src', 'read')];
    case 'store':
      return [...(row.source === 'reg' ? storable(row.size) : []), access('dst', 'write')];
    case 'atomic':
      return atomicRequirements(row);
    case 'jump':
      return [...initialised(...operands), { kind: 'comparable' }];
    case 'call':
      return [{ kind: 'callable' }];
    case 'exit':
      return [{ kind: 'returnable' }];
    default:
      return [];
  }
}

const POINTER_ARITHMETIC: Requirement = { kind: 'pointer arithmetic' };
const initialised = (...operands: Operand[]): Requirement[] =>
  operands.map((operand) => ({ kind: 'initialised', operand }));
const number = (operand: Operand, use: string): Requirement => ({ kind: 'number', operand, use });
const access = (operand: Operand, action: Action): Requirement => ({ kind: 'access', operand, action });

function storable(size: number): Requirement[] {
  const kept: Requirement = size === 8 ? { kind: 'kept' } : number('src', `a store of ${size} of its bytes`);
  return [...initialised('src'), kept];
}

function atomicRequirements({ op, size }: Row): Requirement[] {
  const aligned = (operand: Operand): Requirement => ({ kind: 'aligned', operand });
  if (op === 'load_acquire') return [access('src', 'read'), aligned('src')];
  if (op === 'store_release') return [...storable(size), access('dst', 'write'), aligned('dst')];
  const numbers: Operand[] = op === 'cmpxchg' ? ['src', 'r0'] : ['src'];
  return [
    ...initialised(...numbers),
    ...numbers.map((operand) => number(operand, 'an atomic operation')),
    access('dst', 'atomic'),
    aligned('dst'),
  ];
}

/** The register that a requirement is about. */
export function registerOf(operand: Operand, instruction: Instruction): number {
  return operand === 'dst' ? instruction.dst : operand === 'src' ? instruction.src : 0;
}

/** @throws Rejection if the state does not meet the requirement for every run */
export function check(
  requirement: Requirement,
  instruction: Instruction,
  state: State,
  contract: Contract,
): void {
  const leaks = contract.allowPointerLeaks === true;
  switch (requirement.kind) {
    case 'initialised':
      heldIn(state, registerOf(requirement.operand, instruction));
      return;
    case 'number': {
      const register = registerOf(requirement.operand, instruction);
      if (!leaks && heldIn(state, register) instanceof Pointer)
        throw leak(`r${register} holds an address, and ${requirement.use} makes a number of it`);
      return;
    }
    case 'pointer arithmetic':
      if (!leaks) checkPointerArithmetic(instruction, state);
      return;
    case 'comparable':
      if (!leaks && comparisonOf(instruction, state).kind === 'opaque')
        throw leak(
          'this comparison tells something about an address; only pointers that are certainly within the same memory can be compared, or one with 0 where the memory cannot be empty',
        );
      return;
    case 'access':
      checkAccess(accessOf(requirement, instruction), state, leaks);
      return;
    case 'aligned':
      checkAligned(requirement.operand, instruction, state);
      return;
    case 'kept': {
      const to = heldIn(state, instruction.dst);
      const stored = heldIn(state, instruction.src);
      if (!leaks && to instanceof Pointer && to.region.frame < 0 && stored instanceof Pointer)
        throw leak(`r${instruction.src} holds an address, which would be stored in ${to.region.name}`);
      return;
    }
    case 'callable':
      checkCall(instruction, state, contract, leaks);
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

function checkPointerArithmetic({ row: { op }, dst, src }: Instruction, state: State): void {
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

function notPointer(state: State, register: number, what: string): Rejection {
  heldIn(state, register);
  return new Rejection('V-NOT-POINTER', `${what} at r${register}, which holds a number and not an address`);
}

interface Access {
  readonly register: number;
  readonly off: number;
  readonly size: number;
  readonly action: Action;
  /** A helper function sees single bytes, so that no part of an address may be among them. */
  readonly byHelper: boolean;
}

const accessOf = (
  { operand, action }: Requirement & { kind: 'access' },
  instruction: Instruction,
): Access => ({
  register: registerOf(operand, instruction),
  off: instruction.off,
  size: instruction.row.size,
  action,
  byHelper: false,
});

function checkAccess(access: Access, state: State, leaks: boolean): void {
  const { register, off, size, action } = access;
  const pointer = topOf(state).registers[register];
  if (!(pointer instanceof Pointer)) throw notPointer(state, register, accessText(access));
  const { region } = pointer;
  if (region.access === 'read' && action !== 'read')
    throw new Rejection('V-READ-ONLY', `${accessText(access)} of ${region.name}, which may only be read`);
  if (region.access === 'write' && action !== 'write')
    throw new Rejection('V-WRITE-ONLY', `${accessText(access)} of ${region.name}, which may only be written`);
  const { first, last } = offsetsOf(pointer, off);
  if (state.lengths[region.arg]) checkReach(pointer, access, state);
  else if (first < region.start || last + size > region.start + region.bytes)
    throw outOfBounds(pointer, access);
  if (action !== 'write' && region.frame >= 0) checkStackRead(state, region, first, last, access, leaks);
}

/** In a buffer, whose length is known by comparisons only. */
function checkReach(pointer: Pointer, access: Access, state: State): void {
  const { region, offset } = pointer;
  const { off, size, action } = access;
  const { first, last } = offsetsOf(pointer, off);
  const certain = Number(state.lengths[region.arg]!.need().whole.u.min);
  if (first >= 0 && last + size <= certain) return;
  const { origin, plus } = offset.link;
  const reaches = state.reaches.some(
    (reach) => reach.arg === region.arg && reach.origin === origin && plus + off + size <= reach.upTo,
  );
  if (first >= 0 && last <= MAX_OFFSET && reaches) return;
  if (first < 0) throw outOfBounds(pointer, access);
  const code = action === 'read' ? 'V-OOB-READ' : 'V-OOB-WRITE';
  const place = `${accessText(access)} at ${region.base}${withSign(BigInt(first))}..${last + size}`;
  throw new Rejection(
    code,
    `${place} may reach past the end of ${region.name}, of which ${certain} bytes are known to be there; compare with its end or length first`,
  );
}

/** Far below where addresses wrap. */
const MAX_OFFSET = 2 ** 33;

function accessText({ action, size, byHelper, register }: Access): string {
  if (byHelper) return `the helper function's ${size}-byte ${action} through r${register}`;
  return action === 'atomic' ? `${size}-byte atomic operation` : `${size}-byte ${action}`;
}

function outOfBounds({ region, offset }: Pointer, access: Access): Rejection {
  const { off, size, action } = access;
  const { s } = offset.need().whole;
  const first = s.min + BigInt(off);
  const end = s.max + BigInt(off + size);
  const below = first < region.start;
  const above = end > region.start + region.bytes;
  const certainly = below ? 'begins before' : 'reaches past';
  const possibly = below && above ? 'lie outside of' : below ? 'begin before' : 'reach past';
  const where = s.min === s.max ? certainly : `may ${possibly}`;
  const code = action === 'read' ? 'V-OOB-READ' : 'V-OOB-WRITE';
  const place = `${accessText(access)} at ${region.base}${withSign(first)}..${end}`;
  return new Rejection(code, `${place} ${where} the ${region.bytes} bytes of ${region.name}`);
}

function checkStackRead(
  state: State,
  region: Region,
  first: number,
  last: number,
  access: Access,
  leaks: boolean,
): void {
  const { size, action, byHelper } = access;
  const contents = state.frames[region.frame]!.stack;
  const at = first + STACK_BYTES;
  const scattered = first !== last || action === 'atomic' || byHelper;
  const flaw = stack.flaw(contents, at, last - first + size, scattered);
  if (!flaw || (flaw.what === 'pointer' && leaks)) return;
  const what = accessText(access);
  const byte = `r10-${STACK_BYTES - flaw.at}`;
  if (flaw.what === 'uninitialised')
    throw new Rejection(
      'V-UNINIT-STACK',
      `${what} of ${region.name}, where byte ${byte} was not written on this path`,
    );
  throw leak(`${what} of ${region.name}, where byte ${byte} may be part of an address`);
}

/** Frames and data begin at multiples of 8, and arguments' memory where the contract does not say otherwise. */
function checkAligned(operand: Operand, instruction: Instruction, state: State): void {
  const { row, off } = instruction;
  const { size } = row;
  const pointer = topOf(state).registers[registerOf(operand, instruction)] as Pointer;
  const { t } = pointer.offset.need().whole;
  const possible = ((t.value + BigInt(off)) | t.mask) & BigInt(size - 1);
  const { align = 8, name } = pointer.region;
  if (align < size)
    throw new Rejection(
      'V-ALIGN',
      `a ${size}-byte atomic operation on ${name}, which by the contract is aligned to ${align} only`,
    );
  if (possible === 0n) return;
  throw new Rejection(
    'V-ALIGN',
    `a ${size}-byte atomic operation needs an offset that is certainly a multiple of ${size}`,
  );
}

function checkCall({ row, imm }: Instruction, state: State, contract: Contract, leaks: boolean): void {
  if (row.op === 'helper') {
    const spec = contract.helpers?.[imm];
    if (!spec) throw new Rejection('V-HELPER', `helper function ${imm} is not declared in the contract`);
    for (const [i, arg] of spec.args.entries()) checkHelperArg(arg, i + 1, imm, state, leaks);
    return;
  }
  if (state.frames.length >= MAX_FRAMES)
    throw new Rejection(
      'V-CALL',
      `local calls may be nested ${MAX_FRAMES} frames deep, and this is one more`,
    );
}

function checkHelperArg(
  arg: HelperSpec['args'][number],
  register: number,
  helper: number,
  state: State,
  leaks: boolean,
): void {
  if (arg.kind === 'memory') {
    const access = { register, off: 0, size: arg.bytes, byHelper: true };
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
