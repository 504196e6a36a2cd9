// Proves a loop without walking all of its rounds: one state stands for the head in every round, and all paths from
// there lead out of the loop or back into that state; and there is a reason why the loop ends.
//
// The state is found by trying. At first everything is supposed to stay as it was when the loop was entered; after each
// walk over all paths through the loop, what they brought back weakens that. Nothing rests on how the supposition was
// come by: it counts once a walk confirms it, with every check made on that walk.

import type { Instruction, Program } from '../bpf/program.js';
import { comparisonOf } from './branches.js';
import { type Cfg, forgetDead } from './cfg.js';
import { OPPOSITE } from './compare.js';
import { type Head, type Hypothesis, headOf, roleAfter, roleOf, withoutLine } from './hypothesis.js';
import { type Loop, NaturalLoops } from './natural-loops.js';
import { type Place, placesOf } from './places.js';
import { hasRanking } from './ranking.js';
import { Rejection } from './report.js';
import * as scalars from './scalars.js';
import { fork, numbersIn, replaceEverywhere, type State, topOf } from './states.js';
import { covers } from './subsume.js';
import { boundsOf, during, type Line } from './trips.js';
import { Lazy } from './values.js';

/** What walking over one instruction takes; the ways out of a branch but one are handed to `later`. */
export interface Walker {
  check(instruction: Instruction, state: State): void;
  step(instruction: Instruction, state: State, later: (state: State) => void): State | undefined;
}

/** What was found out of a loop that ends. */
export interface LoopFact {
  /** Slot of its head. */
  readonly head: number;
  /** How often it comes back there at most each time it is entered; undefined where it is only known to end. */
  readonly maxTrips: bigint | undefined;
}

/** A loop that was proven to be safe, and to end. */
export interface LoopProof {
  /** States at its ways out. */
  readonly exits: readonly State[];
  /** The loop, and those in it that were proven as a whole, too. */
  readonly loops: readonly LoopFact[];
}

/** Why a loop was not proven. */
class Unproven extends Error {}

/** Walks over the paths of a loop in search of a state for its head. */
const MAX_WALKS = 24;
/** Ways back to the head, or out of the loop, of one walk. */
const MAX_ENDS = 2_000;
/** Visits at one instruction during one walk; more are not compared with. */
const MAX_VISITS = 32;
/** Loops inside of loops, each of which takes a piece of our own stack. */
const MAX_NESTED = 32;
/** Attempts at an inner loop that may fail while an outer one is tried. */
const MAX_FAILURES = 3;

/** The comparisons passed in this round, with the last round in which that can be. */
type Passed = ReadonlyMap<string, bigint>;
interface Way {
  readonly walk: State;
  readonly passed: Passed;
  readonly fromHead?: true;
}
type Task = Way | { readonly close: State; readonly passed: Passed };

interface Walk {
  readonly backs: { readonly state: State; readonly passed: Passed }[];
  readonly exits: State[];
  readonly loops: LoopFact[];
}

export class LoopProver {
  readonly #program: Program;
  readonly #cfg: Cfg;
  readonly #loops: NaturalLoops;
  readonly #walker: Walker;
  readonly #failures = new Map<number, number>();
  /** Instructions that may still be walked. */
  #left = 0;
  #at = 0;
  #nested = 0;

  constructor(program: Program, cfg: Cfg, walker: Walker) {
    this.#program = program;
    this.#cfg = cfg;
    this.#loops = new NaturalLoops(program, cfg);
    this.#walker = walker;
  }

  /** The loop with this head, if there is one. */
  loopAt(head: number): Loop | undefined {
    return this.#loops.at(head);
  }

  /**
   * @param entry at the head of the loop; left as it is
   * @param budget instructions to be walked at most
   * @returns a proof or the reason why there is none, and the instructions walked
   */
  prove(entry: State, loop: Loop, budget: number): { proof: LoopProof | string; walked: number } {
    this.#left = budget;
    this.#failures.clear();
    const proof = this.#attempt(entry, loop);
    return { proof, walked: budget - this.#left };
  }

  #attempt(entry: State, loop: Loop): LoopProof | string {
    if (this.#nested >= MAX_NESTED) return `loops are nested more than ${MAX_NESTED} deep`;
    this.#nested++;
    try {
      return this.#solve(entry, loop);
    } catch (error) {
      if (error instanceof Unproven) return error.message;
      if (!(error instanceof Rejection)) throw error;
      return `not every round is known to be safe (instruction ${this.#program.slotOf(this.#at)}: ${error.message})`;
    } finally {
      this.#nested--;
    }
  }

  #solve(entry: State, loop: Loop): LoopProof {
    const places = placesOf(entry);
    const thresholds = this.#thresholds(loop);
    let hypothesis: Hypothesis = { roles: new Map(), tests: new Map(), lastRound: 0n };
    for (let n = 0; n < MAX_WALKS; n++) {
      const head = headOf(entry, places, hypothesis);
      const walk = this.#walk(head, loop, hypothesis);
      const next = weakened(places, hypothesis, head, walk, thresholds);
      if (next !== hypothesis) {
        hypothesis = next;
        continue;
      }
      if (!head.moves) this.#requireRanking(places, head, loop, hypothesis);
      const trips = walk.backs.length === 0 ? 0n : head.moves ? hypothesis.lastRound : undefined;
      const fact = { head: this.#program.slotOf(loop.head), maxTrips: trips };
      return { exits: walk.exits, loops: [fact, ...walk.loops] };
    }
    throw new Unproven('what its rounds have in common was not found');
  }

  /** A path may not stand for another here from whose beginning it differs in how far its numbers have moved. */
  #requireRanking(places: readonly Place[], head: Head, loop: Loop, hypothesis: Hypothesis): void {
    const { backs } = this.#walk(head, loop, hypothesis, head.origins);
    const states = backs.map(({ state }) => state);
    if (!hasRanking(places, head.state, states))
      throw new Unproven('no number was found that moves with every round towards the end of the loop');
  }

