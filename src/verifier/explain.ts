// What there is to tell of a refusal. It is made when somebody asks: the walk is then walked once more, and watched.

import type { GivenArg } from '../bpf/arguments.js';
import type { Contract } from '../bpf/contract.js';
import { contractText } from '../bpf/contract-text.js';
import type { Instruction, Program } from '../bpf/program.js';
import { instructionText } from '../bpf/text.js';
import {
  type Counterexample,
  type Explanation,
  type FailingOperand,
  type ReportedArg,
  type ReportedCounterexample,
  type SliceLine,
  VerifierError,
  type VerifierReport,
} from '../errors.js';
import { check, type Requirement, registerOf, requirementsOf } from './checks.js';
import { findCounterexample } from './counterexample.js';
import { type Observer, PathRecorder, type Step } from './path.js';
import { Rejection, type Trace, valueText, withSign } from './report.js';
import { reportText } from './report-text.js';
import { sliceOf, sliceOfJumps } from './slice.js';
import type { State } from './states.js';
import { Pointer, type Value } from './values.js';

/** Walks the program again, as it was walked, and fails as it failed. */
type Walk = (observer: Observer) => unknown;

export interface Refused {
  readonly program: Program;
  readonly contract: Contract;
  readonly rejection: Rejection;
  /** Index of the instruction that was being walked. */
  readonly at: number;
  readonly trace: Trace;
  readonly walk: Walk;
}

export function verifierError(refused: Refused): VerifierError {
  const { program, rejection, at } = refused;
  const insn = program.slotOf(rejection.index ?? at);
  const message = `instruction ${insn}: ${rejection.message}`;
  return new VerifierError(rejection.code, insn, message, new Reasons(refused));
}

class Reasons implements Explanation {
  readonly #refused: Refused;
  readonly #index: number;
  #log: string | undefined;
  #way: Way | undefined;
  #report: VerifierReport | undefined;
  #counterexample: { readonly found: Counterexample | undefined } | undefined;

  constructor(refused: Refused) {
    this.#refused = refused;
    this.#index = refused.rejection.index ?? refused.at;
  }

