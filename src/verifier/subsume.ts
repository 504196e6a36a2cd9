// Whether a state is one that was already looked at: wholly, or as far as the proof from there on depended on it.

import { REGISTERS, STACK_BYTES } from '../bpf/isa.js';
import type { Scalar } from './scalars.js';
import * as scalars from './scalars.js';
import { type Byte, Bytes, byteOf, EMPTY, type Slot, type Stack } from './stack.js';
import type { State } from './states.js';
import { type Lazy, type Link, Pointer, type Value } from './values.js';
import * as written from './written.js';

/**
 * Whether what was proven from `old` on holds from `state` on. Where it does, the numbers that the proof needed
 * become needed in `state` too.
 */
export function subsumes(old: State, state: State): boolean {
  const match = new Match(scalars.includes, (number) => number.needed);
  if (!match.states(old, state)) return false;
  match.markNeeded();
  return true;
}

/** Whether two states on one path are the same, so that a run may go round for ever. */
export function repeats(old: State, state: State): boolean {
  return new Match(scalars.equal, () => true).states(old, state);
}

/**
 * Whether an earlier state includes a later one, number by number, and all that is known of how its numbers lie to
 * each other and to those with an origin in `outside` holds there, too. Where it does, the numbers that had to fit
 * become needed.
 */
export function covers(old: State, state: State, outside: ReadonlyMap<Lazy, unknown>): boolean {
  const links = new Map<Lazy, Link>();
  const lowLinks = new Map<Lazy, Link>();
  const related = (before: Lazy, now: Lazy) =>
    isRelated(before.link, now.link, links, outside) &&
    isRelated(before.lowLink, now.lowLink, lowLinks, outside);
  const match = new Match(scalars.includes, () => true, related);
  if (!match.states(old, state)) return false;
  match.markNeeded(isFree);
  return true;
}

/** Whether of a number that is held in one place alone nothing can be used. */
const isFree = (number: Lazy): boolean =>
  !number.hasRelatives &&
  number.lowLink.origin === number &&
  scalars.includes(number.known, scalars.unknown());

/** Whether an origin can be what another was before; `known` says which took whose place, and by how much it differs. */
function isRelated(
  before: Link,
  now: Link,
  known: Map<Lazy, Link>,
  outside: ReadonlyMap<Lazy, unknown>,
): boolean {
  if (outside.has(before.origin)) return now.origin === before.origin && now.plus === before.plus;
  const plus = now.plus - before.plus;
  const found = known.get(before.origin);
  if (found) return found.origin === now.origin && found.plus === plus;
  known.set(before.origin, { origin: now.origin, plus });
  return true;
}

class Match {
  /** Each number of the old state that matters, and the first that takes its place. */
  readonly #places = new Map<Lazy, Lazy>();
  readonly #used: [Lazy, Lazy][] = [];
  readonly #shared = new Set<Lazy>();

  constructor(
    readonly fits: (old: Scalar, number: Scalar) => boolean,
    readonly matters: (old: Lazy) => boolean,
    readonly related?: (old: Lazy, number: Lazy) => boolean,
  ) {}

  states(old: State, state: State): boolean {
    if (old.frames.length !== state.frames.length) return false;
    for (let i = state.frames.length - 1; i >= 0; i--) {
      const [a, b] = [old.frames[i]!, state.frames[i]!];
      if (a.back !== b.back) return false;
      for (let r = 0; r < REGISTERS; r++) if (!this.#values(a.registers[r], b.registers[r])) return false;
    }
    // What was proven may rest on them; visits have none.
    if (old.reaches.length > 0) return false;
    for (const [i, length] of old.lengths.entries())
      if (length && !this.#numbers(length, state.lengths[i]!)) return false;
    if (!old.written.every((bytes, i) => !bytes || written.includes(state.written[i]!, bytes))) return false;
    return old.frames.every((frame, i) => this.#stacks(frame.stack, state.frames[i]!.stack));
  }

  /** @param isFree says of a number of the old state which is held once that what takes its place is not needed */
  markNeeded(isFree: (old: Lazy) => boolean = () => false): void {
    for (const [old, number] of this.#used) if (this.#shared.has(old) || !isFree(old)) number.need();
  }

  /** What was not initialised was not read. */
  #values(old: Value | undefined, value: Value | undefined): boolean {
    if (!old) return true;
    if (old instanceof Pointer) {
      return (
        value instanceof Pointer && old.region === value.region && this.#numbers(old.offset, value.offset)
      );
    }
    return value !== undefined && !(value instanceof Pointer) && this.#numbers(old, value);
  }

  #numbers(old: Lazy, number: Lazy): boolean {
    if (!this.matters(old)) return true;
    if (this.related && !this.related(old, number)) return false;
    this.#used.push([old, number]);
    const before = this.#places.get(old);
    this.#places.set(old, before ?? number);
    if (!before) return this.fits(old.known, number.known);
    this.#shared.add(old);
    // The proof may have used that two places held one number.
    return before === number || constantsAlike(before, number);
  }

  #stacks(old: Stack, now: Stack): boolean {
    if (old === now || old === EMPTY) return true;
    for (let i = 0; i < STACK_BYTES / 8; i++) if (!this.#slots(old[i], now[i])) return false;
    return true;
  }

  #slots(old: Slot, now: Slot): boolean {
    if (!old) return true;
    if (!now) return false;
    if (!(old instanceof Bytes) && !(now instanceof Bytes)) return this.#values(old, now);
    for (let i = 0; i < 8; i++) if (!this.#bytes(byteOf(old, i), byteOf(now, i))) return false;
    return true;
  }

  #bytes(old: Byte | undefined, now: Byte | undefined): boolean {
    if (!old) return true;
    if (!now) return false;
    if (old.source instanceof Pointer) return old.index === now.index && this.#values(old.source, now.source);
    if (now.source instanceof Pointer) return false;
    if (!this.matters(old.source)) return true;
    return old.index === now.index && this.#numbers(old.source, now.source);
  }
}

function constantsAlike(a: Lazy, b: Lazy): boolean {
  return scalars.isConstant(a.known) && scalars.equal(a.known, b.known);
}
