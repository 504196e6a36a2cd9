// The walk as the Linux verifier logs it (log level 2), for viewers of such logs. After each instruction stand the
// registers that it names, as it left them; addresses of an argument's memory are of Linux's type 'mem'.

import { type Contract, checkContract } from '../bpf/contract.js';
import type { Instruction, Program } from '../bpf/program.js';
import { requireProgram } from '../bpf/program.js';
import { instructionText } from '../bpf/text.js';
import { requireInteger } from '../bytes.js';
import { VerifierError } from '../errors.js';
import { explore } from './explore.js';
import type { Observer } from './path.js';
import { registersOf } from './report.js';
import type { Scalar } from './scalars.js';
import * as scalars from './scalars.js';
import { type State, topOf } from './states.js';
import { Pointer, type Value } from './values.js';
import type { VerifyOptions } from './verify.js';

export interface VerifierLogOptions extends VerifyOptions {
  /** The last lines that are kept. Default: 100,000. */
  readonly maxLines?: number;
}

/**
 * Verifies a program and tells every step, in the format of the Linux verifier's log.
 * @returns a line per instruction walked, then the reason if the program is refused, then what it took
 * @throws ProgramError 'P-TYPE' for what is no program; ArgumentError 'A-CONTRACT' for a bad contract, 'A-RANGE' for a bad limit
 */
export function verifierLog(program: Program, contract: Contract, options: VerifierLogOptions = {}): string {
  requireProgram(program);
  const checked = checkContract(contract);
  const { maxInstructions = checked.maxInstructions ?? 1_000_000, maxLines = 100_000 } = options ?? {};
  requireInteger(maxInstructions, 1, Number.MAX_SAFE_INTEGER, 'maxInstructions');
  requireInteger(maxLines, 1, Number.MAX_SAFE_INTEGER, 'maxLines');
  const log = new Log(program, maxLines);
  try {
    explore(program, checked, { maxInstructions, prune: true, observer: log });
    log.end(maxInstructions);
  } catch (error) {
    if (!(error instanceof VerifierError)) throw error;
    log.end(maxInstructions, error.message.replace(/^instruction \d+: /, ''));
  }
  return log.text();
}

class Log implements Observer {
  #lines: string[] = [];
  #walked = 0;
  /** The instruction walked over last, whose results are still to come. */
  #open: { readonly index: number; readonly state: State; readonly depth: number } | undefined;
  readonly #origins = new WeakMap<State, number>();

  constructor(
    readonly program: Program,
    readonly maxLines: number,
  ) {}

  step(state: State): void {
    const from = this.#origins.get(state);
    this.#finish(state);
    const at = this.program.slotOf(state.index);
    if (from !== undefined) this.#add(`\nfrom ${from} to ${at}: ${stateText(state)}`);
    else if (this.#walked === 0) this.#add(`${at}: ${stateText(state)}`);
    this.#origins.delete(state);
    this.#walked++;
    this.#open = { index: state.index, state, depth: state.frames.length };
  }

  later(state: State): void {
    this.#origins.set(state, this.program.slotOf(this.#open?.index ?? state.index));
  }

  proven(state: State): void {
    const from = this.#origins.get(state);
    this.#finish(state);
    const at = this.program.slotOf(state.index);
    this.#add(from === undefined ? `${at}: safe` : `\nfrom ${from} to ${at}: safe`);
  }

  end(limit: number, reason?: string): void {
    this.#finish(undefined);
    if (reason !== undefined) this.#add(reason);
    this.#add(
      `processed ${this.#walked} insns (limit ${limit}) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0`,
    );
  }

  text(): string {
    return this.#lines
      .slice(-this.maxLines)
      .map((line) => `${line}\n`)
      .join('');
  }

