// What is known of a register's number: the whole of it and, where more is known of that, its low half (32 bits
// of 64). Generic over the width like its parts.

import { arithmetic, comparison } from '../bpf/alu.js';
import { assume as assumeWords } from './compare.js';
import type { Range } from './ranges.js';
import * as tnum from './tnum.js';
import type { Word } from './words.js';
import * as words from './words.js';

export interface Scalar {
  readonly whole: Word;
  readonly low: Word;
}

const halfOf = (bits: number) => bits / 2;

export const constant = (value: bigint, bits = 64): Scalar => ({
  whole: words.constant(value, bits),
  low: words.constant(value, halfOf(bits)),
});

export const of = (whole: Word): Scalar => ({ whole, low: words.truncate(whole, halfOf(whole.bits)) });
export const unknown = (bits = 64): Scalar => ({
  whole: words.unknown(bits),
  low: words.unknown(halfOf(bits)),
});

export const isConstant = (a: Scalar): boolean => words.isConstant(a.whole);
export const contains = (a: Scalar, x: bigint): boolean =>
  words.contains(a.whole, x) && words.contains(a.low, BigInt.asUintN(a.low.bits, x));
export const includes = (a: Scalar, b: Scalar): boolean =>
  a === b || (words.includes(a.whole, b.whole) && words.includes(a.low, b.low));

/** Lets the whole and its low half sharpen each other; undefined if they contradict each other. */
export function sync(whole: Word, low: Word): Scalar | undefined {
  const sharperLow = words.intersect(low, words.truncate(whole, low.bits));
  if (!sharperLow) return undefined;
  const high = tnum.ones(whole.bits) ^ tnum.ones(low.bits);
  const t = tnum.intersect(whole.t, { value: sharperLow.t.value, mask: sharperLow.t.mask | high });
  const u = withLow(whole.u, sharperLow.u, low.bits);
  const s = withLow(whole.s, sharperLow.u, low.bits);
  const sharper = t && u && s && words.reduce({ bits: whole.bits, t, u, s });
  return sharper && { whole: sharper, low: sharperLow };
}

/** A range cut down to where its ends have low halves in `low`. */
function withLow({ min, max }: Range, low: Range, bits: number): Range | undefined {
  const modulus = 1n << BigInt(bits);
  const lowMin = min & (modulus - 1n);
  const lowMax = max & (modulus - 1n);
  let first = min;
  if (lowMin < low.min) first += low.min - lowMin;
  else if (lowMin > low.max) first += modulus - lowMin + low.min;
  let last = max;
  if (lowMax > low.max) last -= lowMax - low.max;
  else if (lowMax < low.min) last -= lowMax + modulus - low.max;
  return first <= last ? { min: first, max: last } : undefined;
}

// Constants are computed as the machine does: loops over constants are walked in a third of the time.
const isMachine = (a: Scalar): boolean => a.whole.bits === 64;
const numberOf = (a: Scalar): bigint => a.whole.t.value;

/** Operators whose low half of the result depends on the low halves of the operands alone. */
const CLOSED = new Set(['add', 'sub', 'mul', 'and', 'or', 'xor', 'neg', 'mov']);

/** a op b at the full width. */
export function aluWhole(op: string, a: Scalar, b: Scalar): Scalar {
  if (isMachine(a) && isConstant(a) && isConstant(b))
    return constant(arithmetic(op, 64, numberOf(a), numberOf(b)));
  const whole = words.alu(op, a.whole, b.whole);
  if (!CLOSED.has(op)) return of(whole);
  return sync(whole, words.alu(op, a.low, b.low)) ?? unknown(whole.bits);
}

/** a op b on the low halves; the high half of the result is 0. */
export function aluLow(op: string, a: Scalar, b: Scalar): Scalar {
  if (isMachine(a) && isConstant(a) && isConstant(b))
    return constant(arithmetic(op, 32, numberOf(a), numberOf(b)));
  const low = words.alu(op, a.low, b.low);
  return { whole: words.zeroExtend(low, a.whole.bits), low };
}

/** The low `from` bits, zero-extended. */
export function truncate(a: Scalar, from: number): Scalar {
  const source = from <= a.low.bits ? a.low : a.whole;
  return of(words.zeroExtend(words.truncate(source, from), a.whole.bits));
}

/** The low `from` bits, sign-extended to `to` bits and from there zero-extended. */
export function signExtend(a: Scalar, from: number, to: number): Scalar {
  const source = from <= a.low.bits ? a.low : a.whole;
  const extended = words.signExtend(words.truncate(source, from), to);
  return of(words.zeroExtend(extended, a.whole.bits));
}

/** The low `bits` bits with their bytes in the opposite order, zero-extended. */
export function swapBytes(a: Scalar, bits: number): Scalar {
  const source = bits <= a.low.bits ? a.low : a.whole;
  return of(words.zeroExtend(words.swapBytes(words.truncate(source, bits)), a.whole.bits));
}

/** The operands for which the comparison of `bits` bits is true, or undefined if it cannot be. */
export function assume(
  op: string,
  bits: number,
  a: Scalar,
  b: Scalar,
): readonly [Scalar, Scalar] | undefined {
  if (isMachine(a) && isConstant(a) && isConstant(b) && op !== 'jnset')
    return comparison(op, bits, numberOf(a), numberOf(b)) ? [a, b] : undefined;
  const half = bits === a.low.bits;
  const refined = half ? assumeWords(op, a.low, b.low) : assumeWords(op, a.whole, b.whole);
  if (!refined) return undefined;
  const first = half ? sync(a.whole, refined[0]) : sync(refined[0], a.low);
  const second = half ? sync(b.whole, refined[1]) : sync(refined[1], b.low);
  return first && second && [first, second];
}

export function intersect(a: Scalar, b: Scalar): Scalar | undefined {
  const whole = words.intersect(a.whole, b.whole);
  const low = words.intersect(a.low, b.low);
  return whole && low && sync(whole, low);
}

export function union(a: Scalar, b: Scalar): Scalar {
  return { whole: words.union(a.whole, b.whole), low: words.union(a.low, b.low) };
}

/**
 * All numbers of both, and more, so that any chain x = widen(x, …) stays as it is after a few steps; `a` itself where
 * it includes `b`. What is lost is limited by `thresholds`: the constants that bound the numbers of a loop.
 */
export function widen(a: Scalar, b: Scalar, thresholds: readonly bigint[] = []): Scalar {
  if (includes(a, b)) return a;
  return { whole: words.widen(a.whole, b.whole, thresholds), low: words.widen(a.low, b.low, thresholds) };
}

/** Unsigned min … max. */
export const between = (min: bigint, max: bigint, bits = 64): Scalar => of(words.between(min, max, bits));

export const equal = (a: Scalar, b: Scalar): boolean => a === b || (includes(a, b) && includes(b, a));
