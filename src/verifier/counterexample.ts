// An input on which a program that was refused does what it was refused for. None is told that has not been run.

import type { Contract } from '../bpf/contract.js';
import { interpret } from '../bpf/interpret.js';
import type { Program } from '../bpf/program.js';
import type { Counterexample } from '../errors.js';
import { absolute, branchGap, type Gap } from './distance.js';
import type { Step } from './path.js';
import {
  argsOf,
  helperResultsOf,
  helpersReturning,
  type Input,
  type IsAstray,
  isFault,
  observe,
  type Run,
  type Visit,
} from './run.js';
import { type Measure, type Problem, search } from './search.js';

/** What was refused, and the way that the walk took there. */
export interface Refusal {
  readonly program: Program;
  readonly contract: Contract;
  readonly code: string;
  /** Index of the instruction. */
  readonly index: number;
  readonly path: readonly Step[];
}

/** The faults of a run that show what each code means. What is not here shows in no run. */
const FAULTS: Readonly<Record<string, readonly string[]>> = {
  // The address of an empty buffer is 0.
  'V-OOB-READ': ['X-OOB', 'X-NOT-POINTER'],
  'V-OOB-WRITE': ['X-OOB', 'X-NOT-POINTER'],
  // An access that has no right to its memory may lie outside of it as well, which is found first.
  'V-READ-ONLY': ['X-ACCESS', 'X-OOB'],
  'V-WRITE-ONLY': ['X-ACCESS', 'X-OOB'],
  'V-NOT-POINTER': ['X-NOT-POINTER'],
  'V-UNINIT-REG': ['X-UNINIT-REG'],
  'V-UNINIT-STACK': ['X-UNINIT-STACK'],
  'V-ALIGN': ['X-ALIGN'],
  'V-CALL': ['X-DEPTH'],
  'V-HELPER': ['X-HELPER'],
  'V-HELPER-ARG': ['A-HELPER'],
  'V-FALL-OFF': ['X-FALL-OFF'],
  'V-LOOP': ['X-LIMIT'],
  'V-BUDGET': ['X-LIMIT'],
};

/** Instructions of one run of the search. */
const RUN_INSTRUCTIONS = 4_000;
const WORK = 40_000;
const WORK_PER_STEP = 10;
/** A run of more instructions counts as one that does not end. */
const ENDLESS = 1_000_000;
const MAX_ENDLESS_RUNS = 3;
const MAX_MEMORY = 1 << 20;

/** @returns undefined where none was found, which proves nothing */
export function findCounterexample(refusal: Refusal): Counterexample | undefined {
  const { contract, code } = refusal;
  if ((code !== 'V-UNWRITTEN' && !FAULTS[code]) || memoryOf(contract) > MAX_MEMORY) return undefined;
  if (isEndless(code)) return findEndless(refusal);
  const problem = problemOf(refusal, (run) => shows(refusal, run), towards(refusal));
  const found = search(problem);
  return found && replay(refusal, smallest(refusal, problem, found));
}

const memoryOf = ({ args }: Contract): number =>
  args.reduce(
    (sum, arg) => sum + (arg?.kind === 'memory' ? arg.bytes : arg?.kind === 'buffer' ? arg.minBytes! : 0),
    0,
  );

const isEndless = (code: string): boolean => FAULTS[code]?.[0] === 'X-LIMIT';

/** A run that lasts long is replayed to see whether it lasts longer than any should. */
function findEndless(refusal: Refusal): Counterexample | undefined {
  let replays = 0;
  let found: Counterexample | undefined;
  const isFound = (run: Run, input: Input) => {
    if (run.fault?.code === 'X-LIMIT' && replays++ < MAX_ENDLESS_RUNS) found = replay(refusal, input);
    return found !== undefined;
  };
  const problem = problemOf(refusal, isFound, longest(refusal.program));
  search({ ...problem, measures: problem.measures.toReversed() });
  return found;
}

