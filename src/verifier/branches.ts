// Which ways out of a conditional jump are possible, and what each of them tells.

import type { Instruction } from '../bpf/program.js';
import { OPPOSITE } from './compare.js';
import type { Scalar } from './scalars.js';
import * as scalars from './scalars.js';
import { fork, numbersIn, replaceEverywhere, type State, topOf } from './states.js';
import { immediateOf, Lazy, Pointer, type Region, type Value } from './values.js';

export type Comparison =
  /** Of two numbers, or of two offsets in one region. */
  | {
      readonly kind: 'numbers';
      readonly op: string;
      readonly bits: number;
      readonly a: Lazy;
      readonly b: Lazy;
    }
  /** Of a pointer that is certainly not 0 with 0. */
  | { readonly kind: 'decided'; readonly taken: boolean }
  /** Of addresses, of which nothing is known. */
  | { readonly kind: 'opaque' };

/** What a conditional jump compares; its operands are initialised. */
export function comparisonOf(instruction: Instruction, state: State): Comparison {
  const { row, dst, src } = instruction;
  const { registers } = topOf(state);
  const a = registers[dst] as Value;
  const b = row.source === 'reg' ? (registers[src] as Value) : immediateOf(instruction);
  const { op, bits } = row;
  if (a instanceof Lazy && b instanceof Lazy) return { kind: 'numbers', op, bits, a, b };
  if (bits !== 64) return { kind: 'opaque' };
  const equality = op === 'jeq' || op === 'jne';
  if (a instanceof Pointer && b instanceof Pointer) {
    if (a.region !== b.region) return { kind: 'opaque' };
    const [x, y] = [a.offset, b.offset];
    if (equality) return { kind: 'numbers', op, bits, a: x, b: y };
    // Addresses are ordered as offsets are only where neither lies outside of the region; offsets are signed.
    const order = SIGNED_ORDER[op];
    if (!order || !inside(a, state) || !inside(b, state)) return { kind: 'opaque' };
    return { kind: 'numbers', op: order, bits, a: x, b: y };
  }
  const [pointer, number] = a instanceof Pointer ? [a, b as Lazy] : [b as Pointer, a];
  if (equality && isZero(number) && inside(pointer, state) && !mayBeEmpty(pointer, state))
    return { kind: 'decided', taken: op === 'jne' };
  return { kind: 'opaque' };
}

/** The comparison of signed numbers in the place of one of unsigned numbers. */
const SIGNED_ORDER: Readonly<Record<string, string>> = {
  jgt: 'jsgt',
  jge: 'jsge',
  jlt: 'jslt',
  jle: 'jsle',
};

/**
 * Whether a pointer leads into its region, or just past it, so that its address does not wrap. Past the end of a
 * buffer it may lead as far as no address wraps: that is how its end is looked for.
 */
function inside({ region, offset }: Pointer, state: State): boolean {
  const { s } = offset.known.whole;
  const within = s.min >= region.start && s.max <= (isBuffer(region, state) ? MAX_REACH : endOf(region));
  if (within) offset.need();
  return within;
}

const isBuffer = ({ arg }: Region, state: State) => arg >= 0 && state.lengths[arg] !== undefined;

/** The address of a buffer of no bytes is 0. */
const mayBeEmpty = ({ region }: Pointer, state: State): boolean =>
  isBuffer(region, state) && state.lengths[region.arg]!.need().whole.u.min === 0n;

const endOf = (region: Region) => region.start + region.bytes;

function isZero(number: Lazy): boolean {
  const zero = number.known.whole.u.max === 0n;
  if (zero) number.need();
  return zero;
}

/** The states in which a jump is taken and not taken; undefined for a way that no run goes. Both may be. */
export interface Ways {
  readonly taken: State | undefined;
  readonly next: State | undefined;
}

