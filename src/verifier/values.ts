// What a register or a byte of the stack may hold.
//
// Numbers are computed only when somebody asks. A routine that merely moves and shifts data never asks: its
// safety depends on its pointers alone. What has been asked is remembered as `needed`: where two paths meet, only
// needed numbers must fit what was proven before. Two registers that hold the same Lazy hold the same number.

import type { Access, Alignment } from '../bpf/contract.js';
import type { Instruction } from '../bpf/program.js';
import type { Scalar } from './scalars.js';
import * as scalars from './scalars.js';

export type Compute = (a: Scalar, b: Scalar) => Scalar;

/** Numbers with the same origin differ by constants: each is origin + plus, modulo 2^64. */
export interface Link {
  readonly origin: Lazy;
  /** A safe integer. */
  readonly plus: number;
}

export class Lazy {
  #link: Link | undefined;
  /** The same of the low halves, modulo 2^32, where that does not follow from `link`. */
  #lowLink: Link | undefined;
  #isOrigin = false;
  #known: Scalar | undefined;
  #needed = false;
  #compute: Compute | undefined;
  #a: Lazy | undefined;
  #b: Lazy | undefined;
  // Offsets of most pointers are constants: as safe integers they are moved and compared at no cost to speak of.
  #fixed: number | undefined;

  private constructor(known: Scalar | undefined, compute?: Compute, a?: Lazy, b?: Lazy, fixed?: number) {
    this.#known = known;
    this.#compute = compute;
    this.#a = a;
    this.#b = b;
    this.#fixed = fixed;
  }

  /** A number of which this much is known, whatever happens elsewhere. */
  static of(known: Scalar): Lazy {
    return new Lazy(known);
  }

  /** @param value 0 … 2^64 - 1 */
  static constant(value: bigint): Lazy {
    const signed = Number(BigInt.asIntN(64, value));
    return Number.isSafeInteger(signed) ? Lazy.integer(signed) : new Lazy(scalars.constant(value));
  }

  /** @param value a safe integer, which stands for itself modulo 2^64 */
  static integer(value: number): Lazy {
    return new Lazy(undefined, undefined, undefined, undefined, value);
  }

  /** The number computed from others, when asked. */
  static from(compute: Compute, a: Lazy, b: Lazy = a): Lazy {
    return new Lazy(undefined, compute, a, b);
  }

