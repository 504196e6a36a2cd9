// Walks every path of a program, depth first, each until it ends or comes to a state from which everything was
// proven before. A loop is proven as a whole where that can be done; else it is walked round by round. If what follows
// a loop that was proven as a whole is not proven, the walk goes back and takes it round by round, too: it knows more
// of the numbers then. So a program ends if the walk does, and what is refused is what such a walk refuses.

import type { Contract } from '../bpf/contract.js';
import type { Instruction, Program } from '../bpf/program.js';
import { VerifierError } from '../errors.js';
import { branch } from './branches.js';
import { type Cfg, cfgOf, forgetDead } from './cfg.js';
import { check, registerOf, requirementsOf } from './checks.js';
import { verifierError } from './explain.js';
import { type LoopFact, LoopProver } from './fixpoint.js';
import { type InstructionFacts, Invariants } from './invariants.js';
import { KernelRules } from './kernel-rules.js';
import type { Loop } from './natural-loops.js';
import type { Observer } from './path.js';
import { Rejection, Trace } from './report.js';
import { dataRegion, entryState, fork, probe, type State, topOf, weightOf } from './states.js';
import { covers, repeats, subsumes } from './subsume.js';
import { apply, callHelper, enterCall, leaveCall, takeAddress } from './transfer.js';
import { type Lazy, Pointer, type Region } from './values.js';

/** A state at a place where paths meet. It is proven once every path from it is. */
interface Visit {
  readonly state: State;
  readonly weight: number;
}
/** What is left to do: walk on from a state, or note that a visit is proven. */
type Task =
  | { readonly walk: State; readonly roundByRound?: true }
  | { readonly proven: Visit }
  | { readonly after: Checkpoint };

/** Where a loop was proven as a whole, and what to go back to if that does not help. */
interface Checkpoint {
  readonly state: State;
  readonly walked: number;
  readonly pending: number;
  readonly trace: Trace;
  readonly loops: number;
}

const NOTHING: ReadonlyMap<Lazy, unknown> = new Map();
/** Attempts to prove a loop as a whole that may fail, at each loop. */
const MAX_FAILURES = 3;
/** Times that the walk goes back to a loop that was proven as a whole, before it takes them all round by round. */
const MAX_RETURNS = 8;

const WHOLE_LOOPS =
  '; so it seems with loops taken as a whole, and to walk them round by round takes more than maxInstructions';

const MAX_PENDING = 16_384;
/** Values in the states at branches, for each instruction that may be walked; a state without a stack has 11. */
const COPIED_PER_INSTRUCTION = 64;
/** In a loop, instructions between two visits at least; with 1 instead of 8, short loops take thrice the time. */
const VISIT_DISTANCE = 8;
/** Proven visits kept at each place; the least recently useful is dropped. */
const MAX_PROVEN = 16;
/** Values held by all visits together, about 100 bytes each; beyond this no more are made. */
const MAX_HELD = 2_000_000;

export interface Limits {
  /** Instructions walked, over all paths. */
  readonly maxInstructions: number;
  /** Whether a path may end where the rest was proven before. Without, every path is walked: slow, and the oracle. */
  readonly prune: boolean;
  readonly observer?: Observer;
  /** Whether what is not proven after a loop that was proven as a whole is final. */
  readonly wholeLoopsOnly?: boolean;
  /** Whether to collect what holds before each instruction. Paths end less often then. */
  readonly facts?: boolean;
}

/** What was found out on the way. */
export interface Proof {
  /** Whether atomic operations on arguments' memory rest on its alignment to 8 bytes. */
  readonly needsAlignment: boolean;
  /** The loops that were proven as a whole, in the order in which the walk came to them. */
  readonly loops: readonly LoopFact[];
  /** By slot, where they were asked for. */
  readonly facts: readonly (InstructionFacts | undefined)[] | undefined;
}

/** @throws VerifierError for the first thing that is not proven */
export function explore(program: Program, contract: Contract, limits: Limits): Proof {
  return new Explorer(program, contract, limits).run();
}

