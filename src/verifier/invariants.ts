// What holds before each instruction, on every path and in every round: the proof, for those who come after.

import { FRAME_POINTER, REGISTERS } from '../bpf/isa.js';
import type { Program } from '../bpf/program.js';
import type { Range } from './ranges.js';
import type { Scalar } from './scalars.js';
import * as scalars from './scalars.js';
import { type State, topOf } from './states.js';
import { type Lazy, Pointer, type Region, type Value } from './values.js';

export type RegisterFact =
  | {
      readonly kind: 'number';
      /** Read as an unsigned number of 64 bits, and as a signed one. */
      readonly unsigned: Range;
      readonly signed: Range;
      /** The bits set in `mask` are those of `value`. */
      readonly bits: { readonly mask: bigint; readonly value: bigint };
    }
  | { readonly kind: 'pointer'; readonly memory: MemoryFact; readonly offset: Range };

/** The memory of an argument, or the stack of a call. */
export interface MemoryFact {
  /** The register whose value at the start (r1 to r5) or in its function (r10) is offset 0. */
  readonly base: string;
  /** For a stack, how deep the call is whose it is, 0 for the program itself; undefined for an argument. */
  readonly depth: number | undefined;
}

/** The first bytes that an access may take, from `first` to `last`, and how many it takes. */
export interface AccessFact {
  readonly memory: MemoryFact;
  readonly first: bigint;
  readonly last: bigint;
  readonly size: number;
}

export interface InstructionFacts {
  /** r0 to r10; undefined where nothing is known, or where paths differ in kind or memory, or nobody reads it. */
  readonly registers: readonly (RegisterFact | undefined)[];
  /** For a load, a store or an atomic operation. */
  readonly access: AccessFact | undefined;
}

interface Held {
  readonly region: Region | undefined;
  readonly known: Scalar;
}

/** For each instruction, the registers joined over all states; never changed in place. */
type Joined = readonly (Held | undefined)[];

/** Collects what is known where the walk comes by. */
export class Invariants {
  #at: (Joined | undefined)[];

  constructor(instructions: number) {
    this.#at = new Array(instructions).fill(undefined);
  }

  record(state: State): void {
    const { registers } = topOf(state);
    const before = this.#at[state.index];
    this.#at[state.index] = registers.map((value, r) =>
      before ? joined(before[r], value) : value && heldIn(value),
    );
  }

  /** All that was collected so far, to go back to. */
  copy(): Invariants {
    const copy = new Invariants(0);
    copy.#at = this.#at.slice();
    return copy;
  }

  /** By slot; undefined for what is never reached, and for the second slot of an instruction. */
  facts(program: Program): (InstructionFacts | undefined)[] {
    const facts = new Array<InstructionFacts | undefined>(program.slots).fill(undefined);
    this.#at.forEach((held, index) => {
      if (held) facts[program.slotOf(index)] = factsOf(program, index, held);
    });
    return facts;
  }
}

function heldIn(value: Value): Held {
  if (value instanceof Pointer) return { region: value.region, known: value.offset.known };
  return { region: undefined, known: (value as Lazy).known };
}

function joined(held: Held | undefined, value: Value | undefined): Held | undefined {
  if (!held || !value) return undefined;
  const now = heldIn(value);
  if (held.region !== now.region) return undefined;
  if (scalars.includes(held.known, now.known)) return held;
  return { region: held.region, known: scalars.union(held.known, now.known) };
}

function factsOf(program: Program, index: number, held: Joined): InstructionFacts {
  const { row, dst, src, off } = program.instructions[index]!;
  const registers = Array.from({ length: REGISTERS }, (_, r) => held[r] && registerFact(held[r]));
  const isAccess = row.kind === 'load' || row.kind === 'store' || row.kind === 'atomic';
  const base = registers[row.kind === 'load' || row.op === 'load_acquire' ? src : dst];
  const access = isAccess && base?.kind === 'pointer' ? accessFact(base, off, row.size) : undefined;
  return Object.freeze({ registers: Object.freeze(registers), access });
}

function accessFact(
  { memory, offset }: RegisterFact & { kind: 'pointer' },
  off: number,
  size: number,
): AccessFact {
  return Object.freeze({ memory, first: offset.min + BigInt(off), last: offset.max + BigInt(off), size });
}

function registerFact({ region, known }: Held): RegisterFact {
  const { t, u, s } = known.whole;
  if (region) {
    const memory = Object.freeze({ base: region.base, depth: region.frame < 0 ? undefined : region.frame });
    return Object.freeze({ kind: 'pointer', memory, offset: s });
  }
  const mask = BigInt.asUintN(64, ~t.mask);
  return Object.freeze({ kind: 'number', unsigned: u, signed: s, bits: { mask, value: t.value } });
}

/** What is known before an instruction, in words: where it goes in memory, and what its registers hold. */
export function factText(facts: InstructionFacts | undefined): string {
  if (!facts) return 'never comes here';
  const { access, registers } = facts;
  const place = access && `${memoryText(access.memory)} ${placesText(access)}`;
  const held = registers.flatMap((fact, r) =>
    fact && r < FRAME_POINTER ? [`r${r}=${registerText(fact)}`] : [],
  );
  return [place, held.join(' ')].filter(Boolean).join('; ');
}

const memoryText = ({ base, depth }: MemoryFact): string =>
  depth === undefined || depth === 0 ? base : `${base} of call ${depth}`;

const placesText = ({ first, last, size }: AccessFact): string =>
  first === last
    ? `${first}..${last + BigInt(size)}`
    : `${size} bytes within ${first}..${last + BigInt(size)}`;

function registerText(fact: RegisterFact): string {
  if (fact.kind === 'pointer') return `${memoryText(fact.memory)}${rangeText(fact.offset, '+')}`;
  return rangeText(fact.unsigned.max < 1n << 63n ? fact.unsigned : fact.signed, '');
}

function rangeText({ min, max }: Range, sign: string): string {
  if (min === max) return `${min < 0n ? '' : sign}${min}`;
  if (min === -(1n << 63n) && max === (1n << 63n) - 1n) return sign ? '+?' : '?';
  return `${sign}(${min}..${max})`;
}
