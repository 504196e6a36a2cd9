// What a comparison that came out true says about its two operands.

import { maximum, minimum, type Range } from './ranges.js';
import * as tnum from './tnum.js';
import { intersect, isConstant, reduce, type Word } from './words.js';

/** Both operands sharpened, or undefined if the comparison cannot be true. */
export type Refined = readonly [Word, Word] | undefined;

/** The comparison that is true exactly where `op` is false; `jnset` is our name for a & b == 0. */
export const OPPOSITE: Readonly<Record<string, string>> = {
  jeq: 'jne',
  jne: 'jeq',
  jgt: 'jle',
  jle: 'jgt',
  jge: 'jlt',
  jlt: 'jge',
  jsgt: 'jsle',
  jsle: 'jsgt',
  jsge: 'jslt',
  jslt: 'jsge',
  jset: 'jnset',
  jnset: 'jset',
};

/** The operands for which `a op b` is true, both of the same width. */
export function assume(op: string, a: Word, b: Word): Refined {
  return ASSUME[op]!(a, b);
}

type Assumption = (a: Word, b: Word) => Refined;

const both = (a: Word | undefined, b: Word | undefined): Refined => a && b && [a, b];
const swapped = (assumption: Assumption): Assumption => {
  return (a, b) => {
    const refined = assumption(b, a);
    return refined && [refined[1], refined[0]];
  };
};

const ordered =
  (reading: 'u' | 's', gap: bigint): Assumption =>
  (a, b) =>
    both(atLeast(a, reading, b[reading].min + gap), atMost(b, reading, a[reading].max - gap));

const atLeast = (a: Word, reading: 'u' | 's', min: bigint) =>
  withRange(a, reading, { min: maximum(a[reading].min, min), max: a[reading].max });
const atMost = (a: Word, reading: 'u' | 's', max: bigint) =>
  withRange(a, reading, { min: a[reading].min, max: minimum(a[reading].max, max) });

function withRange(a: Word, reading: 'u' | 's', range: Range): Word | undefined {
  if (range.min > range.max) return undefined;
  return reduce(reading === 'u' ? { ...a, u: range } : { ...a, s: range });
}

function without(a: Word, b: Word): Word | undefined {
  if (!isConstant(b)) return a;
  const u = cut(a.u, b.u.min);
  const s = cut(a.s, b.s.min);
  return u && s && reduce({ ...a, u, s });
}

/** A range without a number at one of its ends. */
function cut({ min, max }: Range, x: bigint): Range | undefined {
  if (min === x && max === x) return undefined;
  return { min: min === x ? min + 1n : min, max: max === x ? max - 1n : max };
}

function equal(a: Word, b: Word): Refined {
  const common = intersect(a, b);
  return common && [common, common];
}

function someBit(a: Word, b: Word): Refined {
  const possible = (a.t.value | a.t.mask) & (b.t.value | b.t.mask);
  if (possible === 0n) return undefined;
  const lowest = possible & -possible;
  if (possible === lowest) return both(withBits(a, lowest, lowest), withBits(b, lowest, lowest));
  return both(atLeast(a, 'u', lowest), atLeast(b, 'u', lowest));
}

function noBit(a: Word, b: Word): Refined {
  return both(withBits(a, b.t.value, 0n), withBits(b, a.t.value, 0n));
}

/** Those numbers whose bits in `mask` are those of `value`. */
function withBits(a: Word, mask: bigint, value: bigint): Word | undefined {
  const t = tnum.intersect(a.t, { value, mask: tnum.ones(a.bits) & ~mask });
  return t && reduce({ ...a, t });
}

const gt = ordered('u', 1n);
const ge = ordered('u', 0n);
const sgt = ordered('s', 1n);
const sge = ordered('s', 0n);

const ASSUME: Readonly<Record<string, Assumption>> = {
  jeq: equal,
  jne: (a, b) => both(without(a, b), without(b, a)),
  jgt: gt,
  jge: ge,
  jlt: swapped(gt),
  jle: swapped(ge),
  jsgt: sgt,
  jsge: sge,
  jslt: swapped(sgt),
  jsle: swapped(sge),
  jset: someBit,
  jnset: noBit,
};
