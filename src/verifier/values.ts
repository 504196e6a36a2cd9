// What a register or a byte of the stack may hold.
//
// Numbers are computed only when somebody asks. A routine that merely moves and shifts data never asks: its
// safety depends on its pointers alone. What has been asked is remembered as `needed`: where two paths meet, only
// needed numbers must fit what was proven before. Two registers that hold the same Lazy hold the same number.

import type { Access } from '../bpf/contract.js';
import type { Instruction } from '../bpf/program.js';
import type { Scalar } from './scalars.js';
import * as scalars from './scalars.js';

export type Compute = (a: Scalar, b: Scalar) => Scalar;

/** Numbers with the same origin differ by constants: each is origin + plus, modulo 2^64. */
export interface Link {
  readonly origin: Lazy;
  readonly plus: bigint;
}

export class Lazy {
  #link: Link | undefined;
  #isOrigin = false;
  #known: Scalar | undefined;
  #needed = false;
  #compute: Compute | undefined;
  #a: Lazy | undefined;
  #b: Lazy | undefined;

  private constructor(known: Scalar | undefined, compute?: Compute, a?: Lazy, b?: Lazy) {
    this.#known = known;
    this.#compute = compute;
    this.#a = a;
    this.#b = b;
  }

  /** A number of which this much is known, whatever happens elsewhere. */
  static of(known: Scalar): Lazy {
    return new Lazy(known);
  }

  static constant(value: bigint): Lazy {
    return new Lazy(scalars.constant(value));
  }

  /** The number computed from others, when asked. */
  static from(compute: Compute, a: Lazy, b: Lazy = a): Lazy {
    return new Lazy(undefined, compute, a, b);
  }

  /** a op constant for an op that adds `plus`: remembered, so that what is learnt of one is learnt of the other. */
  static moved(compute: Compute, a: Lazy, constant: Lazy, plus: bigint): Lazy {
    const { origin, plus: before } = a.link;
    origin.#isOrigin = true;
    return Lazy.from(compute, a, constant).linked({ origin, plus: before + plus });
  }

  /** A number of which `known` was learnt from what is known of `a` and `b`. */
  static learnt(known: Scalar, a: Lazy, b: Lazy): Lazy {
    return new Lazy(known, undefined, a, b);
  }

  /** The same number under a new identity, so that it shows whether anybody needs it from here on. */
  static probe(of: Lazy): Lazy {
    return new Lazy(of.#known, identity, of, of);
  }

  get link(): Link {
    return this.#link ?? { origin: this, plus: 0n };
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

  /** Whether some proof rests on what is known; the kernel's verifier calls such a number precise. */
  get needed(): boolean {
    return this.#needed;
  }

  /** What is known, for a proof that rests on it. */
  need(): Scalar {
    const known = this.known;
    if (!this.#needed) this.#markNeeded();
    return known;
  }

  // Both walks keep their own stack: chains are as long as the program walks.
  #force(): Scalar {
    const open: Lazy[] = [this];
    for (let top = open.at(-1); top; top = open.at(-1)) {
      const missing = top.#a && !top.#a.#known ? top.#a : top.#b && !top.#b.#known ? top.#b : undefined;
      if (missing && !top.#known) {
        open.push(missing);
        continue;
      }
      top.#known ??= (top.#compute as Compute)(top.#a!.#known!, top.#b!.#known!);
      open.pop();
    }
    return this.#known!;
  }

  #markNeeded(): void {
    const open: Lazy[] = [this];
    for (let top = open.pop(); top; top = open.pop()) {
      if (top.#needed) continue;
      top.#needed = true;
      if (top.#a) open.push(top.#a);
      if (top.#b && top.#b !== top.#a) open.push(top.#b);
      if (top.#known) top.#a = top.#b = undefined;
    }
  }
}

const identity: Compute = (a) => a;

const immediates = new WeakMap<Instruction, Lazy>();

/** The immediate operand of an instruction. */
export function immediateOf(instruction: Instruction): Lazy {
  let found = immediates.get(instruction);
  if (!found) immediates.set(instruction, (found = Lazy.constant(instruction.value)));
  return found;
}

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

/** First and last offset in its region that an access at pointer + off may begin at, whatever the input. */
export function offsetsOf({ offset }: Pointer, off: number): { first: bigint; last: bigint } {
  const { s } = offset.need().whole;
  return { first: s.min + BigInt(off), last: s.max + BigInt(off) };
}

/** Undefined stands for: not initialised. */
export type Value = Lazy | Pointer;
