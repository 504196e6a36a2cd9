// What the domains make of seeded samples: each result has to hold what the machine computes, and how much more it holds
// is recorded, so that a domain that loses or gains sharpness shows.

import { arithmetic, comparison, swapBytes } from '../src/bpf/alu.js';
import { assume, OPPOSITE } from '../src/verifier/compare.js';
import * as ranges from '../src/verifier/ranges.js';
import type { Scalar } from '../src/verifier/scalars.js';
import * as scalars from '../src/verifier/scalars.js';
import * as tnum from '../src/verifier/tnum.js';
import { during } from '../src/verifier/trips.js';
import { Lazy } from '../src/verifier/values.js';
import type { Word } from '../src/verifier/words.js';
import * as words from '../src/verifier/words.js';
import * as written from '../src/verifier/written.js';
import { type Random, randomBits, seeded } from './random-formats.js';
import type { Result } from './recorded.js';

const OPERATORS = 'add sub mul div sdiv mod smod and or xor lsh rsh arsh mov neg'.split(' ');
const COMPARISONS = Object.keys(OPPOSITE);
const SHIFTS = ['lsh', 'rsh', 'arsh'];

const signed = (bits: number, x: bigint): bigint => BigInt.asIntN(bits, x);
const unsigned = (bits: number, x: bigint): bigint => BigInt.asUintN(bits, x);
const pick = <T>(random: Random, from: readonly T[]): T => from[random(from.length)]!;

/** The operator at any width, by what the machine does at 64 bits. */
function machine(op: string, bits: number, x: bigint, y: bigint): bigint {
  if (bits === 64) return arithmetic(op, 64, x, y);
  const amount = y & BigInt(bits - 1);
  if (op === 'arsh') return unsigned(bits, signed(bits, x) >> amount);
  if (op === 'lsh' || op === 'rsh') return unsigned(bits, arithmetic(op, 64, x, amount));
  if (op !== 'sdiv' && op !== 'smod') return unsigned(bits, arithmetic(op, 64, x, y));
  return unsigned(bits, arithmetic(op, 64, unsigned(64, signed(bits, x)), unsigned(64, signed(bits, y))));
}

const holds = (op: string, bits: number, x: bigint, y: bigint): boolean =>
  op === 'jnset' ? unsigned(bits, x & y) === 0n : comparison(op, bits, x, y);

function claim(isTrue: boolean, what: () => string): void {
  if (!isTrue) throw new Error(`unsound: ${what()}`);
}

const text = (value: unknown): string =>
  JSON.stringify(value, (_, each) => (typeof each === 'bigint' ? `${each}` : each)) ?? 'undefined';

/** A measure of how much an abstract number leaves open; smaller is sharper. */
const looseness = (a: Word | undefined): number =>
  a
    ? 1 +
      tnum.bitLength(a.u.max - a.u.min) +
      tnum.bitLength(a.s.max - a.s.min) +
      a.t.mask.toString(2).replaceAll('0', '').length
    : 0;
const loosenessOf = (a: Scalar | undefined): number => (a ? looseness(a.whole) + looseness(a.low) : 0);

/** A number of a width, often at or beside an end of a range. */
function someNumber(random: Random, bits: number): bigint {
  const near = BigInt(random(7) - 3);
  const edge = pick(random, [
    0n,
    0n,
    1n << BigInt(bits - 1),
    1n << BigInt(bits >> 1),
    1n << BigInt(random(bits)),
  ]);
  return unsigned(bits, random(3) ? edge + near : randomBits(random, bits));
}

interface Sample {
  readonly scalar: Scalar;
  readonly xs: readonly bigint[];
}

