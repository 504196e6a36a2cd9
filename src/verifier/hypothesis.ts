// What is supposed of a loop: how each place changes from round to round. It is tried on all paths through the loop
// and weakened until they confirm it.

import { numberOf, type Place } from './places.js';
import type { Scalar } from './scalars.js';
import * as scalars from './scalars.js';
import { fork, numbersIn, type State } from './states.js';
import { during, type Line } from './trips.js';
import { Lazy, Pointer, type Value } from './values.js';

export type Role =
  /** It stays as it was when the loop was entered. */
  | { readonly kind: 'same' }
  /** It moves by the same step with every round. */
  | { readonly kind: 'line'; readonly line: Line }
  /** It holds some number of these, or a pointer at some offset of these. */
  | { readonly kind: 'any'; readonly known: Scalar; readonly widened: number }
  /** It may not be read. */
  | { readonly kind: 'gone' };

export interface Hypothesis {
  readonly roles: ReadonlyMap<Place, Role>;
  /** The comparisons that every round but the last passes, and the last round that can. */
  readonly tests: ReadonlyMap<string, bigint>;
  /** No later round comes to the head of the loop, counted from 0. */
  readonly lastRound: bigint;
}

/** The state at the head of a loop, for all rounds. */
export interface Head {
  readonly state: State;
  /** The numbers on lines, and those that stay as they were, by their origins. */
  readonly lines: Map<Lazy, Line>;
  /** Those, and the numbers of which only a range is known. */
  readonly origins: ReadonlyMap<Lazy, unknown>;
  /** Whether any number is on a line that moves. */
  readonly moves: boolean;
}

const SAME: Role = { kind: 'same' };
const GONE: Role = { kind: 'gone' };

export const roleOf = ({ roles }: Hypothesis, place: Place): Role => roles.get(place) ?? SAME;

export function headOf(entry: State, places: readonly Place[], hypothesis: Hypothesis): Head {
  const state = fork(entry);
  state.reaches = [];
  const lines = new Map<Lazy, Line>();
  const others: Lazy[] = [];
  let moves = false;
  for (const place of places) {
    const role = roleOf(hypothesis, place);
    if (role.kind === 'gone') place.put(state, undefined);
    if (role.kind === 'gone' || !place.entry) continue;
    const start = numberOf(place.entry);
    if (role.kind === 'same') {
      for (const origin of [start.track().link.origin, start.lowLink.origin])
        lines.set(origin, { start: origin, step: 0n, bits: 64 });
      continue;
    }
    const known = role.kind === 'line' ? during(role.line, hypothesis.lastRound) : role.known;
    const number = Lazy.learnt(known, start, start).track();
    if (role.kind === 'line') {
      lines.set(number, role.line);
      moves = true;
    } else others.push(number);
    place.put(state, place.entry instanceof Pointer ? new Pointer(place.entry.region, number) : number);
  }
  // What no place shows whole, as a number scattered over bytes of the stack, stays as it was, too.
  for (const number of numbersIn(state))
    for (const origin of [number.track().link.origin, number.lowLink.origin])
      if (!lines.has(origin) && !others.includes(origin))
        lines.set(origin, { start: origin, step: 0n, bits: 64 });
  const origins = new Map<Lazy, unknown>([...lines, ...others.map((number) => [number, undefined] as const)]);
  return { state, lines, origins, moves };
}

/** The role of a place that fits what all paths back to the head brought; the one it had if that does. */
export function roleAfter(
  place: Place,
  role: Role,
  head: State,
  backs: readonly State[],
  thresholds: readonly bigint[],
): Role {
  if (role.kind === 'gone' || (role.kind === 'same' && backs.every(place.unchanged))) return role;
  const { entry } = place;
  const now = entry && place.get(head);
  const after = backs.map((back) => place.get(back));
  if (!now || !after.every((value) => isAlike(now, value))) return GONE;
  const start = numberOf(now);
  const numbers = after.map((value) => numberOf(value as Value));
  if (role.kind !== 'any') {
    const step = commonStep(start, numbers, place.bytes);
    if (step?.by === 0 && role.kind === 'same') return role;
    if (step && step.by !== 0 && role.kind === 'same')
      return { kind: 'line', line: { start: numberOf(entry), step: BigInt(step.by), bits: step.bits } };
    if (step && role.kind === 'line' && role.line.bits === step.bits && role.line.step === BigInt(step.by))
      return role;
    return anyOf(numberOf(entry).need(), numbers);
  }
  if (scalars.includes(role.known, scalars.unknown())) return role;
  const all = numbers.map((number) => number.need()).reduce(scalars.union);
  if (scalars.includes(role.known, all)) return role;
  const both = scalars.union(role.known, all);
  const known = role.widened < UNIONS ? both : scalars.widen(role.known, both, thresholds);
  return { kind: 'any', known, widened: role.widened + 1 };
}

/** Rounds in which a place collects what it may hold, before it is widened. */
const UNIONS = 2;

/** The role of a place on a line that no test bounds. */
export function withoutLine(place: Place, role: Role, backs: readonly State[]): Role {
  if (role.kind !== 'line') return role;
  const numbers = backs.map((back) => numberOf(place.get(back)!));
  return anyOf(role.line.start.need(), numbers);
}

const anyOf = (start: Scalar, numbers: readonly Lazy[]): Role => ({
  kind: 'any',
  known: numbers.map((number) => number.known).reduce(scalars.union, start),
  widened: 0,
});

function isAlike(a: Value, b: Value | undefined): boolean {
  if (!b || a instanceof Pointer !== b instanceof Pointer) return false;
  return !(a instanceof Pointer) || a.region === (b as Pointer).region;
}

export interface Step {
  readonly by: number;
  /** 32: the low half moves, and the rest is 0 afterwards. */
  readonly bits: 32 | 64;
}

/** By how much a number differs from what it was at the head, where that is a constant whatever it was. */
export function stepOf(before: Lazy, after: Lazy, bytes: number): Step | undefined {
  if (bytes === 8) {
    const by = after.link.plus - before.link.plus;
    if (after.link.origin === before.link.origin && Number.isSafeInteger(by)) return { by, bits: 64 };
    if (scalars.isConstant(before.known) && scalars.equal(before.known, after.known)) {
      before.need();
      after.need();
      return { by: 0, bits: 64 };
    }
  }
  if (bytes !== 4 && !(bytes === 8 && isLow(after))) return undefined;
  if (after.lowLink.origin !== before.lowLink.origin) return undefined;
  const by = (after.lowLink.plus - before.lowLink.plus) | 0;
  if (by === 0 && bytes === 8 && !isLow(before)) return undefined;
  after.need();
  return { by, bits: 32 };
}

const isLow = (number: Lazy): boolean => {
  const low = number.known.whole.u.max < 1n << 32n;
  if (low) number.need();
  return low;
};

function commonStep(before: Lazy, after: readonly Lazy[], bytes: number): Step | undefined {
  const [first, ...others] = after.map((number) => stepOf(before, number, bytes));
  return first && others.every((step) => step?.by === first.by && step.bits === first.bits)
    ? first
    : undefined;
}
