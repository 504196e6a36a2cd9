// What operators and comparisons mean at a small width, on plain numbers: the oracle of the verifier's domains. And
// the file of scores: how often each operator of a domain is as sharp as that domain can be.

import { readFileSync, writeFileSync } from 'node:fs';
import { expect } from 'vitest';

export type Operator = (x: number, y: number) => number;
export type Comparison = (x: number, y: number) => boolean;

/** @param bits at most 32; shift amounts are taken as they are */
export function operatorsOf(bits: number): Record<string, Operator> {
  const { wrap, signed } = readingsOf(bits);
  return {
    add: (x, y) => wrap(x + y),
    sub: (x, y) => wrap(x - y),
    mul: (x, y) => wrap(Math.imul(x, y)),
    div: (x, y) => (y === 0 ? 0 : Math.floor(x / y)),
    mod: (x, y) => (y === 0 ? x : x % y),
    sdiv: (x, y) => (y === 0 ? 0 : wrap(Math.trunc(signed(x) / signed(y)))),
    smod: (x, y) => (y === 0 ? x : wrap(signed(x) % signed(y))),
    and: (x, y) => wrap(x & y),
    or: (x, y) => wrap(x | y),
    xor: (x, y) => wrap(x ^ y),
    lsh: (x, y) => wrap(x << y),
    rsh: (x, y) => wrap(x) >>> y,
    arsh: (x, y) => wrap(signed(x) >> y),
    mov: (_, y) => y,
    neg: (x) => wrap(-x),
  };
}

export function comparisonsOf(bits: number): Record<string, Comparison> {
  const { signed } = readingsOf(bits);
  return {
    jeq: (x, y) => x === y,
    jne: (x, y) => x !== y,
    jgt: (x, y) => x > y,
    jge: (x, y) => x >= y,
    jlt: (x, y) => x < y,
    jle: (x, y) => x <= y,
    jset: (x, y) => (x & y) !== 0,
    jnset: (x, y) => (x & y) === 0,
    jsgt: (x, y) => signed(x) > signed(y),
    jsge: (x, y) => signed(x) >= signed(y),
    jslt: (x, y) => signed(x) < signed(y),
    jsle: (x, y) => signed(x) <= signed(y),
  };
}

export function readingsOf(bits: number): { wrap(x: number): number; signed(x: number): number } {
  const unused = 32 - bits;
  return { wrap: (x) => (x << unused) >>> unused, signed: (x) => (x << unused) >> unused };
}

export const SHIFTS: readonly string[] = ['lsh', 'rsh', 'arsh'];

/** Whether to try every pair where there are too many for every day: `ALL_PAIRS=1 npx vitest run …`. */
export const ALL_PAIRS = process.env.ALL_PAIRS === '1';

const FILE = new URL('./vectors/verifier/optimality.json', import.meta.url);

/**
 * Compares scores with those of the file, which may only rise.
 * @param scores for each operator, of how many pairs the result is as sharp as it can be
 */
export function expectScores(domain: string, scores: Readonly<Record<string, number>>): void {
  const file = JSON.parse(readFileSync(FILE, 'utf8')) as Record<string, Record<string, number>>;
  const recorded = file[domain] ?? {};
  const rounded = Object.fromEntries(
    Object.entries(scores).map(([op, score]) => [op, Math.floor(score * 1e4) / 1e4]),
  );
  for (const [op, score] of Object.entries(recorded))
    expect(
      rounded[op] ?? 0,
      `${domain}: ${op} was sharp on this share of pairs, now fewer`,
    ).toBeGreaterThanOrEqual(score);
  if (process.env.RECORD_SCORES === '1') {
    writeFileSync(FILE, `${JSON.stringify({ ...file, [domain]: rounded }, null, 2)}\n`);
    return;
  }
  expect(
    rounded,
    `${domain} is sharper than before: RECORD_SCORES=1 npx vitest run --no-file-parallelism`,
  ).toEqual(recorded);
}
