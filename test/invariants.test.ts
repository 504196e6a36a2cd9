import { expect, it } from 'vitest';
import { assemble } from '../src/bpf/assemble.js';
import type { Contract } from '../src/bpf/contract.js';
import { disassemble } from '../src/bpf/disassemble.js';
import { interpret } from '../src/bpf/interpret.js';
import type { Program } from '../src/bpf/program.js';
import { ExecutionError, VerifierError } from '../src/errors.js';
import type { InstructionFacts } from '../src/verifier/invariants.js';
import { verify } from '../src/verifier/verify.js';
import { InvariantCheck } from './invariant-check.js';
import { inputFor, mutate } from './mutations.js';
import { type Random, seeded } from './random-formats.js';
import { randomLoopProgram } from './random-loops.js';
import { type UbpfVector, vectors } from './vectors.js';
import { decodable, type KernelCase, kernelContract, ubpfContract } from './verifier-cases.js';

const SEED = Number(process.env.FUZZ_SEED ?? 1);
const SECONDS = Number(process.env.FUZZ_SECONDS ?? 0);

const factsOf = (text: string, contract: Contract): readonly (InstructionFacts | undefined)[] =>
  verify(assemble(text), contract, { facts: true }).facts!;

const bytes = (count: number): Contract['args'][number] => ({ kind: 'memory', bytes: count, access: 'read' });

it('facts are told where they are asked for', () => {
  const program = assemble('r0 = 0\nexit');
  expect(verify(program, { args: [] }).facts).toBeUndefined();
  expect(verify(program, { args: [] }, { facts: true }).facts).toHaveLength(2);
});

it('tells what each register may hold, joined over all paths', () => {
  const facts = factsOf(
    'r0 = *(u8 *)(r1 + 0)\nif r0 > 15 goto +2\nr0 *= 2\ngoto +1\nr0 = 100\nr0 += 1\nexit',
    {
      args: [bytes(1)],
    },
  );
  expect(facts[2]!.registers[0]).toEqual({
    kind: 'number',
    unsigned: { min: 0n, max: 15n },
    signed: { min: 0n, max: 15n },
    bits: { mask: 0xffff_ffff_ffff_fff0n, value: 0n },
  });
  expect(facts[5]!.registers[0]).toMatchObject({ unsigned: { min: 0n, max: 100n } });
});

it('tells where an access goes, by the slots of the program', () => {
  const facts = factsOf(
    'r2 = 0x100000000 ll\nr3 = *(u8 *)(r1 + 0)\nr3 &= 7\nr1 += r3\nr0 = *(u16 *)(r1 + 1)\nexit',
    {
      args: [bytes(10)],
    },
  );
  expect(facts[1]).toBeUndefined();
  expect(facts[2]!.access).toEqual({
    memory: { base: 'r1', depth: undefined },
    first: 0n,
    last: 0n,
    size: 1,
  });
  expect(facts[5]!.access).toMatchObject({ first: 1n, last: 8n, size: 2 });
  expect(facts[4]!.access).toBeUndefined();
});

it('tells what holds in every round of a loop that is not walked round by round', () => {
  const { facts, loops } = verify(
    assemble(
      'r0 = 0\nr2 = 0\nr3 = *(u64 *)(r1 + 0)\nr0 += r3\nr1 += 8\nr2 += 1\nif r2 != 100000 goto -5\nexit',
    ),
    { args: [bytes(800_000)] },
    { facts: true },
  );
  expect(loops).toEqual([{ head: 2, maxTrips: 99_999n }]);
  expect(facts![2]!.access).toMatchObject({ first: 0n, last: 799_992n, size: 8 });
  expect(facts![6]!.registers[2]).toMatchObject({ kind: 'number', unsigned: { min: 1n, max: 100_000n } });
});

it('tells the stacks of calls apart, and nothing of a register that holds one or the other', () => {
  const facts = factsOf(
    'r6 = r10\n*(u64 *)(r10 - 8) = 1\nr1 = r10\nr1 += -8\ncall f\nexit\nf: r0 = *(u64 *)(r1 + 0)\n*(u8 *)(r10 - 1) = 2\nexit',
    { args: [] },
  );
  expect(facts[6]!.access).toMatchObject({ memory: { base: 'r10', depth: 0 }, first: -8n });
  expect(facts[7]!.access).toMatchObject({ memory: { base: 'r10', depth: 1 }, first: -1n });
});

it('holds for what a path brings that ends where the rest was proven', () => {
  // Nothing needs r2; still the second path brings other numbers to the instructions that the first one walked.
  const facts = factsOf(
    'r3 = *(u8 *)(r1 + 0)\nif r3 > 9 goto +2\nr2 = 1\ngoto +1\nr2 = 70\nr0 = r2\nr0 += 1\nexit',
    { args: [bytes(1)] },
  );
  expect(facts[7]!.registers[0]).toMatchObject({ unsigned: { min: 2n, max: 71n } });
});

const MAX_STEPS = 20_000;

/** Runs a program whose facts are known on inputs at the ends of ranges; returns the steps taken. */
function holdAgainst(program: Program, contract: Contract, random: Random): number {
  let facts: readonly (InstructionFacts | undefined)[];
  try {
    facts = verify(program, contract, { facts: true, maxInstructions: 2_000 }).facts!;
  } catch (error) {
    if (error instanceof VerifierError) return 0;
    throw error;
  }
  let steps = 0;
  for (let i = 0; i < 4; i++) {
    const check = new InvariantCheck(facts);
    const args = inputFor(contract, random);
    try {
      interpret(program, { args, contract, strict: true, maxInstructions: MAX_STEPS, onStep: check.onStep });
    } catch (error) {
      if (!(error instanceof ExecutionError && error.code === 'X-LIMIT')) throw error;
    }
    if (check.flaws.length > 0) expect.fail(`${check.flaws.join('\n')}\n${disassemble(program)}`);
    steps += check.steps;
  }
  return steps;
}

it('no step of a run lies outside of what was proven, in random loops', () => {
  const random = seeded(SEED);
  const end = Date.now() + SECONDS * 500;
  let steps = 0;
  for (let i = 0; i < 100 || Date.now() < end; i++) {
    const { text, args } = randomLoopProgram(random);
    steps += holdAgainst(assemble(text), { args }, random);
  }
  console.log(`${steps} steps of random loops lie in their invariants`);
  expect(steps).toBeGreaterThan(10_000);
});

it('nor in mutants of known programs', () => {
  const random = seeded(SEED + 1);
  const end = Date.now() + SECONDS * 500;
  const seeds: [string, Contract][] = [
    ...vectors<KernelCase>('verifier/cases.jsonl.gz'),
    ...vectors<KernelCase>('verifier/random.jsonl.gz'),
  ].map((each) => [each.insns, kernelContract(each, true)]);
  for (const each of vectors<UbpfVector>('ubpf/vectors.jsonl.gz').slice(0, 1000))
    seeds.push([each.insns, ubpfContract(each)]);
  let steps = 0;
  for (let i = 0; i < 1_500 || Date.now() < end; i++) {
    const [insns, contract] = seeds[random(seeds.length)]!;
    const known = decodable(insns);
    const program = known && (random(3) === 0 ? known : mutate(known, random));
    if (program) steps += holdAgainst(program, contract, random);
  }
  console.log(`${steps} steps of mutants lie in their invariants`);
  expect(steps).toBeGreaterThan(10_000);
});