function problemOf(refusal: Refusal, isFound: Problem['isFound'], measure: Measure): Problem {
  const { program, contract, index: target, path } = refusal;
  const measures = isWhole(program, path) ? [along(refusal), measure] : [measure];
  const maxInstructions = RUN_INSTRUCTIONS + 2 * path.length;
  const work = WORK + WORK_PER_STEP * path.length;
  return { program, contract, target, maxInstructions, work, isFound, measures };
}

/** Whether a path is one that a run may take: from the first instruction, and leaving out none. */
function isWhole(program: Program, path: readonly Step[]): boolean {
  return (
    path[0]?.index === 0 &&
    path.every(({ index }, i) => {
      const next = path[i + 1]?.index ?? index + 1;
      return (
        next === index + 1 ||
        next === program.targetOf(index) ||
        program.instructions[index]!.row.kind === 'exit'
      );
    })
  );
}

function shows({ program, code, index }: Refusal, run: Run): boolean {
  if (run.insn !== program.slotOf(index)) return false;
  if (code === 'V-UNWRITTEN') return run.unwritten.length > 0;
  return run.fault !== undefined && FAULTS[code]!.includes(run.fault.code);
}

/** Faults that do not name the instruction that was refused. */
const WITHOUT_PLACE = new Set(['X-LIMIT', 'X-FALL-OFF', 'A-HELPER']);

/** Runs the input once more, by itself. */
function replay(refusal: Refusal, input: Input): Counterexample | undefined {
  const { program, contract, index, code } = refusal;
  const maxInstructions = ENDLESS;
  const args = argsOf(input, contract);
  const helperResults = helperResultsOf(input, contract);
  const fault = (code: string, message: string) => ({
    args: argsOf(input, contract),
    helperResults,
    fault: { code, insn: program.slotOf(index), message },
    maxInstructions,
  });
  try {
    const helpers = helpersReturning(helperResults, contract);
    const [left] = interpret(program, { args, contract, helpers, strict: true, maxInstructions }).unwritten;
    if (code !== 'V-UNWRITTEN' || !left) return undefined;
    return fault('unwritten', `byte ${left.bytes[0]} of r${left.arg + 1}'s memory is left unwritten`);
  } catch (error) {
    if (!isFault(error)) throw error;
    if (!FAULTS[code]?.includes(error.code)) return undefined;
    const isThere = error.insn === program.slotOf(index);
    if (!isThere && !WITHOUT_PLACE.has(error.code)) return undefined;
    return fault(error.code, error.message);
  }
}

/** The input with as many bytes 0 as can be. */
function smallest(
  { program, contract, index }: Refusal,
  { isFound, maxInstructions }: Problem,
  found: Input,
): Input {
  let input = found;
  let tries = MAX_TRIES;
  for (const [arg, bytes] of found.entries()) {
    for (const [at, byte] of bytes.entries()) {
      if (byte === 0 || tries-- <= 0) continue;
      const plainer = input.map((bytes) => bytes.slice());
      plainer[arg]![at] = 0;
      if (isFound(observe(program, contract, plainer, index, maxInstructions), plainer)) input = plainer;
    }
  }
  return input;
}

const MAX_TRIES = 256;

interface Turn {
  readonly index: number;
  readonly taken: boolean;
}

/** How far a run goes the way that the walk went. */
function along(refusal: Refusal): Measure {
  const { program } = refusal;
  const turns = turnsOf(refusal);
  const isAstray: IsAstray = (decisions) => {
    const turn = turns[decisions.length - 1];
    return turn !== undefined && !sameTurn(turn, decisions.at(-1));
  };
  const of: Measure['of'] = ({ decisions, visits, ...run }, metric) => {
    const at = turns.findIndex((turn, i) => !sameTurn(turn, decisions[i]));
    if (at < 0) {
      const visit = visits.find((visit) => visit.decisions === turns.length);
      return { stage: visit ? 0 : 1, gap: visit ? faultGap(refusal, run, visit, metric) : EVERYWHERE };
    }
    const stage = turns.length - at + 1;
    const decision = decisions[at];
    const gap = decision?.index === turns[at]!.index ? decision : undefined;
    return { stage, gap: gap && branchGap(program.instructions[gap.index]!, gap, metric) };
  };
  return { of, isAstray };
}