class Explorer {
  readonly #program: Program;
  readonly #contract: Contract;
  readonly #data: readonly Region[];
  readonly #limits: Limits;
  #trace = new Trace();
  readonly #tasks: Task[] = [];
  /** For each instruction, the visits on the current path, outermost first. */
  readonly #open: (Visit[] | undefined)[] = [];
  readonly #proven: (Visit[] | undefined)[] = [];
  #walked = 0;
  #lastVisit = 0;
  #held = 0;
  #copied = 0;
  #pending = 0;
  #at = 0;
  #needsAlignment = false;
  #prover: LoopProver | undefined;
  #rules: KernelRules | undefined;
  readonly #failures = new Map<number, { count: number; reason: string }>();
  readonly #loops: LoopFact[] = [];
  #invariants: Invariants | undefined;
  /** Instructions walked in vain, and for the proofs of whole loops. */
  #extra = 0;
  #returns = 0;
  #wholeLoops: boolean;
  /** Whether something other than the budget was in the way after a loop that was proven as a whole. */
  #refusedAfterLoop = false;

  constructor(program: Program, contract: Contract, limits: Limits) {
    this.#program = program;
    this.#contract = contract;
    this.#data = program.data.map(dataRegion);
    this.#limits = limits;
    this.#wholeLoops = limits.prune;
    if (limits.facts) this.#invariants = new Invariants(program.instructions.length);
  }