/** Splits a state at a conditional jump. The state given is used up. */
export function branch(instruction: Instruction, state: State): Ways {
  const comparison = comparisonOf(instruction, state);
  if (comparison.kind === 'decided') {
    return comparison.taken ? { taken: state, next: undefined } : { taken: undefined, next: state };
  }
  if (comparison.kind === 'opaque') return { taken: fork(state), next: state };
  const { op, bits, a, b } = comparison;
  const taken = assume(op, bits, a, b);
  const next = assume(OPPOSITE[op]!, bits, a, b);
  const opposite = OPPOSITE[op]!;
  if (taken && next) {
    const other = fork(state);
    relate(other, op, bits, a, b);
    relate(state, opposite, bits, a, b);
    return { taken: learn(other, a, b, taken), next: learn(state, a, b, next) };
  }
  a.need();
  b.need();
  relate(state, taken ? op : opposite, bits, a, b);
  return { taken: taken && learn(state, a, b, taken), next: next && learn(state, a, b, next) };
}

/** How the two sides of an order compare: the smaller one first. */
const ORDERS: Readonly<Record<string, { readonly swap: boolean; readonly strict: boolean }>> = {
  jle: { swap: false, strict: false },
  jlt: { swap: false, strict: true },
  jge: { swap: true, strict: false },
  jgt: { swap: true, strict: true },
  jsle: { swap: false, strict: false },
  jslt: { swap: false, strict: true },
  jsge: { swap: true, strict: false },
  jsgt: { swap: true, strict: true },
};

/** Notes how far a number reaches in a buffer, if it was compared with the buffer's length or end. */
function relate(state: State, op: string, bits: number, a: Lazy, b: Lazy): void {
  const order = ORDERS[op];
  if (!order || bits !== 64) return;
  const [less, more] = order.swap ? [b, a] : [a, b];
  state.lengths.forEach((length, arg) => {
    if (!length || more.link.origin !== length.link.origin || less.link.origin === length.link.origin) return;
    // Only where neither number has wrapped do they compare as integers do.
    const [{ s: least }, { s: most }] = [less.need().whole, more.need().whole];
    if (most.min < 0n || most.max > MAX_REACH || (op.startsWith('js') && least.min < -MAX_REACH)) return;
    const { origin, plus } = less.track().link;
    const upTo = plus - (more.link.plus - length.link.plus) + (order.strict ? 1 : 0);
    state.reaches = [...state.reaches.slice(1 - MAX_REACHES), { arg, origin, upTo }];
  });
}

/** The latest are kept: in a loop that is walked round by round there are ever more. */
const MAX_REACHES = 32;

/** Addresses of user space are below 2^56, so what is added to one below this does not wrap. */
const MAX_REACH = 1n << 33n;

type Learnt = readonly [Scalar, Scalar];

/** A number compared with itself is decided without knowing it. */
function assume(op: string, bits: number, a: Lazy, b: Lazy): Learnt | undefined {
  if (a === b && IRREFLEXIVE.has(op)) return undefined;
  return scalars.assume(op, bits, a.known, b.known);
}

const IRREFLEXIVE = new Set(['jne', 'jgt', 'jlt', 'jsgt', 'jslt']);

function learn(state: State, a: Lazy, b: Lazy, [x, y]: Learnt): State {
  learnOf(state, a, x, a, b);
  if (a !== b) learnOf(state, b, y, a, b);
  return state;
}

function learnOf(state: State, number: Lazy, known: Scalar, a: Lazy, b: Lazy): void {
  if (scalars.equal(known, number.known)) return;
  const sharper = Lazy.sharper(number, known, a, b);
  const replaced = new Map([[number, sharper]]);
  if (number.hasRelatives) {
    const { origin, plus } = number.link;
    for (const other of numbersIn(state)) {
      const { link } = other;
      if (other === number || link.origin !== origin) continue;
      const by = scalars.constant(BigInt(link.plus) - BigInt(plus));
      const follow = (before: Scalar, of: Scalar) =>
        scalars.intersect(before, scalars.aluWhole('add', of, by)) ?? before;
      replaced.set(other, Lazy.from(follow, other, sharper).linked(link));
    }
  }
  replaceEverywhere(state, replaced);
}