const sameTurn = (turn: Turn, decision: Turn | undefined): boolean =>
  turn.index === decision?.index && turn.taken === decision.taken;

function turnsOf({ program, path }: Refusal): Turn[] {
  return path.flatMap(({ index }, i) => {
    const next = path[i + 1]?.index;
    if (program.instructions[index]!.row.kind !== 'jump' || next === undefined) return [];
    return [{ index, taken: next === program.targetOf(index) }];
  });
}

/** How near a run comes to the instruction, whichever way it goes. */
function towards(refusal: Refusal): Measure {
  const { program, index } = refusal;
  const away = distancesTo(program, index);
  const isAstray: IsAstray = (decisions) => {
    const { index, taken } = decisions.at(-1)!;
    return away[taken ? program.targetOf(index) : index + 1] === Number.POSITIVE_INFINITY;
  };
  const of: Measure['of'] = ({ decisions, visits, ...run }, metric) => {
    const gaps = visits.map((visit) => faultGap(refusal, run, visit, metric));
    if (gaps.length > 0) return { stage: 0, gap: gaps.reduce((a, b) => (b.distance < a.distance ? b : a)) };
    let stage = Number.POSITIVE_INFINITY;
    let gap: Gap | undefined;
    for (const decision of decisions) {
      const { index, taken } = decision;
      const other = away[taken ? index + 1 : program.targetOf(index)]!;
      if (other >= stage) continue;
      stage = other;
      gap = branchGap(program.instructions[index]!, decision, metric);
    }
    return { stage, gap };
  };
  return { of, isAstray };
}

/** How long a run lasts. */
function longest(program: Program): Measure {
  return {
    of({ decisions, instructions }, metric) {
      const last = decisions.at(-1);
      return {
        stage: -instructions,
        gap: last && branchGap(program.instructions[last.index]!, last, metric),
      };
    },
  };
}

/** For each instruction, how many steps it is at least to another. */
function distancesTo(program: Program, target: number): number[] {
  const { instructions } = program;
  const away = new Array<number>(instructions.length + 1).fill(Number.POSITIVE_INFINITY);
  const before: number[][] = instructions.map(() => []);
  instructions.forEach(({ row }, index) => {
    const jumped = program.targetOf(index);
    if (row.kind !== 'exit' && row.kind !== 'goto') before[index + 1]?.push(index);
    if (jumped >= 0) before[jumped]!.push(index);
  });
  away[target] = 0;
  for (let open = [target], next: number[] = []; open.length > 0; open = next, next = []) {
    for (const index of open) {
      for (const earlier of before[index]!) {
        if (away[earlier]! <= away[index]! + 1) continue;
        away[earlier] = away[index]! + 1;
        next.push(earlier);
      }
    }
  }
  return away;
}

const EVERYWHERE: Gap = { distance: 1n, from: -1n, wishes: [] };

/** What keeps an instruction that was run from faulting. */
function faultGap(
  { program, index, code }: Refusal,
  { extents }: Pick<Run, 'extents'>,
  visit: Visit,
  metric: number,
): Gap {
  const { row, off, src, dst } = program.instructions[index]!;
  const register = row.kind === 'load' || row.op === 'load_acquire' ? src : dst;
  const pointer = visit.registers[register];
  const extent = pointer && extents.get(pointer.region);
  const fault = FAULTS[code]?.[0];
  if (!extent || (fault !== 'X-OOB' && fault !== 'X-ALIGN')) return EVERYWHERE;
  const from = visit.from[register]!;
  const at = BigInt.asIntN(64, pointer.value - extent.base);
  if (fault === 'X-ALIGN') return { distance: 1n, from, wishes: [[at, at + 1n]] };
  const below = BigInt(extent.start - off - 1);
  const above = BigInt(extent.end - off - row.size + 1);
  const wishes = [
    [at, above],
    [at, below],
  ] as const;
  return { distance: absolute(at - (metric === 1 ? below : above)), from, wishes };
}