  /** Writes the last instruction, with what its registers hold now if `next` is the state that it left. */
  #finish(next: State | undefined): void {
    const open = this.#open;
    this.#open = undefined;
    if (!open) return;
    const instruction = this.program.instructions[open.index]!;
    const opcode = instruction.row.opcode.toString(16).padStart(2, '0');
    const line = `${this.program.slotOf(open.index)}: (${opcode}) ${kernelText(instruction)}`;
    const after =
      next === open.state && next.frames.length === open.depth ? resultText(instruction, next) : '';
    this.#add(after ? `${line.padEnd(RESULT_COLUMN)}; ${after}` : line);
  }

  #add(line: string): void {
    this.#lines.push(line);
    if (this.#lines.length >= 2 * this.maxLines) this.#lines = this.#lines.slice(-this.maxLines);
  }
}

/** Where Linux begins the comment. */
const RESULT_COLUMN = 40;

/** The kernel writes displacements, jumps and compared numbers a little differently from LLVM. */
function kernelText(instruction: Instruction): string {
  const text = instructionText(instruction)
    .replace(/ ([+-]) (\d+\))/g, ' $1$2')
    .replace('goto ', 'goto pc');
  const { row, imm } = instruction;
  if (row.kind !== 'jump' || row.source !== 'imm') return text;
  return text.replace(/-?\d+ goto/, `0x${(imm >>> 0).toString(16)} goto`);
}

function resultText(instruction: Instruction, state: State): string {
  const written = instruction.row.dst === 'write' || instruction.row.dst === 'readwrite';
  const texts = registersOf(instruction)
    .sort((a, b) => a - b)
    .map((r) => registerText(state, r, written && r === instruction.dst ? '_w' : ''));
  return frameText(state) + texts.filter(Boolean).join(' ');
}

const stateText = (state: State): string =>
  frameText(state) +
  [...topOf(state).registers.keys()]
    .map((r) => registerText(state, r, ''))
    .filter(Boolean)
    .join(' ');

const frameText = ({ frames }: State): string => (frames.length > 1 ? `frame${frames.length - 1}: ` : '');

function registerText(state: State, register: number, mark: string): string {
  const value = topOf(state).registers[register];
  return value ? `R${register}${mark}=${valueText(value)}` : '';
}

function valueText(value: Value): string {
  if (!(value instanceof Pointer)) return scalarText(value.known);
  const { region, offset } = value;
  const { s } = offset.known.whole;
  if (region.frame >= 0 && s.min === s.max) return `fp${s.min}`;
  const type = region.frame >= 0 ? 'fp' : region.access === 'read' ? 'rdonly_mem' : 'mem';
  const size = region.frame >= 0 ? [] : [`sz=${region.bytes}`];
  const fixed = s.min === s.max && s.min !== 0n ? [`off=${s.min}`] : [];
  const variable = s.min === s.max ? [] : rangesOf(offset.known);
  return `${type}(${[...fixed, ...size, ...variable].join(',')})`;
}

const scalarText = (scalar: Scalar): string =>
  scalars.isConstant(scalar) ? String(scalar.whole.s.min) : `scalar(${rangesOf(scalar).join(',')})`;

/** Bounds that say something, equal ones together: `smin=smin32=0,smax=umax=255,var_off=(0x0; 0xff)`. */
function rangesOf({ whole, low }: Scalar): string[] {
  const names = new Map<bigint, string[]>();
  for (const [name, value, widest] of [...boundsOf(whole, ''), ...boundsOf(low, '32')])
    if (value !== widest) names.set(value, [...(names.get(value) ?? []), name]);
  const texts = [...names].map(([value, equal]) => `${equal.join('=')}=${value}`);
  const { t, bits } = whole;
  if (t.mask === (1n << BigInt(bits)) - 1n) return texts;
  return [...texts, `var_off=(0x${t.value.toString(16)}; 0x${t.mask.toString(16)})`];
}

function boundsOf({ bits, u, s }: Scalar['whole'], suffix: string): [string, bigint, bigint][] {
  const half = 1n << BigInt(bits - 1);
  return [
    [`smin${suffix}`, s.min, -half],
    [`smax${suffix}`, s.max, half - 1n],
    [`umin${suffix}`, u.min, 0n],
    [`umax${suffix}`, u.max, 2n * half - 1n],
  ];
}