  /** The constants that numbers are compared with in the loop, and their neighbours. */
  #thresholds({ body }: Loop): bigint[] {
    return [...body].flatMap((index) => {
      const { row, value } = this.#program.instructions[index]!;
      return row.kind === 'jump' && row.source === 'imm' ? [value - 1n, value, value + 1n] : [];
    });
  }

  /**
   * Follows all paths from the head, to where they come back or leave the loop.
   * @param outside numbers to which the others have to lie alike where one path stands for another
   */
  #walk(
    head: Head,
    loop: Loop,
    hypothesis: Hypothesis,
    outside: ReadonlyMap<Lazy, unknown> = head.lines,
  ): Walk {
    const walk: Walk = { backs: [], exits: [], loops: [] };
    const proven = new Map<number, { state: State; passed: Passed }[]>();
    const tasks: Task[] = [{ walk: fork(head.state), passed: new Map(), fromHead: true }];
    for (let task = tasks.pop(); task; task = tasks.pop()) {
      if ('close' in task) {
        const visits = proven.get(task.close.index) ?? [];
        if (visits.length < MAX_VISITS) visits.push({ state: task.close, passed: task.passed });
        proven.set(task.close.index, visits);
      } else this.#follow(task, { head, loop, hypothesis, outside, walk, proven, tasks });
      if (walk.backs.length + walk.exits.length > MAX_ENDS)
        throw new Unproven('too many paths lead through it');
    }
    return walk;
  }

  #follow(start: Way, around: Surroundings): void {
    const { tasks } = around;
    let { walk: state, passed } = start;
    for (let first = start.fromHead; ; first = undefined) {
      const { index } = state;
      this.#at = index;
      if (!first && this.#cfg.joins[index]) forgetDead(topOf(state).registers, this.#cfg.live[index]!);
      if (!first && isEnd(state, passed, around)) return;
      if (!first && this.#cfg.joins[index]) {
        if (this.#meets(state, passed, around)) return;
        tasks.push({ close: fork(state), passed });
      }
      if (--this.#left < 0) throw new Unproven('it takes too many instructions to walk over all its paths');
      const instruction = this.#program.instructions[index]!;
      this.#walker.check(instruction, state);
      const test = this.#testAt(instruction, state);
      const next = this.#walker.step(instruction, state, (later) =>
        tasks.push({ walk: later, passed: test ? pass(test, later, passed, around) : passed }),
      );
      if (!next) return;
      if (test) passed = pass(test, next, passed, around);
      state = next;
    }
  }

  /** Whether a path needs not be followed from where it meets others: they cover it, or an inner loop was proven. */
  #meets(state: State, passed: Passed, around: Surroundings): boolean {
    const visits = around.proven.get(state.index) ?? [];
    if (visits.some((visit) => isCovered(visit, { state, passed }, around))) return true;
    const inner = this.#loops.at(state.index);
    if (!inner) return false;
    const failures = this.#failures.get(inner.head) ?? 0;
    if (failures >= MAX_FAILURES) return false;
    const proof = this.#attempt(state, inner);
    if (typeof proof === 'string') {
      this.#failures.set(inner.head, failures + 1);
      return false;
    }
    around.walk.loops.push(...proof.loops);
    for (const exit of proof.exits) around.tasks.push({ walk: exit, passed });
    return true;
  }

  #testAt(instruction: Instruction, state: State): Test | undefined {
    if (instruction.row.kind !== 'jump') return undefined;
    const target = this.#program.targetOf(state.index);
    const comparison = comparisonOf(instruction, state);
    if (comparison.kind !== 'numbers' || target === state.index + 1) return undefined;
    return { ...comparison, target };
  }
}