/** A scalar and some of its numbers: a few numbers united, a range, or one cut down by comparisons that one of them passes. */
function someScalar(random: Random, bits: number): Sample {
  const xs = Array.from({ length: 1 + random(3) }, () => someNumber(random, bits));
  const style = random(4);
  if (style < 2) return { scalar: xs.map((x) => scalars.constant(x, bits)).reduce(scalars.union), xs };
  const x = xs[0]!;
  let scalar = scalars.unknown(bits);
  if (style === 2) {
    const max = unsigned(bits, x + BigInt(random(1 << Math.min(bits, 12))));
    if (max >= x) return { scalar: scalars.between(x, max, bits), xs: [x, max, (x + max) >> 1n] };
  }
  for (let cuts = 1 + random(3); cuts > 0; cuts--) {
    const y = someNumber(random, bits);
    const width = random(2) ? bits : bits / 2;
    const op = pick(random, COMPARISONS);
    const way = holds(op, width, unsigned(width, x), unsigned(width, y)) ? op : OPPOSITE[op]!;
    const cut = scalars.assume(way, width, scalar, scalars.constant(y, bits));
    claim(cut !== undefined && scalars.contains(cut[0], x), () => `${x} ${way} ${y} of ${width} bits`);
    scalar = cut![0];
  }
  return { scalar, xs: [x] };
}

/** Operators and comparisons of scalars, and so of the words, ranges and tristate numbers they are made of. */
export function* scalarResults(rounds: number): Generator<Result> {
  for (const bits of [4, 6, 8, 64]) {
    const random = seeded(bits);
    const half = bits / 2;
    for (const op of OPERATORS) {
      let loose = 0;
      for (let round = 0; round < rounds; round++) {
        const [a, b] = [someScalar(random, bits), someScalar(random, bits)];
        const whole = scalars.aluWhole(op, a.scalar, b.scalar);
        // The low half of a power of two of bits is what shifts modulo its width are defined for.
        const low = scalars.aluLow(op, a.scalar, b.scalar);
        for (const x of a.xs) {
          for (const y of b.xs) {
            const z = machine(op, bits, x, y);
            claim(
              scalars.contains(whole, z),
              () => `${x} ${op} ${y} of ${bits} bits is ${z}, not ${text(whole)}`,
            );
            if (half & (half - 1)) continue;
            const zLow = machine(op, half, unsigned(half, x), unsigned(half, y));
            claim(scalars.contains(low, zLow), () => `${x} ${op} ${y}, low half of ${bits}: ${text(low)}`);
          }
        }
        loose += loosenessOf(whole) + loosenessOf(low);
      }
      yield [`${op} of ${bits} bits`, loose];
    }
    for (const op of COMPARISONS) {
      let loose = 0;
      for (let round = 0; round < rounds; round++) {
        const [a, b] = [someScalar(random, bits), someScalar(random, bits)];
        for (const width of [bits, half]) {
          const refined = scalars.assume(op, width, a.scalar, b.scalar);
          for (const x of a.xs) {
            for (const y of b.xs) {
              if (!holds(op, width, unsigned(width, x), unsigned(width, y))) continue;
              const kept = refined && scalars.contains(refined[0], x) && scalars.contains(refined[1], y);
              claim(kept === true, () => `${x} ${op} ${y} of ${width} of ${bits} bits is lost`);
            }
          }
          loose += loosenessOf(refined?.[0]) + loosenessOf(refined?.[1]);
        }
      }
      yield [`${op} of ${bits} bits`, loose];
    }
    yield* setResults(bits, random, rounds);
  }
}