  get log(): string {
    return (this.#log ??= this.#refused.trace.text(this.#refused.program));
  }

  get counterexample(): Counterexample | undefined {
    const { program, contract, rejection } = this.#refused;
    const { path } = this.#walked();
    const refusal = { program, contract, code: rejection.code, index: this.#index, path };
    this.#counterexample ??= { found: findCounterexample(refusal) };
    return this.#counterexample.found;
  }

  get report(): VerifierReport {
    return (this.#report ??= this.#makeReport());
  }

  get text(): string {
    return reportText(this.report);
  }

  #walked(): Way {
    return (this.#way ??= walkAgain(this.#refused, this.#index));
  }

  #makeReport(): VerifierReport {
    const { program, contract, rejection } = this.#refused;
    const way = this.#walked();
    const { counterexample } = this;
    const instruction = program.instructions[this.#index]!;
    const text = instructionText(instruction);
    return {
      code: rejection.code,
      insn: program.slotOf(this.#index),
      reason: rejection.message,
      instruction: text,
      operand: rejection.code === 'V-UNWRITTEN' ? undefined : operandOf(instruction, text, way),
      contract: contractText(contract),
      slice: linesOf(program, way.path, sliceSteps(way, this.#refused)),
      counterexample: counterexample && reported(counterexample),
    };
  }
}

function reported({ args, helperResults, ...rest }: Counterexample): ReportedCounterexample {
  const results = Object.entries(helperResults).map(([id, result]) => [id, String(result)]);
  return { ...rest, args: args.map(argText), helperResults: Object.fromEntries(results) };
}

function argText(arg: GivenArg): ReportedArg {
  if (arg === undefined) return null;
  return typeof arg === 'bigint' ? { number: String(arg) } : { bytes: Buffer.from(arg).toString('hex') };
}

interface Way {
  /** Up to the failing instruction, where that one was come to. */
  readonly path: readonly Step[];
  /** What the failing instruction requires in vain. */
  readonly missed: Requirement | undefined;
}

function walkAgain({ program, contract, walk }: Refused, index: number): Way {
  const recorder = new PathRecorder();
  try {
    walk(recorder);
  } catch (error) {
    if (!(error instanceof VerifierError)) throw error;
  }
  const path = recorder.steps();
  const state = path.at(-1)?.index === index ? recorder.last : undefined;
  const missed = state && missedBy(state, program.instructions[index]!, contract);
  return { path, missed };
}

/** The first requirement that does not hold. */
function missedBy(state: State, instruction: Instruction, contract: Contract): Requirement | undefined {
  return requirementsOf(instruction.row).find((requirement) => {
    try {
      check(requirement, instruction, state, contract);
      return false;
    } catch (error) {
      if (error instanceof Rejection) return true;
      throw error;
    }
  });
}

/** The registers that a requirement is about. */
function registersOf(requirement: Requirement, instruction: Instruction): number[] {
  const { row, dst, src } = instruction;
  switch (requirement.kind) {
    case 'pointer arithmetic':
    case 'comparable':
      return row.source === 'reg' ? [dst, src] : [dst];
    case 'kept':
      return [src];
    case 'returnable':
      return [0];
    case 'callable':
      return [];
    default:
      return [registerOf(requirement.operand, instruction)];
  }
}

/** Where in the text the operand stands: an access's address, or the register as it is read. */
function operandOf(
  instruction: Instruction,
  text: string,
  { missed, path }: Way,
): FailingOperand | undefined {
  const numbers = missed ? registersOf(missed, instruction) : [];
  const last = path.at(-1);
  const [register] = numbers;
  if (!missed || register === undefined || !last) return undefined;
  const holds = numbers.map((r) => holding(last, r)).join(' ');
  const registers = numbers.map((r) => `r${r}`);
  const address = missed.kind === 'access' || missed.kind === 'aligned' ? /r\d+ [+-] \d+/.exec(text) : null;
  if (address) return { text: address[0], column: address.index, registers, holds };
  const found = [...text.matchAll(new RegExp(`\\b[rw]${register}\\b`, 'g'))];
  const read = instruction.row.source === 'reg' && register === instruction.src ? found.at(-1) : found[0];
  return { text: read?.[0] ?? text, column: read?.index ?? 0, registers, holds };
}

function sliceSteps({ path, missed }: Way, { program, contract, rejection, at }: Refused): number[] {
  if (rejection.code === 'V-UNWRITTEN') return storesTo(contract.writesAll ?? [], program, path);
  if (missed) return sliceOf(program, path, registersOf(missed, program.instructions[at]!));
  if (rejection.code !== 'V-LOOP' && rejection.code !== 'V-BUDGET') return [];
  const round = path.findLastIndex(({ index }) => index === at);
  return round < 0 ? [] : sliceOfJumps(program, path, round);
}

function storesTo(args: readonly number[], program: Program, path: readonly Step[]): number[] {
  return [...path.keys()].filter((step) => {
    const { index, registers } = path[step]!;
    const { row, dst } = program.instructions[index]!;
    const to = registers[dst];
    return row.kind === 'store' && to instanceof Pointer && args.includes(to.region.arg);
  });
}

/** An instruction once, where it was walked over last. */
function linesOf(program: Program, path: readonly Step[], steps: readonly number[]): SliceLine[] {
  const times = new Map<number, number>();
  const last = new Map<number, number>();
  for (const step of steps) {
    const { index } = path[step]!;
    times.set(index, (times.get(index) ?? 0) + 1);
    last.set(index, step);
  }
  const inOrder = [...last].sort(([, a], [, b]) => a - b);
  return inOrder.map(([index, step]) => ({
    insn: program.slotOf(index),
    instruction: instructionText(program.instructions[index]!),
    result: resultOf(program, path, step),
    times: times.get(index)!,
  }));
}

const holding = ({ registers }: Step, register: number): string =>
  `r${register}=${valueText(registers[register], ({ arg, base, name }) => (arg < 0 ? base : name))}`;

function resultOf(program: Program, path: readonly Step[], step: number): string {
  const { index, registers } = path[step]!;
  const after = path[step + 1];
  const { row, dst, src, off } = program.instructions[index]!;
  if (!after) return '';
  switch (row.kind) {
    case 'jump': {
      const way = after.index === program.targetOf(index) ? 'taken' : 'not taken';
      const known =
        row.source === 'reg' ? `${holding(after, dst)} ${holding(after, src)}` : holding(after, dst);
      return `${way}: ${known}`;
    }
    case 'store':
      return writtenText(registers[dst], off, row.size);
    case 'call':
      return row.op === 'local' ? 'r1 to r5 go along' : holding(after, 0);
    case 'exit':
      return holding(after, 0);
    default:
      return holding(after, row.op === 'cmpxchg' ? 0 : row.kind === 'atomic' ? src : dst);
  }
}

function writtenText(to: Value | undefined, off: number, size: number): string {
  if (!(to instanceof Pointer)) return '';
  const { region, offset } = to;
  const { min, max } = offset.known.whole.s;
  const [first, last] = [min + BigInt(off), max + BigInt(off + size - 1)];
  const byte = (at: bigint) => (region.frame >= 0 ? `r10${withSign(at)}` : String(at));
  const bytes = first === last ? `byte ${byte(first)}` : `bytes ${byte(first)} to ${byte(last)}`;
  return `${min === max ? '' : 'somewhere in '}${bytes} of ${region.name}`;
}