  /** a + plus, computed from `a` and a constant; what is learnt of one is learnt of the other. */
  static moved(compute: Compute, a: Lazy, constant: Lazy, plus: number): Lazy {
    const fixed = a.#fixed === undefined ? undefined : safe(a.#fixed + plus);
    const moved = new Lazy(undefined, compute, a, constant, fixed);
    const distance = (a.#link?.plus ?? 0) + plus;
    if (Math.abs(distance) > MAX_DISTANCE) return moved;
    const origin = a.#link?.origin ?? a;
    origin.#isOrigin = true;
    return moved.linked({ origin, plus: distance });
  }

  /** A number computed from `a` whose low half is that of `a`, plus `plus`. */
  static movedLow(compute: Compute, a: Lazy, b: Lazy, plus: number): Lazy {
    const { origin, plus: before } = a.lowLink;
    const moved = Lazy.from(compute, a, b);
    moved.#lowLink = { origin, plus: (before + plus) | 0 };
    return moved;
  }

  /** A number of which `known` was learnt from what is known of `a` and `b`. */
  static learnt(known: Scalar, a: Lazy, b: Lazy): Lazy {
    return new Lazy(known, undefined, a, b);
  }

  /** `number`, of which more is known now. */
  static sharper(number: Lazy, known: Scalar, a: Lazy, b: Lazy): Lazy {
    const sharper = Lazy.learnt(known, a, b);
    if (number.hasRelatives) sharper.#link = number.link;
    else sharper.#lowLink = number.#lowLink;
    return sharper;
  }

  /** Lets sharper versions of this number be known as the same number. */
  track(): this {
    this.link.origin.#isOrigin = true;
    return this;
  }

  /** The same number under a new identity, so that it shows whether anybody needs it from here on. */
  static probe(of: Lazy): Lazy {
    return new Lazy(of.#known, identity, of, of, of.#fixed);
  }

  get link(): Link {
    return this.#link ?? { origin: this, plus: 0 };
  }

  get lowLink(): Link {
    if (this.#lowLink) return this.#lowLink;
    if (!this.#link || this.#link.origin === this) return { origin: this, plus: 0 };
    const { origin, plus } = this.#link.origin.lowLink;
    return { origin, plus: Number(BigInt.asIntN(32, BigInt(plus + this.#link.plus))) };
  }

  linked(link: Link): Lazy {
    this.#link = link;
    return this;
  }

  /** Whether other numbers may have the same origin. */
  get hasRelatives(): boolean {
    return this.#isOrigin || this.#link !== undefined;
  }

  /** What is known, for a look that proves nothing. */
  get known(): Scalar {
    return this.#known ?? this.#force();
  }

  /** The number, where it is a constant that takes no computing. */
  get fixed(): number | undefined {
    return this.#fixed;
  }

  /** Whether some proof rests on what is known; the kernel's verifier calls such a number precise. */
  get needed(): boolean {
    return this.#needed;
  }

  /** What is known, for a proof that rests on it. */
  need(): Scalar {
    const known = this.known;
    this.rely();
    return known;
  }

  /** Says that a proof rests on what is known, without asking what that is. */
  rely(): void {
    if (!this.#needed) this.#markNeeded();
  }

  // Both walks keep their own stack: chains are as long as the program walks.
  #force(): Scalar {
    const open: Lazy[] = [this];
    for (let top = open.at(-1); top; top = open.at(-1)) {
      const missing = top.#a && !top.#a.#known ? top.#a : top.#b && !top.#b.#known ? top.#b : undefined;
      if (missing && !top.#known && top.#fixed === undefined) {
        open.push(missing);
        continue;
      }
      top.#known ??= top.#make();
      open.pop();
    }
    return this.#known!;
  }

  #make(): Scalar {
    if (this.#fixed !== undefined) return integer(this.#fixed);
    return (this.#compute as Compute)(this.#a!.#known!, this.#b!.#known!);
  }

  #markNeeded(): void {
    const open: Lazy[] = [this];
    for (let top = open.pop(); top; top = open.pop()) {
      if (top.#needed) continue;
      top.#needed = true;
      if (top.#a) open.push(top.#a);
      if (top.#b && top.#b !== top.#a) open.push(top.#b);
      if (top.#known || top.#fixed !== undefined) top.#a = top.#b = undefined;
    }
  }
}

const identity: Compute = (a) => a;
/** So small that sums of a few distances, offsets and sizes are exact. */
const MAX_DISTANCE = 2 ** 48;
const safe = (x: number): number | undefined => (Number.isSafeInteger(x) ? x : undefined);

/** The constants asked for last, by their low bits: loops ask for few, over and over. */
const constants: { value: number; scalar: Scalar }[] = [];

function integer(value: number): Scalar {
  const found = constants[value & 255];
  if (found?.value === value) return found.scalar;
  const scalar = scalars.constant(BigInt(value));
  constants[value & 255] = { value, scalar };
  return scalar;
}

/** The immediate operand of an instruction. */
export const immediateOf = ({ row, imm, value }: Instruction): Lazy =>
  row.kind === 'load_imm64' ? Lazy.constant(value) : Lazy.integer(imm);

/** Memory that pointers lead into. Regions of arguments may overlap each other; a frame and a data section overlap nothing. */
export interface Region {
  /** The register that led here first, r1 … r5 or r10; or the name of the data section. */
  readonly base: string;
  /** How messages call it. */
  readonly name: string;
  /** First offset from the base: 0, or -512 for a frame. */
  readonly start: number;
  readonly bytes: number;
  readonly access: Access;
  /** What its address is a multiple of, where the contract says so; else 8. */
  readonly align: Alignment | undefined;
  /** Index of the argument, or -1. */
  readonly arg: number;
  /** Depth of the call whose frame this is, or -1. */
  readonly frame: number;
}

/** base + offset modulo 2^64, as the machine computes it; only an access asks where that is. */
export class Pointer {
  constructor(
    readonly region: Region,
    readonly offset: Lazy,
  ) {}
}

/**
 * First and last offset in its region that an access at pointer + off may begin at, whatever the input. Beyond 2^53
 * they are rounded, and outside of any region as they were.
 */
export function offsetsOf({ offset }: Pointer, off: number): { first: number; last: number } {
  const { fixed } = offset;
  if (fixed !== undefined) {
    offset.rely();
    return { first: fixed + off, last: fixed + off };
  }
  const { s } = offset.need().whole;
  return { first: Number(s.min) + off, last: Number(s.max) + off };
}

/** Undefined stands for: not initialised. */
export type Value = Lazy | Pointer;