function* setResults(bits: number, random: Random, rounds: number): Generator<Result> {
  const loose = { union: 0, intersect: 0, widen: 0, truncate: 0, extend: 0, swap: 0, includes: 0 };
  for (let round = 0; round < rounds; round++) {
    const [a, b] = [someScalar(random, bits), someScalar(random, bits)];
    const united = scalars.union(a.scalar, b.scalar);
    const threshold = [someNumber(random, bits)];
    const widened = scalars.widen(a.scalar, b.scalar, random(2) ? threshold : []);
    for (const x of [...a.xs, ...b.xs])
      claim(scalars.contains(united, x) && scalars.contains(widened, x), () => `${x} in a union`);
    claim(scalars.includes(united, a.scalar) && scalars.includes(widened, united), () => 'a union');
    claim(scalars.widen(widened, b.scalar) === widened, () => 'widening goes on');
    const common = scalars.intersect(a.scalar, b.scalar);
    const more = scalars.intersect(united, a.scalar);
    for (const x of a.xs) {
      const both = scalars.contains(b.scalar, x);
      claim(!both || (common !== undefined && scalars.contains(common, x)), () => `${x} in both`);
      claim(more !== undefined && scalars.contains(more, x), () => `${x} of a union`);
    }
    loose.union += loosenessOf(united);
    loose.widen += loosenessOf(widened);
    loose.intersect += loosenessOf(common) + loosenessOf(more);
    loose.includes +=
      Number(scalars.includes(a.scalar, b.scalar)) + Number(scalars.equal(a.scalar, b.scalar));
    const from = 1 + random(bits);
    const to = pick(
      random,
      [bits, bits / 2].filter((width) => width >= from),
    );
    const cut = scalars.truncate(a.scalar, from);
    const extended = scalars.signExtend(a.scalar, from, to);
    for (const x of a.xs) {
      claim(scalars.contains(cut, unsigned(from, x)), () => `${x} cut to ${from} bits`);
      claim(scalars.contains(extended, unsigned(to, signed(from, x))), () => `${x} extended from ${from}`);
    }
    loose.truncate += loosenessOf(cut);
    loose.extend += loosenessOf(extended);
    if (bits < 64) continue;
    const width = pick(random, [16, 32, 64]);
    const swapped = scalars.swapBytes(a.scalar, width);
    for (const x of a.xs)
      claim(scalars.contains(swapped, swapBytes('bswap', width, unsigned(width, x))), () => `${x} swapped`);
    loose.swap += loosenessOf(swapped);
  }
  for (const [name, sum] of Object.entries(loose)) yield [`${name} of ${bits} bits`, sum];
}

/** Words by themselves, of which scalars have two to sharpen each other. */
export function* wordResults(rounds: number): Generator<Result> {
  for (const bits of [3, 4, 5]) {
    const random = seeded(200 + bits);
    const someWord = () => {
      const xs = Array.from({ length: 1 + random(4) }, () => someNumber(random, bits));
      return { word: xs.map((x) => words.constant(x, bits)).reduce(words.union), xs };
    };
    const sums = { includes: 0, truncate: 0, extend: 0 };
    for (const op of COMPARISONS) {
      let loose = 0;
      for (let round = 0; round < rounds; round++) {
        const [a, b] = [someWord(), someWord()];
        const refined = assume(op, a.word, b.word);
        const isLost = (x: bigint, y: bigint) =>
          holds(op, bits, x, y) &&
          !(refined && words.contains(refined[0], x) && words.contains(refined[1], y));
        claim(
          !a.xs.some((x) => b.xs.some((y) => isLost(x, y))),
          () => `${a.xs} ${op} ${b.xs} of ${bits} bits`,
        );
        loose += looseness(refined?.[0]) + looseness(refined?.[1]);
        const cut = words.truncate(a.word, bits - 1);
        const [zero, sign] = [words.zeroExtend(a.word, 2 * bits), words.signExtend(a.word, 2 * bits)];
        for (const x of a.xs) {
          claim(
            words.contains(cut, unsigned(bits - 1, x)) && words.contains(zero, x),
            () => `${x} cut or extended`,
          );
          claim(words.contains(sign, unsigned(2 * bits, signed(bits, x))), () => `${x} extended`);
        }
        sums.includes += Number(words.includes(a.word, b.word));
        sums.truncate += looseness(cut);
        sums.extend += looseness(zero) + looseness(sign);
      }
      yield [`words ${op} of ${bits} bits`, loose];
    }
    for (const [name, sum] of Object.entries(sums)) yield [`words ${name} of ${bits} bits`, sum];
  }
}

