// Walks every path of a program, depth first, each until it ends or comes to a state from which everything was
// proven before. Loops are walked round by round; so a program ends if the walk does.

import type { Contract } from '../bpf/contract.js';
import type { Instruction, Program } from '../bpf/program.js';
import { branch } from './branches.js';
import { type Cfg, cfgOf, forgetDead } from './cfg.js';
import { check, type Requirement, requirementsOf } from './checks.js';
import { Rejection, Trace, verifierError } from './report.js';
import { dataRegion, entryState, fork, probe, type State, topOf, weightOf } from './states.js';
import { repeats, subsumes } from './subsume.js';
import { apply, callHelper, enterCall, leaveCall, takeAddress } from './transfer.js';
import { Pointer, type Region } from './values.js';

/** A state at a place where paths meet. It is proven once every path from it is. */
interface Visit {
  readonly state: State;
  readonly weight: number;
}
/** What is left to do: walk on from a state, or note that a visit is proven. */
type Task = { readonly walk: State } | { readonly proven: Visit };

const MAX_PENDING = 16_384;
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
}

export interface Facts {
  /** Whether atomic operations on arguments' memory rest on its alignment to 8 bytes. */
  readonly needsAlignment: boolean;
}

/** @throws VerifierError for the first thing that is not proven */
export function explore(program: Program, contract: Contract, limits: Limits): Facts {
  return new Explorer(program, contract, limits).run();
}

class Explorer {
  readonly #program: Program;
  readonly #contract: Contract;
  readonly #data: readonly Region[];
  readonly #limits: Limits;
  readonly #trace = new Trace();
  readonly #requirements: (readonly Requirement[] | undefined)[];
  readonly #tasks: Task[] = [];
  /** For each instruction, the visits on the current path, outermost first. */
  readonly #open = new Map<number, Visit[]>();
  readonly #proven = new Map<number, Visit[]>();
  #walked = 0;
  #lastVisit = 0;
  #held = 0;
  #pending = 0;
  #at = 0;
  #needsAlignment = false;

  constructor(program: Program, contract: Contract, limits: Limits) {
    this.#program = program;
    this.#contract = contract;
    this.#data = program.data.map(dataRegion);
    this.#limits = limits;
    this.#requirements = new Array(program.instructions.length);
  }

  run(): Facts {
    try {
      const cfg = cfgOf(this.#program);
      this.#tasks.push({ walk: entryState(this.#contract) });
      for (let task = this.#tasks.pop(); task; task = this.#tasks.pop()) {
        if ('proven' in task) this.#close(task.proven);
        else this.#walk(task.walk, cfg);
      }
    } catch (error) {
      if (!(error instanceof Rejection)) throw error;
      throw verifierError(this.#program, error, this.#at, this.#trace.text(this.#program));
    }
    return { needsAlignment: this.#needsAlignment };
  }

  /** Follows one path; the other way out of each branch is left for later. */
  #walk(state: State, cfg: Cfg): void {
    if (this.#pending > 0) this.#pending--;
    for (;;) {
      const { index } = state;
      this.#at = index;
      if (cfg.joins[index] && !this.#enter(state, cfg.live[index]!)) return;
      if (++this.#walked > this.#limits.maxInstructions)
        throw new Rejection(
          'V-BUDGET',
          `${this.#limits.maxInstructions} instructions were walked without coming to an end; bound the loops more tightly, or raise maxInstructions`,
        );
      const instruction = this.#program.instructions[index]!;
      this.#trace.record(index, topOf(state).registers);
      this.#check(instruction, state);
      const next = this.#step(instruction, state);
      if (!next) return;
      state = next;
    }
  }

  #check(instruction: Instruction, state: State): void {
    const requirements = (this.#requirements[state.index] ??= requirementsOf(instruction));
    for (const requirement of requirements) {
      check(requirement, state, this.#contract);
      if (requirement.kind !== 'aligned') continue;
      const pointer = topOf(state).registers[requirement.register];
      if (pointer instanceof Pointer && pointer.region.arg >= 0 && requirement.size > 1)
        this.#needsAlignment = true;
    }
  }

  /** The state to walk on from, or undefined at the end of a path. */
  #step(instruction: Instruction, state: State): State | undefined {
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
        const { taken, next } = branch(instruction, state);
        if (taken) taken.index = this.#program.targetOf(index);
        if (next) next.index = index + 1;
        if (taken && next) this.#later(taken);
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
    this.#tasks.push({ walk: state });
  }

  /** Whether the path has to be walked on from here, where it meets others. */
  #enter(state: State, live: number): boolean {
    const { index } = state;
    forgetDead(topOf(state).registers, live);
    if (this.#limits.prune && this.#isProven(state)) return false;
    const open = this.#open.get(index) ?? [];
    if (open.length > 0 && this.#walked - this.#lastVisit < VISIT_DISTANCE) return true;
    this.#lastVisit = this.#walked;
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

  #isProven(state: State): boolean {
    const proven = this.#proven.get(state.index) ?? [];
    const found = proven.findIndex((visit) => subsumes(visit.state, state));
    // The most useful first.
    if (found > 0) proven.unshift(...proven.splice(found, 1));
    return found >= 0;
  }

  #visit(state: State, open: Visit[]): void {
    const weight = weightOf(state);
    if (this.#held + weight > MAX_HELD) return;
    this.#held += weight;
    probe(state);
    const visit = { state: fork(state), weight };
    open.push(visit);
    this.#open.set(state.index, open);
    this.#tasks.push({ proven: visit });
  }

  #close(visit: Visit): void {
    const { index } = visit.state;
    this.#open.get(index)!.pop();
    const proven = this.#proven.get(index) ?? [];
    proven.unshift(visit);
    if (proven.length > MAX_PROVEN) this.#held -= proven.pop()!.weight;
    this.#proven.set(index, proven);
  }
}
