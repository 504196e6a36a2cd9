// Loops that are proven without walking their rounds, loops that must not be, and random ones that are held against
// runs and against a walk over every round.

import { describe, expect, it } from 'vitest';
import { assemble } from '../src/bpf/assemble.js';
import type { Contract } from '../src/bpf/contract.js';
import { interpret } from '../src/bpf/interpret.js';
import type { Program } from '../src/bpf/program.js';
import { ExecutionError, VerifierError } from '../src/errors.js';
import { explore, type Proof } from '../src/verifier/explore.js';
import { verify } from '../src/verifier/verify.js';
import { counting, memory, PROVEN, REFUSED, upTo } from './loop-programs.js';
import { inputFor } from './mutations.js';
import { seeded } from './random-formats.js';
import { randomLoopProgram } from './random-loops.js';

function proof(program: Program, contract: Contract, limits: object): Proof | VerifierError {
  try {
    return explore(program, contract, { maxInstructions: 5_000, prune: true, ...limits });
  } catch (error) {
    if (error instanceof VerifierError) return error;
    throw error;
  }
}

describe('a loop is proven in a few walks over its paths:', () => {
  it.each(PROVEN)('$title', ({ text, args = [], loops }) => {
    const found = proof(assemble(text), { args }, { maxInstructions: 20_000 });
    if (found instanceof VerifierError) expect.fail(found.message);
    expect(found.loops).toEqual(loops.map(([head, maxTrips]) => ({ head, maxTrips })));
  });
});

it('loops inside of loops inside of loops come to a verdict', () => {
  const depth = 400;
  const heads = Array.from({ length: depth }, (_, i) => `h${i}: r0 += 1`);
  const ends = Array.from({ length: depth }, (_, i) => `if r0 < 10 goto h${depth - 1 - i}`);
  const program = assemble(['r0 = 0', ...heads, ...ends, 'exit'].join('\n'));
  expect(() => verify(program, { args: [] }, { maxInstructions: 100_000 })).not.toThrow();
});

describe('a loop is refused that has', () => {
  it.each(REFUSED)('$title', ({ text, args = [memory(8), upTo((1n << 64n) - 1n), upTo(8n)], code }) => {
    const found = proof(assemble(text), { args }, {});
    if (!(found instanceof VerifierError))
      expect.fail(`accepted: ${JSON.stringify(found.loops.map(String))}`);
    if (code) expect(found.code).toBe(code);
    else expect(['V-BUDGET', 'V-LOOP']).toContain(found.code);
  });
});

it('a loop that fills its output is walked round by round', () => {
  const text = 'r3 = 0\nloop: *(u8 *)(r1 + 0) = 0\nr1 += 1\nr3 += 1\nif r3 < 300 goto loop\nr0 = 0\nexit';
  const verified = verify(assemble(text), { args: [memory(300, 'write')], writesAll: [0] });
  expect(verified.loops).toEqual([]);
  expect(() => verify(assemble(text), { args: [memory(301, 'write')], writesAll: [0] })).toThrow(
    expect.objectContaining({ code: 'V-UNWRITTEN' }),
  );
});

it('what comes after a loop may rest on its last round', () => {
  const text =
    'r3 = 0\nr4 = 1\nloop: r4 *= 3\nr3 += 1\nif r3 < 8 goto loop\nr4 -= 6554\nr1 += r4\nr0 = *(u8 *)(r1 + 0)\nexit';
  expect(verify(assemble(text), { args: [memory(8)] }).loops).toEqual([]);
  expect(() => verify(assemble(text), { args: [memory(7)] })).toThrow(
    expect.objectContaining({ code: 'V-OOB-READ' }),
  );
});

it('says what is wrong after a loop that is too long to be walked', () => {
  const text = 'r2 = 0\nloop: r2 += 1\nif r2 < 1000000000 goto loop\nr0 = *(u64 *)(r1 + 1)\nexit';
  const found = proof(assemble(text), { args: [memory(8)] }, {}) as VerifierError;
  expect(found).toMatchObject({ code: 'V-OOB-READ', insn: 3 });
});

it('says what was missing of a proof of the loop', () => {
  const text = counting('r4 = 0', 'r5 = *(u8 *)(r1 + 0)\nr4 += r5', 'r4 < 1000000');
  const found = proof(assemble(text), { args: [memory(8)] }, {}) as VerifierError;
  expect(found.message).toContain(
    'the loop at 2 was walked round by round because no number was found that moves with every round',
  );
});

const PROGRAMS = 120;
const RUNS = 4;
const MAX_STEPS = 20_000;

it('random loops that are accepted end without a fault, as a walk over every round says, too', () => {
  const random = seeded(Number(process.env.FUZZ_SEED ?? 1));
  const end = Date.now() + Number(process.env.FUZZ_SECONDS ?? 0) * 1000;
  const count = { programs: 0, accepted: 0, whole: 0, long: 0 };
  for (; count.programs < PROGRAMS || Date.now() < end; count.programs++) {
    const { text, args } = randomLoopProgram(random);
    const program = assemble(text);
    const found = proof(program, { args }, { maxInstructions: 2_000 });
    const exact = proof(program, { args }, { maxInstructions: 2_000, prune: false });
    const code = exact instanceof VerifierError ? exact.code : 'ok';
    if (found instanceof VerifierError) {
      if (code === 'ok') expect.fail(`refused, but proven round by round: ${found.message}\n${text}`);
      continue;
    }
    if (code !== 'ok' && code !== 'V-BUDGET') expect.fail(`accepted, but ${code} round by round\n${text}`);
    count.accepted++;
    if (found.loops.length > 0) count.whole++;
    const isLong = found.loops.some(({ maxTrips }) => maxTrips === undefined || maxTrips > 100n);
    for (let i = 0; i < RUNS; i++) {
      try {
        const input = inputFor({ args }, random);
        interpret(program, { args: input, contract: { args }, strict: true, maxInstructions: MAX_STEPS });
      } catch (error) {
        if (!(error instanceof ExecutionError)) throw error;
        if (error.code !== 'X-LIMIT' || !isLong) expect.fail(`accepted, but ${error.message}\n${text}`);
        count.long++;
      }
    }
  }
  console.log(count);
  expect(count.whole).toBeGreaterThan(count.programs / 5);
});
