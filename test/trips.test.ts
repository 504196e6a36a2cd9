import { expect, it } from 'vitest';
import { comparison } from '../src/bpf/alu.js';
import * as scalars from '../src/verifier/scalars.js';
import { boundsOf, during, type Line, type Lines } from '../src/verifier/trips.js';
import { Lazy } from '../src/verifier/values.js';
import { IMMEDIATES, VALUES } from './boundary-values.js';
import { type Random, seeded } from './random-formats.js';

const OPS = ['jne', 'jlt', 'jle', 'jgt', 'jge', 'jslt', 'jsle', 'jsgt', 'jsge'];
const STEPS = [1n, 1n, -1n, -1n, 2n, 3n, -4n, 7n, 8n, -100n, 1n << 31n, -(1n << 62n), 1n << 32n];
const ROUNDS = 300n;

const u64 = (x: bigint) => BigInt.asUintN(64, x);

/** A line, the number that it starts from in this run, and how to compute the rest. */
interface Run {
  line: Line;
  start: bigint;
  at(round: bigint): bigint;
}

function randomRun(random: Random): Run {
  const near = u64(VALUES[random(VALUES.length)]! + BigInt(random(40) - 20));
  const bits = random(2) ? 64 : 32;
  const start = bits === 64 ? near : BigInt.asUintN(32, near);
  const top = bits === 64 ? (1n << 64n) - 1n : (1n << 32n) - 1n;
  const wider = { min: start - BigInt(random(9)), max: start + BigInt(random(9)) };
  const isExact = random(2) === 0 || wider.min < 0n || wider.max > top;
  const known = isExact ? scalars.constant(start) : scalars.between(wider.min, wider.max);
  const step = STEPS[random(STEPS.length)]!;
  const line: Line = { start: Lazy.of(known), step: BigInt.asIntN(bits, step), bits };
  return { line, start, at: (round) => BigInt.asUintN(bits, start + line.step * round) };
}

/** A number on a line, as the walk sees it, and what it is in each round. */
function onLine({ line, at }: Run, lines: Map<Lazy, Line>, random: Random) {
  const known = line.bits === 64 ? scalars.unknown() : scalars.truncate(scalars.unknown(), 32);
  const symbol = Lazy.learnt(known, line.start, line.start).track();
  lines.set(symbol, line);
  const plus = random(2) ? 0 : random(20) - 10;
  const constant = scalars.constant(BigInt(plus));
  if (line.bits === 64) {
    const number = Lazy.moved((a) => scalars.aluWhole('add', a, constant), symbol, Lazy.integer(plus), plus);
    return { number, at: (round: bigint) => u64(at(round) + BigInt(plus)) };
  }
  const number = Lazy.movedLow((a) => scalars.aluLow('add', a, constant), symbol, Lazy.integer(plus), plus);
  return { number, at: (round: bigint) => BigInt.asUintN(32, at(round) + BigInt(plus)) };
}

/** What a number on a line is compared with: a constant, a number that stays as it is, or another on a line. */
function otherSide(lines: Map<Lazy, Line>, near: bigint, random: Random) {
  const value = u64(
    [
      near + BigInt(random(100) - 50),
      BigInt(IMMEDIATES[random(IMMEDIATES.length)]!),
      VALUES[random(VALUES.length)]!,
    ][random(3)]!,
  );
  switch (random(3)) {
    case 0:
      return { number: Lazy.constant(value), at: () => value };
    case 1: {
      const max = value + BigInt(random(30));
      const known = max < 1n << 64n ? scalars.between(value, max) : scalars.unknown();
      const number = Lazy.of(known).track();
      if (random(2)) lines.set(number, { start: number, step: 0n, bits: 64 });
      return { number, at: () => value };
    }
    default:
      return onLine(randomRun(random), lines, random);
  }
}

it('no run passes a test in a later round than is said', () => {
  const random = seeded(5);
  let bounds = 0;
  for (let i = 0; i < 30_000; i++) {
    const lines = new Map<Lazy, Line>();
    const run = randomRun(random);
    const a = onLine(run, lines, random);
    const b = otherSide(lines, a.at(BigInt(random(3) * 20)), random);
    const op = OPS[random(OPS.length)]!;
    const bits = random(2) ? 64 : 32;
    const passes = (round: bigint) => comparison(op, bits, a.at(round), b.at(round));
    let passed = 0n;
    while (passed < ROUNDS && passes(passed)) passed++;
    for (const { last } of boundsOf({ op, bits, a: a.number, b: b.number }, lines as Lines)) {
      bounds++;
      if (passed > 0n && last < passed - 1n)
        expect.fail(
          `round ${passed - 1n} passes a(0)=${a.at(0n)} ${op}${bits} b(0)=${b.at(0n)}, said: ${last}`,
        );
    }
  }
  expect(bounds).toBeGreaterThan(5_000);
});

it('no number on a line is outside of what is said of its rounds', () => {
  const random = seeded(6);
  for (let i = 0; i < 5_000; i++) {
    const { line, at } = randomRun(random);
    const last = BigInt(random(50));
    for (const round of [0n, last / 2n, last])
      expect(scalars.contains(during(line, last), at(round))).toBe(true);
  }
});

it.each([
  ['jlt', 0n, 1n, 1000n, 999n],
  ['jle', 0n, 1n, 1000n, 1000n],
  ['jne', 0n, 8n, 800n, 99n],
  ['jne', 100n, -1n, 0n, 99n],
  ['jsgt', 100n, -7n, 0n, 14n],
  ['jsge', 10n, -1n, -10n, 20n],
  ['jne', 0n, 3n, 1000n, (1n << 64n) - 2n],
])('%s from %i by %i to %i: the last round is %i', (op, start, step, end, last) => {
  const line: Line = { start: Lazy.constant(start), step, bits: 64 };
  const symbol = Lazy.learnt(scalars.unknown(), line.start, line.start).track();
  const passed = { op, bits: 64, a: symbol, b: Lazy.constant(u64(end)) };
  expect(boundsOf(passed, new Map([[symbol, line]])).map((bound) => bound.last)).toEqual([last]);
});

it.each([
  ['jle', 0n, 1n, -1n],
  ['jge', 9n, -1n, 0n],
  ['jgt', 100n, -7n, 0n],
  ['jsle', 0n, 1n, (1n << 63n) - 1n],
  ['jlt', 0n, 3n, -1n],
  ['jgt', 0n, 1n, 9n],
  ['jne', 0n, 2n, 999n],
])('%s from %i by %i to %i may hold in any round', (op, start, step, end) => {
  const line: Line = { start: Lazy.constant(start), step, bits: 64 };
  const symbol = Lazy.learnt(scalars.unknown(), line.start, line.start).track();
  const passed = { op, bits: 64, a: symbol, b: Lazy.constant(u64(end)) };
  expect(boundsOf(passed, new Map([[symbol, line]]))).toEqual([]);
});