interface Surroundings {
  readonly head: Head;
  readonly loop: Loop;
  readonly hypothesis: Hypothesis;
  readonly outside: ReadonlyMap<Lazy, unknown>;
  readonly walk: Walk;
  readonly proven: Map<number, { state: State; passed: Passed }[]>;
  readonly tasks: Task[];
}

interface Test {
  readonly op: string;
  readonly bits: number;
  readonly a: Lazy;
  readonly b: Lazy;
  readonly target: number;
}

/** Whether a path comes back to the head here, or leaves the loop. */
function isEnd(state: State, passed: Passed, { head, loop, walk }: Surroundings): boolean {
  const deeper = state.frames.length - head.state.frames.length;
  if (deeper > 0 || (deeper === 0 && state.index !== loop.head && loop.body.has(state.index))) return false;
  if (deeper === 0 && state.index === loop.head) walk.backs.push({ state, passed });
  else walk.exits.push(state);
  return true;
}

/** Notes which way a test went, and tells the numbers on lines how far they can have come. */
function pass(test: Test, state: State, passed: Passed, { head, hypothesis }: Surroundings): Passed {
  const op = state.index === test.target ? test.op : OPPOSITE[test.op]!;
  const bounds = boundsOf({ op, bits: test.bits, a: test.a, b: test.b }, head.lines);
  if (bounds.length === 0) return passed;
  const after = new Map(passed);
  for (const { key, last } of bounds) {
    const before = after.get(key);
    after.set(key, before !== undefined && before < last ? before : last);
    if (hypothesis.tests.has(key)) tighten(state, head.lines, last);
  }
  return after;
}

/** Sharpens the numbers on lines: the round is `last` or an earlier one. */
function tighten(state: State, lines: ReadonlyMap<Lazy, Line>, last: bigint): void {
  const replaced = new Map<Lazy, Lazy>();
  for (const number of numbersIn(state)) {
    const known = tightened(number, lines, last);
    if (known && !scalars.includes(known, number.known))
      replaced.set(number, Lazy.sharper(number, known, number, number));
  }
  if (replaced.size > 0) replaceEverywhere(state, replaced);
}

function tightened(number: Lazy, lines: ReadonlyMap<Lazy, Line>, last: bigint): scalars.Scalar | undefined {
  const { link, lowLink } = number;
  const whole = lines.get(link.origin);
  if (whole && whole.step !== 0n && whole.bits === 64) {
    const moved = scalars.aluWhole('add', during(whole, last), scalars.constant(BigInt(link.plus)));
    return scalars.intersect(number.known, moved);
  }
  const low = lines.get(lowLink.origin);
  if (!low || low.step === 0n) return undefined;
  const moved = scalars.aluLow('add', during(low, last), scalars.constant(BigInt(lowLink.plus)));
  return scalars.intersect(number.known, { whole: scalars.unknown().whole, low: moved.low });
}

/** Whether all that was found on the ways from an earlier visit holds for a state, too. */
function isCovered(
  visit: { state: State; passed: Passed },
  now: { state: State; passed: Passed },
  { hypothesis, outside }: Surroundings,
): boolean {
  for (const [key, last] of visit.passed) {
    const here = now.passed.get(key);
    if (hypothesis.tests.has(key) && (here === undefined || here > last)) return false;
  }
  return covers(visit.state, now.state, outside);
}

/** The hypothesis itself if the walk confirms it. */
function weakened(
  places: readonly Place[],
  before: Hypothesis,
  head: Head,
  walk: Walk,
  thresholds: readonly bigint[],
): Hypothesis {
  if (walk.backs.length === 0) return before;
  const backs = walk.backs.map(({ state }) => state);
  const roles = new Map(
    places.map((place) => [place, roleAfter(place, roleOf(before, place), head.state, backs, thresholds)]),
  );
  const confirmed = places.every((place) => roles.get(place) === roleOf(before, place));
  if (!head.moves) return confirmed ? before : { roles, tests: new Map(), lastRound: 0n };
  const tests = commonTests(walk);
  if (tests.size === 0) {
    for (const place of places) roles.set(place, withoutLine(place, roles.get(place)!, backs));
    return { roles, tests, lastRound: 0n };
  }
  const isBound = ([key, last]: [string, bigint]) => (tests.get(key) ?? last + 1n) <= last;
  if (confirmed && before.tests.size > 0 && [...before.tests].every(isBound)) return before;
  const lastRound = [...tests.values()].reduce((a, b) => (a < b ? a : b)) + 1n;
  return { roles, tests, lastRound };
}

/** The comparisons that were passed on every path back to the head. */
function commonTests({ backs }: Walk): Map<string, bigint> {
  const [first, ...others] = backs.map(({ passed }) => passed);
  const common = new Map(first);
  for (const [key, last] of common) {
    const all = others.map((passed) => passed.get(key));
    if (all.includes(undefined)) common.delete(key);
    else
      common.set(
        key,
        all.reduce<bigint>((a, b) => (a > b! ? a : b!), last),
      );
  }
  return common;
}