  run(): Proof {
    try {
      const cfg = cfgOf(this.#program, !this.#contract.kernelCompatible);
      if (this.#contract.kernelCompatible) this.#rules = new KernelRules(this.#program, cfg);
      this.#tasks.push({ walk: entryState(this.#contract) });
      for (let task = this.#tasks.pop(); task; task = this.#tasks.pop()) this.#do(task, cfg);
      this.#rules?.checkChains();
    } catch (error) {
      if (!(error instanceof Rejection)) throw error;
      throw this.#refusal(error);
    }
    const facts = this.#invariants?.facts(this.#program);
    return { needsAlignment: this.#needsAlignment, loops: this.#loops, facts };
  }

  #do(task: Task, cfg: Cfg): void {
    if ('after' in task) return;
    if ('proven' in task) {
      this.#close(task.proven);
      return;
    }
    try {
      this.#walk(task.walk, cfg, task.roundByRound);
    } catch (error) {
      if (!(error instanceof Rejection) || !this.#goBack(error)) throw error;
    }
  }

  /** Goes back to before a loop that was proven as a whole, to walk it round by round; false where there is none. */
  #goBack(rejection: Rejection): boolean {
    if (this.#limits.wholeLoopsOnly) return false;
    const isCheckpoint = (task: Task) => 'after' in task;
    const isFutile = rejection.code === 'V-BUDGET' || ++this.#returns > MAX_RETURNS;
    this.#spend(isFutile ? this.#limits.maxInstructions : 0);
    const at = this.#wholeLoops
      ? this.#tasks.findLastIndex(isCheckpoint)
      : this.#tasks.findIndex(isCheckpoint);
    if (at < 0) return false;
    if (rejection.code !== 'V-BUDGET') this.#refusedAfterLoop = true;
    const { after } = this.#tasks[at] as { after: Checkpoint };
    while (this.#tasks.length > at) {
      const task = this.#tasks.pop()!;
      if (!('proven' in task)) continue;
      this.#open[task.proven.state.index]!.pop();
      this.#held -= task.proven.weight;
    }
    this.#fail(after.state.index, `${rejection.message}, after the loop`);
    this.#spend(this.#walked - after.walked);
    this.#walked = after.walked;
    this.#pending = after.pending + 1;
    this.#trace = after.trace;
    this.#loops.length = after.loops;
    this.#tasks.push({ walk: after.state, roundByRound: true });
    return true;
  }

  /** Counts what is walked beside the walk that decides; beyond half of its limit, loops are walked round by round. */
  #spend(walked: number): void {
    this.#extra += walked;
    if (this.#extra > this.#limits.maxInstructions / 2) this.#wholeLoops = false;
  }

  /** A branch copies the state, and may tell all that it holds something new. */
  #charge(state: State): void {
    this.#copied += weightOf(state);
    if (this.#copied <= this.#limits.maxInstructions * COPIED_PER_INSTRUCTION) return;
    throw new Rejection(
      'V-BUDGET',
      'too many branches were walked for how much the stacks hold there; keep less on the stack, or raise maxInstructions',
    );
  }

  #fail(head: number, reason: string): void {
    this.#failures.set(head, { count: (this.#failures.get(head)?.count ?? 0) + 1, reason });
  }

  #refusal(rejection: Rejection): VerifierError {
    const [program, contract, limits] = [this.#program, this.#contract, this.#limits];
    if (rejection.code === 'V-BUDGET' && this.#refusedAfterLoop)
      return refusalOf(() => explore(program, contract, { ...limits, wholeLoopsOnly: true }));
    const walk = (observer: Observer) => explore(program, contract, { ...limits, observer });
    if (limits.wholeLoopsOnly) rejection.message += WHOLE_LOOPS;
    return verifierError({ program, contract, rejection, at: this.#at, trace: this.#trace, walk });
  }

  /** Follows one path; the other way out of each branch is left for later. */
  #walk(state: State, cfg: Cfg, roundByRound?: true): void {
    if (this.#pending > 0) this.#pending--;
    const later = (other: State) => this.#later(other);
    for (let first = roundByRound; ; first = undefined) {
      const { index } = state;
      this.#at = index;
      if (!first && cfg.joins[index] && !this.#enter(state, cfg)) return;
      if (++this.#walked > this.#limits.maxInstructions) throw this.#overBudget(index);
      const instruction = this.#program.instructions[index]!;
      this.#trace.record(index, instruction, topOf(state).registers);
      this.#limits.observer?.step(state);
      this.#check(instruction, state);
      const next = this.#step(instruction, state, later);
      if (!next) return;
      state = next;
    }
  }

  #check(instruction: Instruction, state: State): void {
    this.#invariants?.record(state);
    for (const requirement of requirementsOf(instruction.row)) {
      check(requirement, instruction, state, this.#contract);
      if (requirement.kind !== 'aligned' || instruction.row.size === 1) continue;
      const pointer = topOf(state).registers[registerOf(requirement.operand, instruction)];
      if (!(pointer instanceof Pointer) || pointer.region.arg < 0) continue;
      if (pointer.region.align === undefined) this.#needsAlignment = true;
    }
    this.#rules?.check(instruction, state);
  }

  /** The state to walk on from, or undefined at the end of a path. */
  #step(instruction: Instruction, state: State, later: (state: State) => void): State | undefined {
    const { index } = state;
    switch (instruction.row.kind) {
      case 'exit':
        if (state.frames.length === 1) return undefined;
        leaveCall(state);
        return state;
      case 'call':
        if (instruction.row.op === 'helper') callHelper(this.#contract.helpers![instruction.imm]!, state);
        else enterCall(state, this.#program.targetOf(index));
        return state;
      case 'goto':
        state.index = this.#program.targetOf(index);
        return state;
      case 'jump': {
        this.#charge(state);
        const { taken, next } = branch(instruction, state);
        if (taken) taken.index = this.#program.targetOf(index);
        if (next) next.index = index + 1;
        if (taken && next) later(taken);
        return next ?? taken;
      }
      case 'data_address':
        takeAddress(instruction, state, this.#data);
        return state;
      default:
        apply(instruction, state);
        return state;
    }
  }

  #later(state: State): void {
    if (++this.#pending > MAX_PENDING)
      throw new Rejection(
        'V-BUDGET',
        `more than ${MAX_PENDING} ways out of branches wait for being walked; the program branches on too many unknown values in a loop`,
      );
    this.#limits.observer?.later?.(state);
    this.#tasks.push({ walk: state });
  }

  /** Whether the path has to be walked on from here, where it meets others. */
  #enter(state: State, cfg: Cfg): boolean {
    const { index } = state;
    forgetDead(topOf(state).registers, cfg.live[index]!);
    if (this.#limits.prune && this.#isProven(state)) {
      this.#limits.observer?.proven?.(state);
      return false;
    }
    if (this.#wholeLoops && cfg.heads[index]) {
      const loop = this.#loopToProve(index, cfg);
      if (loop) return !this.#provesLoop(state, loop);
    }
    const open = this.#open[index] ?? [];
    if (open.length > 0 && this.#walked - this.#lastVisit < VISIT_DISTANCE) return true;
    // One earlier visit is enough to compare with: the last whose number is a power of two (Brent's way).
    const earlier = open.length > 0 ? open[2 ** Math.floor(Math.log2(open.length)) - 1] : undefined;
    if (earlier && repeats(earlier.state, state))
      throw new Rejection(
        'V-LOOP',
        'the program may loop here for ever: it comes back with everything as it was',
      );
    this.#visit(state, open);
    return true;
  }

  /** The loop with this head, unless attempts at it have failed too often. */
  #loopToProve(head: number, cfg: Cfg): Loop | undefined {
    if ((this.#failures.get(head)?.count ?? 0) >= MAX_FAILURES) return undefined;
    this.#prover ??= new LoopProver(this.#program, cfg, {
      check: (instruction, state) => this.#check(instruction, state),
      step: (instruction, state, later) => this.#step(instruction, state, later),
    });
    return this.#prover.loopAt(head);
  }

  /** Whether a loop was proven as a whole; then its ways out are walked on from. */
  #provesLoop(state: State, loop: Loop): boolean {
    const { index } = state;
    this.#visit(state, this.#open[index] ?? []);
    const before = this.#invariants?.copy();
    const { proof, walked } = this.#prover!.prove(state, loop, this.#limits.maxInstructions / 16);
    this.#spend(walked);
    if (typeof proof === 'string') {
      this.#invariants = before;
      this.#fail(index, proof);
      return false;
    }
    this.#tasks.push({ after: this.#checkpoint(state) });
    for (const exit of proof.exits) this.#later(exit);
    this.#loops.push(...proof.loops);
    return true;
  }

  #checkpoint(state: State): Checkpoint {
    const copy = fork(state);
    this.#limits.observer?.later?.(copy);
    return {
      state: copy,
      walked: this.#walked,
      pending: this.#pending,
      trace: this.#trace.copy(),
      loops: this.#loops.length,
    };
  }

  #overBudget(index: number): Rejection {
    const within = [...this.#failures].filter(([head]) => this.#prover!.loopAt(head)?.body.has(index));
    const [head, failure] = within.at(-1) ?? [...this.#failures].at(-1) ?? [];
    const why = failure
      ? `; the loop at ${this.#program.slotOf(head!)} was walked round by round because ${failure.reason}`
      : '';
    const { maxInstructions } = this.#limits;
    return new Rejection(
      'V-BUDGET',
      `${maxInstructions} instructions were walked without coming to an end; bound the loops more tightly, or raise maxInstructions${why}`,
    );
  }

  #isProven(state: State): boolean {
    const proven = this.#proven[state.index] ?? [];
    const found = proven.findIndex((visit) =>
      this.#invariants ? covers(visit.state, state, NOTHING) : subsumes(visit.state, state),
    );
    // The most useful first.
    if (found > 0) proven.unshift(...proven.splice(found, 1));
    return found >= 0;
  }

  #visit(state: State, open: Visit[]): void {
    this.#lastVisit = this.#walked;
    const weight = weightOf(state);
    if (this.#held + weight > MAX_HELD) return;
    this.#held += weight;
    probe(state);
    const visit = { state: fork(state), weight };
    open.push(visit);
    this.#open[state.index] = open;
    this.#tasks.push({ proven: visit });
  }

  #close(visit: Visit): void {
    const { index } = visit.state;
    this.#open[index]!.pop();
    const proven = this.#proven[index] ?? [];
    proven.unshift(visit);
    if (proven.length > MAX_PROVEN) this.#held -= proven.pop()!.weight;
    this.#proven[index] = proven;
  }
}

/** The error that a function throws. */
function refusalOf(refuse: () => unknown): VerifierError {
  try {
    refuse();
  } catch (error) {
    if (error instanceof VerifierError) return error;
    throw error;
  }
  throw new Error('a walk that was refused before is not refused when it is repeated');
}