/** Tristate numbers and ranges by themselves, which scalars cover up for in each other. */
export function* partResults(rounds: number): Generator<Result> {
  for (const bits of [4, 5, 6, 64]) {
    const random = seeded(100 + bits);
    const someTnum = () => {
      const mask = randomBits(random, bits) & randomBits(random, bits);
      const xs = [0, 1, 2].map(() => someNumber(random, bits)).map((x) => (xs0 & ~mask) | (x & mask));
      return { t: { value: xs0 & ~mask, mask }, xs };
    };
    let xs0 = 0n;
    for (const [op, operator] of Object.entries(tnum.TNUM_OPERATORS)) {
      let unknown = 0;
      for (let round = 0; round < rounds; round++) {
        xs0 = someNumber(random, bits);
        const a = someTnum();
        xs0 = SHIFTS.includes(op) ? BigInt(random(bits)) : someNumber(random, bits);
        const b = someTnum();
        const result = operator(a.t, b.t, bits);
        for (const x of a.xs) {
          for (const y of b.xs) {
            if (SHIFTS.includes(op) && y >= bits) continue;
            const z = shifted(op, bits, x, y);
            claim(
              tnum.contains(result, z),
              () => `tnum ${op} of ${bits} bits: ${x}, ${y} is ${z}, not ${text(result)}`,
            );
          }
        }
        unknown += result.mask.toString(2).replaceAll('0', '').length;
        claim((result.value & result.mask) === 0n && result.mask <= tnum.ones(bits), () => `a tnum of ${op}`);
      }
      yield [`tnum ${op} of ${bits} bits`, unknown];
    }
    yield* nearestResults(bits, random, rounds);
    yield* rangeResults(bits, random, rounds);
  }
}

/** Shifts by less than a width that is no power of two. */
const shifted = (op: string, bits: number, x: bigint, y: bigint): bigint =>
  op === 'lsh'
    ? unsigned(bits, x << y)
    : op === 'rsh'
      ? x >> y
      : op === 'arsh'
        ? unsigned(bits, signed(bits, x) >> y)
        : machine(op, bits, x, y);

function* nearestResults(bits: number, random: Random, rounds: number): Generator<Result> {
  let sum = 0n;
  for (let round = 0; round < 4 * rounds; round++) {
    const mask = randomBits(random, bits) & randomBits(random, bits);
    const t = { value: someNumber(random, bits) & ~mask, mask };
    const x = someNumber(random, bits);
    const [least, most] = [tnum.atLeast(t, x), tnum.atMost(t, x, bits)];
    const end = t.value | t.mask;
    claim(
      least === undefined ? end < x : least >= x && tnum.contains(t, least),
      () => `${text(t)} from ${x} on`,
    );
    claim(
      most === undefined ? t.value > x : most <= x && tnum.contains(t, most),
      () => `${text(t)} up to ${x}`,
    );
    sum += (least ?? 0n) - (most ?? 0n);
    const max = x | BigInt(random(16));
    const other = { value: someNumber(random, bits) & ~(mask & x), mask: mask & x };
    const widened = tnum.widen(t, other, random(bits + 1));
    claim(tnum.includes(widened, t) && tnum.includes(widened, other), () => 'widening loses numbers');
    sum += widened.mask;
    const range = tnum.ofRange(x, max);
    claim(tnum.contains(range, x) && tnum.contains(range, max), () => `${x} to ${max}`);
    sum += range.mask;
  }
  yield [`nearest numbers of ${bits} bits`, String(sum)];
}

