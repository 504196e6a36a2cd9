import { describe, expect, it } from 'vitest';
import { swapBytes } from '../src/bpf/alu.js';
import { assume } from '../src/verifier/compare.js';
import type { Word } from '../src/verifier/words.js';
import * as words from '../src/verifier/words.js';
import { ALL_PAIRS, comparisonsOf, expectScores, operatorsOf, readingsOf, SHIFTS } from './operators.js';
import { randomBits, seeded } from './random-formats.js';

/** A set of numbers of up to 5 bits: bit x stands for x. */
type NumberSet = number;
interface Known {
  readonly word: Word;
  readonly set: NumberSet;
}

/** The words of a width: for each set of numbers the sharpest that holds them all. */
class Words {
  readonly all: Known[] = [];
  readonly #best = new Map<NumberSet, Word>();

  constructor(readonly bits: number) {
    const half = 1 << (bits - 1);
    const spans = (xs: number[]) => [
      [],
      ...xs.flatMap((_, i) => xs.slice(i).map((_, j) => xs.slice(i, i + j + 1))),
    ];
    const numbers = Array.from({ length: 1 << bits }, (_, x) => x);
    const sets = new Set<NumberSet>();
    for (const mask of numbers) {
      for (const value of numbers.filter((x) => (x & mask) === 0)) {
        const xs = numbers.filter((x) => (x & ~mask) === value);
        for (const low of spans(xs.filter((x) => x < half)))
          for (const high of spans(xs.filter((x) => x >= half))) sets.add(setOf([...low, ...high]));
      }
    }
    sets.delete(0);
    for (const set of sets) this.all.push({ word: this.best(set), set });
  }

  best(set: NumberSet): Word {
    let found = this.#best.get(set);
    if (!found) this.#best.set(set, (found = this.#makeBest(set)));
    return found;
  }

  #makeBest(set: NumberSet): Word {
    const { bits } = this;
    const { signed } = readingsOf(bits);
    const xs = membersOf(set);
    const [and, or] = [xs.reduce((a, x) => a & x), xs.reduce((a, x) => a | x)];
    const ends = (ys: number[]) => ({ min: BigInt(Math.min(...ys)), max: BigInt(Math.max(...ys)) });
    const t = { value: BigInt(and), mask: BigInt(and ^ or) };
    return { bits, t, u: ends(xs), s: ends(xs.map(signed)) };
  }
}

const setOf = (xs: number[]): NumberSet => xs.reduce((set, x) => set | (1 << x), 0);
const membersOf = (set: NumberSet) => Array.from({ length: 32 }, (_, x) => x).filter((x) => (set >>> x) & 1);
const same = (a: Word, b: Word) => words.includes(a, b) && words.includes(b, a);

/** The numbers of `set` seen through `map`. */
function mapSet(set: NumberSet, map: readonly NumberSet[]): NumberSet {
  let mapped = 0;
  for (let rest = set; rest !== 0; rest &= rest - 1) mapped |= map[31 - Math.clz32(rest & -rest)]!;
  return mapped;
}

/** Every pair, or as many of them as `limit`, from a seed. */
function* pairsOf(all: readonly Known[], limit: number): Generator<readonly [Known, Known]> {
  if (all.length ** 2 <= limit) {
    for (const a of all) for (const b of all) yield [a, b];
    return;
  }
  const next = seeded(all.length);
  for (let i = 0; i < limit; i++) yield [all[next(all.length)]!, all[next(all.length)]!];
}

// All pairs of 4 bits are three million, and take a minute for each operator.
const limitOf = (bits: number) => (ALL_PAIRS || bits === 3 ? Number.POSITIVE_INFINITY : 8000);
const widths = [3, 4, 5].filter((bits) => !ALL_PAIRS || bits < 5);

