// Accepted programs run in the strict interpreter: none may fault, and each step lies in what was proven.

import { assemble } from '../src/bpf/assemble.js';
import { type Contract, checkContract } from '../src/bpf/contract.js';
import { disassemble } from '../src/bpf/disassemble.js';
import { interpret } from '../src/bpf/interpret.js';
import type { Program } from '../src/bpf/program.js';
import { ExecutionError, VerifierError } from '../src/errors.js';
import { explore, type Limits, type Proof } from '../src/verifier/explore.js';
import { InvariantCheck } from './invariant-check.js';
import { inputFor, mutate } from './mutations.js';
import { type Random, seeded } from './random-formats.js';
import { randomLoopProgram } from './random-loops.js';
import type { Result } from './recorded.js';
import { twoWays } from './recorded-verdicts.js';
import { vectors } from './vectors.js';
import { decodable, type KernelCase, kernelContract } from './verifier-cases.js';

const RUNS = 4;
const MAX_STEPS = 2_000;
const LIMITS = { maxInstructions: 1_000, prune: true, facts: true };

function proofOf(program: Program, contract: Contract, limits: Limits = LIMITS): Proof | undefined {
  try {
    return explore(program, checkContract(contract), limits);
  } catch (error) {
    if (error instanceof VerifierError) return undefined;
    throw error;
  }
}

/** Steps of a few runs, if the program is accepted. */
function stepsOf(program: Program, given: Contract, random: Random): number {
  const contract = checkContract(given);
  const proof = proofOf(program, contract);
  let steps = 0;
  for (let run = 0; proof && run < RUNS; run++) {
    const check = new InvariantCheck(proof.facts!);
    const args = inputFor(contract, random);
    try {
      interpret(program, { args, contract, strict: true, maxInstructions: MAX_STEPS, onStep: check.onStep });
    } catch (error) {
      const mayGoOn = error instanceof ExecutionError && error.code === 'X-LIMIT' && proof.loops.length > 0;
      if (!mayGoOn) throw new Error(`accepted, but ${error}\n${disassemble(program)}`);
    }
    if (check.flaws.length > 0) throw new Error(`${check.flaws.join('\n')}\n${disassemble(program)}`);
    steps += check.steps;
  }
  return steps;
}

/** What is accepted is not refused when every path is walked to its end. */
function requireSameUnpruned(program: Program, contract: Contract): void {
  if (!proofOf(program, contract, { ...LIMITS, facts: false })) return;
  try {
    explore(program, checkContract(contract), { maxInstructions: 1_000, prune: false });
  } catch (error) {
    if (error instanceof VerifierError && error.code === 'V-BUDGET') return;
    throw new Error(`accepted, but ${error} when every path is walked\n${disassemble(program)}`);
  }
}

export function* runResults(programs: number): Generator<Result> {
  const random = seeded(8);
  const cases = vectors<KernelCase>('verifier/cases.jsonl.gz').flatMap((each) => {
    const program = decodable(each.insns);
    return program ? [{ program, contract: kernelContract(each, true) }] : [];
  });
  let steps = 0;
  for (let i = 0; i < programs; i++) {
    const { program, contract } = cases[random(cases.length)]!;
    const mutant = mutate(program, random);
    if (mutant) steps += stepsOf(mutant, contract, random);
  }
  yield ['steps of mutants', steps];
  steps = 0;
  for (let i = 0; i < programs / 8; i++) {
    const { text, args } = randomLoopProgram(random);
    steps += stepsOf(assemble(text), { args }, random);
  }
  yield ['steps of loops', steps];
  steps = 0;
  for (const { program, contract } of twoWays(programs / 8)) {
    requireSameUnpruned(program, contract);
    steps += stepsOf(program, contract, random);
  }
  yield ['steps of loops with two ways in', steps];
}
