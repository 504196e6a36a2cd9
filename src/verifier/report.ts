// What a person reads when a proof fails.

import type { Instruction, Program } from '../bpf/program.js';
import { instructionText } from '../bpf/text.js';
import { MAX_U64 } from '../bytes.js';
import type { Scalar } from './scalars.js';
import * as scalars from './scalars.js';
import { Pointer, type Region, type Value } from './values.js';

/** Why a program is refused, before it is known at which instruction. */
export class Rejection extends Error {
  constructor(
    readonly code: string,
    message: string,
    /** Index of the instruction, where it is not the one being walked. */
    readonly index?: number,
  ) {
    super(message);
  }
}

/** An instruction walked over, and what the registers that it names held. */
interface Step {
  readonly index: number;
  readonly dst: Value | undefined;
  readonly src: Value | undefined;
}

/** The last instructions walked. Text is made at the end. */
export class Trace {
  readonly #steps: Step[] = [];
  #next = 0;

  record(index: number, { dst, src }: Instruction, registers: readonly (Value | undefined)[]): void {
    this.#add({ index, dst: registers[dst], src: registers[src] });
  }

  copy(): Trace {
    const copy = new Trace();
    for (const step of this.#inOrder()) copy.#add(step);
    return copy;
  }

  #add(step: Step): void {
    this.#steps[this.#next] = step;
    this.#next = (this.#next + 1) % STEPS;
  }

  #inOrder() {
    return [...this.#steps.slice(this.#next), ...this.#steps.slice(0, this.#next)];
  }

  text(program: Program): string {
    return this.#inOrder()
      .map((step) => stepText(program, step))
      .join('');
  }
}

const STEPS = 64;

function stepText(program: Program, { index, dst, src }: Step): string {
  const instruction = program.instructions[index]!;
  const held = registersOf(instruction)
    .map((r) => `r${r}=${valueText(r === instruction.dst ? dst : src)}`)
    .join(' ');
  return `${program.slotOf(index)}: ${instructionText(instruction, 'kernel', program.data)}${held && ` ; ${held}`}\n`;
}

export function registersOf({ row, dst, src }: Instruction): number[] {
  if (row.kind === 'exit') return [0];
  const named = [
    ...(typeof row.dst === 'number' ? [] : [dst]),
    ...(typeof row.src === 'number' ? [] : [src]),
  ];
  return [...new Set(named)];
}

export function valueText(value: Value | undefined, nameOf = ({ base }: Region) => base): string {
  if (!value) return 'uninitialised';
  if (!(value instanceof Pointer)) return scalarText(value.known);
  const { s } = value.offset.known.whole;
  const offset = s.min === s.max ? withSign(s.min) : `+(${s.min}..${s.max})`;
  return `${nameOf(value.region)}${offset}`;
}

function scalarText(scalar: Scalar): string {
  const { t, u, s } = scalar.whole;
  if (scalars.isConstant(scalar)) return String(s.min);
  if (u.max < 1n << 63n)
    return `${u.min}..${u.max}${t.mask === spanned(u.min ^ u.max) ? '' : maskText(t.mask)}`;
  if (s.min > -(1n << 63n) || s.max < (1n << 63n) - 1n) return `${s.min}..${s.max}`;
  return t.mask === MAX_U64 ? 'any number' : `any number${maskText(t.mask)}`;
}

/** All the bits up to the highest one of `x`. */
const spanned = (x: bigint): bigint => (x === 0n ? 0n : (1n << BigInt(x.toString(2).length)) - 1n);
const maskText = (mask: bigint) => ` (unknown bits 0x${mask.toString(16)})`;
export const withSign = (x: bigint): string => (x < 0n ? String(x) : `+${x}`);