describe.each(widths)('words of %i bits', (bits) => {
  const domain = new Words(bits);
  const { all } = domain;
  const numbers = Array.from({ length: 1 << bits }, (_, x) => x);
  const limit = limitOf(bits);
  const title = `words of ${bits} bits${all.length ** 2 <= limit ? '' : `, ${limit} pairs`}`;
  const { signed } = readingsOf(bits);

  it('operators contain every result, and are as sharp as they were', () => {
    const scores: Record<string, number> = {};
    for (const [op, meaning] of Object.entries(operatorsOf(bits))) {
      const amount = (y: number) => (SHIFTS.includes(op) ? y & (bits - 1) : y);
      const results = numbers.map((x) => numbers.map((y) => 1 << meaning(x, amount(y))));
      const byRight = new Map<Known, NumberSet[]>();
      const rows = (b: Known) => results.map((row) => mapSet(b.set, row));
      let [sharp, pairs] = [0, 0];
      for (const [a, b] of pairsOf(all, limit)) {
        let row = byRight.get(b);
        if (!row) byRight.set(b, (row = rows(b)));
        const best = domain.best(mapSet(a.set, row));
        const result = words.alu(op, a.word, b.word);
        if (!words.includes(result, best)) expect.fail(`${membersOf(a.set)} ${op} ${membersOf(b.set)}`);
        if (same(result, best)) sharp++;
        pairs++;
      }
      scores[op] = sharp / pairs;
    }
    expectScores(title, scores);
  }, 3_600_000);

  it('comparisons keep every pair for which they are true, and drop as much as they did', () => {
    const scores: Record<string, number> = {};
    for (const [op, holds] of Object.entries(comparisonsOf(bits))) {
      const rightOf = numbers.map((x) => setOf(numbers.filter((y) => holds(x, y))));
      const leftOf = numbers.map((y) => setOf(numbers.filter((x) => holds(x, y))));
      let [sharp, pairs] = [0, 0];
      for (const [a, b] of pairsOf(all, limit)) {
        const kept = [a.set & mapSet(b.set, leftOf), b.set & mapSet(a.set, rightOf)];
        const refined = assume(op, a.word, b.word);
        const best = kept[0] ? kept.map((set) => domain.best(set)) : undefined;
        if (best && !(refined && best.every((word, i) => words.includes(refined[i]!, word))))
          expect.fail(`${membersOf(a.set)} ${op} ${membersOf(b.set)}`);
        if (best ? best.every((word, i) => same(refined![i]!, word)) : !refined) sharp++;
        pairs++;
      }
      scores[op] = sharp / pairs;
    }
    expectScores(`${title}, comparisons`, scores);
  }, 3_600_000);

  it('are united and intersected as sets are, and as sharply as words can be', () => {
    for (const [a, b] of pairsOf(all, limit)) {
      const union = domain.best(a.set | b.set);
      if (!same(words.union(a.word, b.word), union)) expect.fail('union');
      const common = words.intersect(a.word, b.word);
      const best = a.set & b.set ? domain.best(a.set & b.set) : undefined;
      if (best ? !common || !same(common, best) : common) expect.fail('intersect');
      if (words.includes(a.word, b.word) !== ((a.set & b.set) === b.set)) expect.fail('includes');
    }
  }, 3_600_000);

  it('are truncated and extended as numbers are', () => {
    const low = bits - 1;
    const narrow = new Words(low);
    let sharp = 0;
    for (const { word, set } of all) {
      const xs = membersOf(set);
      const best = narrow.best(setOf(xs.map((x) => x & ((1 << low) - 1))));
      const cut = words.truncate(word, low);
      if (!words.includes(cut, best)) expect.fail(`truncate ${xs}`);
      if (same(cut, best)) sharp++;
      const [zero, sign] = [words.zeroExtend(word, 2 * bits), words.signExtend(word, 2 * bits)];
      for (const x of xs)
        if (
          !words.contains(zero, BigInt(x)) ||
          !words.contains(sign, BigInt.asUintN(2 * bits, BigInt(signed(x))))
        )
          expect.fail(`extend ${xs}`);
    }
    expectScores(`words of ${bits} bits`.concat(', one less'), { truncate: sharp / all.length });
  });
});

it('words of 3 bits are reduced to the sharpest with the same numbers, whatever they were made of', () => {
  const domain = new Words(3);
  const numbers = Array.from({ length: 8 }, (_, x) => x);
  const spans = (first: number) =>
    numbers.flatMap((i) => numbers.slice(i).map((j) => ({ min: BigInt(first + i), max: BigInt(first + j) })));
  for (const mask of numbers) {
    for (const value of numbers.filter((x) => (x & mask) === 0)) {
      for (const u of spans(0)) {
        for (const s of spans(-4)) {
          const raw = { bits: 3, t: { value: BigInt(value), mask: BigInt(mask) }, u, s };
          const set = setOf(numbers.filter((x) => words.contains(raw, BigInt(x))));
          const reduced = words.reduce(raw);
          if (set ? !reduced || !same(reduced, domain.best(set)) : reduced) expect.fail(`${membersOf(set)}`);
        }
      }
    }
  }
  expect(domain.all.length).toBe(134);
});

it('words of whole bytes hold what their numbers become with bytes swapped', () => {
  const next = seeded(16);
  for (const bits of [16, 32, 64]) {
    for (let round = 0; round < 500; round++) {
      const x = randomBits(next, 1 + next(bits));
      const word = words.union(words.constant(x, bits), words.constant(randomBits(next, bits), bits));
      const swapped = words.swapBytes(word);
      if (!words.contains(swapped, swapBytes('bswap', bits, x))) expect.fail(`${x}`);
      expect(words.swapBytes(swapped).t).toEqual(word.t);
    }
  }
});
