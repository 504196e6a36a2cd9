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
    if (!order || !inside(a) || !inside(b)) return { kind: 'opaque' };
    return { kind: 'numbers', op: order, bits, a: x, b: y };
  }
  const [pointer, number] = a instanceof Pointer ? [a, b as Lazy] : [b as Pointer, a];
  if (equality && isZero(number) && inside(pointer)) return { kind: 'decided', taken: op === 'jne' };
  return { kind: 'opaque' };
}

/** The comparison of signed numbers in the place of one of unsigned numbers. */
const SIGNED_ORDER: Readonly<Record<string, string>> = {
  jgt: 'jsgt',
  jge: 'jsge',
  jlt: 'jslt',
  jle: 'jsle',
};

/** Whether a pointer leads into its region, or just past it: then its address is not 0 and does not wrap. */
function inside({ region, offset }: Pointer): boolean {
  const { s } = offset.known.whole;
  const within = s.min >= region.start && s.max <= endOf(region);
  if (within) offset.need();
  return within;
}

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
  if (taken && next) {
    return { taken: learn(fork(state), a, b, taken), next: learn(state, a, b, next) };
  }
  a.need();
  b.need();
  return { taken: taken && learn(state, a, b, taken), next: next && learn(state, a, b, next) };
}

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
