// Programs made by changing others: what the verifier accepts must not fault. FUZZ_SEED and FUZZ_SECONDS make this a
// longer run, see scripts/fuzz.mjs.

import { expect, it } from 'vitest';
import { type Contract, checkContract } from '../src/bpf/contract.js';
import { disassemble } from '../src/bpf/disassemble.js';
import { interpret } from '../src/bpf/interpret.js';
import type { Program } from '../src/bpf/program.js';
import { ExecutionError, VerifierError } from '../src/errors.js';
import { explore, type Proof } from '../src/verifier/explore.js';
import { BUFFER_PROGRAMS } from './buffer-programs.js';
import { inputFor, mutate } from './mutations.js';
import { type Random, seeded } from './random-formats.js';
import { type UbpfVector, vectors } from './vectors.js';
import { decodable, type KernelCase, kernelContract, ubpfContract } from './verifier-cases.js';

const PROGRAMS = 4_000;
const SEED = Number(process.env.FUZZ_SEED ?? 1);
const SECONDS = Number(process.env.FUZZ_SECONDS ?? 0);
/** Of each accepted program. */
const RUNS = SECONDS > 0 ? 128 : 6;
const MAX_STEPS = 100_000;

interface Seed {
  readonly program: Program;
  readonly args: Contract['args'];
}

function seeds(): Seed[] {
  const contracts: [string, Contract][] = [
    ...vectors<KernelCase>('verifier/cases.jsonl.gz').map(kernelSeed),
    ...vectors<KernelCase>('verifier/random.jsonl.gz').map(kernelSeed),
    ...vectors<UbpfVector>('ubpf/vectors.jsonl.gz').map((each): [string, Contract] => [
      each.insns,
      ubpfContract(each),
    ]),
  ];
  return contracts.flatMap(([insns, { args }]) => {
    const program = decodable(insns);
    return program ? [{ program, args }] : [];
  });
}

const kernelSeed = (each: KernelCase): [string, Contract] => [each.insns, kernelContract(each, false)];

function someContract({ args }: Seed, random: Random): Contract {
  const first = args[0];
  const writesAll = first?.kind === 'memory' && first.access !== 'read' && random(8) === 0 ? [0] : [];
  return checkContract({ args, writesAll, allowPointerLeaks: random(3) === 0 });
}

/** The proof, or the code of the refusal. Without pruning every path is walked to its end. */
function verdict(program: Program, contract: Contract, prune: boolean): Proof | string {
  try {
    return explore(program, contract, { maxInstructions: 5_000, prune });
  } catch (error) {
    if (error instanceof VerifierError) return error.code;
    throw error;
  }
}

/** Whether the verdict of a walk over every path, round by round, does not go with a proof. */
function contradicts(unpruned: Proof | string, { loops }: Proof): boolean {
  if (typeof unpruned !== 'string' || unpruned === 'V-BUDGET') return false;
  // A walk round by round does not see why a loop ends that counts any number up to another.
  return !(unpruned === 'V-LOOP' && loops.length > 0);
}

/** Whether a program that ends may run for long: its loops were proven without walking their rounds. */
function mayRunLong(program: Program, { loops }: Proof): boolean {
  const rounds = loops.map(({ maxTrips }) => Number(maxTrips ?? Number.POSITIVE_INFINITY) + 1);
  return rounds.reduce((product, each) => product * each, program.slots) > MAX_STEPS;
}

/** Runs an accepted program; whatever it faults on, the proof missed. */
function run(program: Program, contract: Contract, proof: Proof, random: Random): void {
  const args = inputFor(contract, random);
  const before = args.map((arg) => (typeof arg === 'object' ? arg.slice() : arg));
  try {
    const { unwritten } = interpret(program, { args, contract, strict: true, maxInstructions: MAX_STEPS });
    if (unwritten.length > 0) expect.fail(`accepted, but bytes are left unwritten\n${disassemble(program)}`);
  } catch (error) {
    if (!(error instanceof ExecutionError)) throw error;
    if (error.code === 'X-LIMIT' && mayRunLong(program, proof)) return;
    expect.fail(
      `accepted, but ${error.message}\n${disassemble(program)}\n${JSON.stringify(contract, text)}\n${JSON.stringify(before, text)}`,
    );
  }
}

const text = (_: string, value: unknown) =>
  typeof value === 'bigint'
    ? String(value)
    : value instanceof Uint8Array
      ? Buffer.from(value).toString('hex')
      : value;

it('no accepted mutant faults in the interpreter, or fails when every path is walked', () => {
  const random = seeded(SEED);
  const end = Date.now() + SECONDS * 1000;
  const all = seeds();
  let programs = 0;
  let proven = 0;
  for (; SECONDS > 0 ? Date.now() < end : programs < PROGRAMS; programs++) {
    // Few programs have buffers whose length they learn; an eighth of the mutants are of those.
    const from = random(8) === 0 ? BUFFER_PROGRAMS : all;
    const seed = from[random(from.length)]!;
    const program = mutate(seed.program, random);
    const contract = someContract(seed, random);
    const proof = program && verdict(program, contract, true);
    if (!proof || typeof proof === 'string') continue;
    proven++;
    const unpruned = verdict(program, contract, false);
    if (contradicts(unpruned, proof))
      expect.fail(`accepted, but ${unpruned} when every path is walked\n${disassemble(program)}`);
    for (let j = 0; j < RUNS; j++) run(program, contract, proof, random);
  }
  console.log(`${proven} of ${programs} mutants accepted, ${proven * RUNS} runs`);
  expect(proven).toBeGreaterThan(programs / 10);
});