function* rangeResults(bits: number, random: Random, rounds: number): Generator<Result> {
  const readings = [
    ['unsigned', ranges.UNSIGNED_OPERATORS, ranges.fullUnsigned(bits), (x: bigint) => unsigned(bits, x)],
    ['signed', ranges.SIGNED_OPERATORS, ranges.fullSigned(bits), (x: bigint) => signed(bits, x)],
  ] as const;
  for (const [name, operators, full, read] of readings) {
    const some = (amounts: boolean) => {
      const numbers = [0, 1, 2].map(() => (amounts ? BigInt(random(bits)) : read(someNumber(random, bits))));
      const xs = numbers.sort((x, y) => (x < y ? -1 : x > y ? 1 : 0));
      return { range: random(3) ? { min: xs[0]!, max: xs[2]! } : ranges.single(xs[1]!), xs };
    };
    for (const [op, operator] of Object.entries(operators)) {
      let sum = 0n;
      for (let round = 0; round < rounds; round++) {
        const [a, b] = [some(false), some(SHIFTS.includes(op))];
        const result = operator(a.range, b.range, bits);
        claim(ranges.includes(full, result), () => `${name} ${op} of ${bits} bits is ${text(result)}`);
        for (const x of a.xs.filter((x) => x >= a.range.min && x <= a.range.max)) {
          for (const y of b.xs.filter((y) => y >= b.range.min && y <= b.range.max)) {
            const z = read(shifted(op, bits, unsigned(bits, x), unsigned(bits, y)));
            claim(
              result.min <= z && z <= result.max,
              () => `${name} ${x} ${op} ${y} of ${bits} bits: ${text(result)}`,
            );
          }
        }
        sum += result.max - result.min;
      }
      yield [`${name} ${op} of ${bits} bits`, String(sum)];
    }
  }
}

const BYTES = 24;

/** Sets of bytes written, and what lines hold in the rounds of a loop. */
export function* otherResults(): Generator<Result> {
  const random = seeded(24);
  let [other, numbers]: [written.Written, number] = [written.NOTHING, 0];
  for (let round = 0; round < 400; round++) {
    let bytes = written.NOTHING;
    const set = new Set<number>();
    for (let stores = random(8); stores > 0; stores--) {
      const start = random(BYTES);
      const end = Math.min(BYTES, start + random(9) - 1);
      bytes = written.add(bytes, start, end);
      for (let byte = start; byte < end; byte++) set.add(byte);
    }
    const has = (of: written.Written, byte: number) =>
      of.some((at, i) => i % 2 === 0 && at <= byte && byte < of[i + 1]!);
    const all = Array.from({ length: BYTES }, (_, byte) => byte);
    claim(
      all.every((byte) => has(bytes, byte) === set.has(byte)),
      () => `bytes ${bytes}`,
    );
    claim(written.firstMissing(bytes, BYTES) === (all.find((byte) => !set.has(byte)) ?? -1), () => 'missing');
    const isIncluded = all.every((byte) => set.has(byte) || !has(other, byte));
    claim(written.includes(bytes, other) === isIncluded, () => `${bytes} includes ${other}`);
    numbers += bytes.length;
    other = bytes;
  }
  let many = written.NOTHING;
  for (let byte = 0; byte < 20_000; byte += 2) many = written.add(many, byte, byte + 1);
  yield ['bytes written', `${numbers} ${many.length}`];
  yield* lineResults(random);
}

function* lineResults(random: Random): Generator<Result> {
  for (const bits of [32, 64] as const) {
    let loose = 0;
    for (let round = 0; round < 200; round++) {
      const { scalar, xs } = someScalar(random, 64);
      const start = bits === 64 ? scalar : scalars.truncate(scalar, 32);
      const step = BigInt(random(40) - 20);
      const last = BigInt(random(100));
      const known = during({ start: Lazy.of(start), step, bits }, last);
      for (const x of xs)
        for (const k of [0n, last / 2n, last]) {
          const z = unsigned(bits, unsigned(bits, x) + step * k);
          claim(scalars.contains(known, z), () => `${x} and ${k} steps of ${step}: ${text(known)}`);
        }
      loose += loosenessOf(known);
    }
    yield [`lines of ${bits} bits`, loose];
  }
}
