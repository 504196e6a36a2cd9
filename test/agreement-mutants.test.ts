// Programs made by changing others, put to our verifier and to Linux's. FUZZ_SEED and FUZZ_SECONDS make this a longer
// run, see scripts/fuzz.mjs.

import { afterAll, expect, it } from 'vitest';
import type { Contract } from '../src/bpf/contract.js';
import { disassemble } from '../src/bpf/disassemble.js';
import type { Program } from '../src/bpf/program.js';
import { VerifierError } from '../src/errors.js';
import { KernelMemory } from '../src/kernel/kernel.js';
import { byReason } from './agreement.js';
import { kernelRuns } from './kernel-available.js';
import { mutate } from './mutations.js';
import { seeded } from './random-formats.js';
import { type UbpfVector, vectors } from './vectors.js';
import { decodable, type KernelCase, kernelContract, ubpfContract, verdict } from './verifier-cases.js';

const SEED = Number(process.env.FUZZ_SEED ?? 1);
const SECONDS = Number(process.env.FUZZ_SECONDS ?? 0);
const PROGRAMS = 600;
const MAX_INSTRUCTIONS = 20_000;

/** Why we refuse what Linux accepts with all capabilities: of purpose, or because there is too much to walk. */
const DELIBERATE = new Set(['V-UNINIT-STACK', 'V-BUDGET']);

/** Linux takes it for granted that not even the lower half of an address is 0; see docs/testing.md. */
const comparesHalves = ({ instructions }: Program): boolean =>
  instructions.some(({ row }) => /^j(eq|ne)32/.test(row.name));

const memories = new Map<string, KernelMemory>();
afterAll(() => {
  for (const memory of memories.values()) memory.dispose();
});

function theirs(program: Program, contract: Contract): VerifierError | undefined {
  const key = JSON.stringify(contract, (_, value) => (typeof value === 'bigint' ? String(value) : value));
  let memory = memories.get(key);
  if (!memory) memories.set(key, (memory = new KernelMemory(contract)));
  try {
    memory.load(program).free();
    return undefined;
  } catch (error) {
    if (error instanceof VerifierError) return error;
    throw error;
  }
}

const seeds: readonly (readonly [insns: string, Contract])[] = [
  ...vectors<KernelCase>('verifier/cases.jsonl.gz').map(
    (each) => [each.insns, kernelContract(each, true)] as const,
  ),
  ...vectors<KernelCase>('verifier/random.jsonl.gz').map(
    (each) => [each.insns, kernelContract(each, true)] as const,
  ),
  ...vectors<UbpfVector>('ubpf/vectors.jsonl.gz').map(
    (each) => [each.insns, { ...ubpfContract(each), allowPointerLeaks: true }] as const,
  ),
];

it.skipIf(!kernelRuns)(
  'what Linux accepts of mutants is accepted, but for what is refused on purpose',
  () => {
    const random = seeded(SEED);
    const end = Date.now() + SECONDS * 1000;
    const [kernelAlone, weAlone]: [string, string][][] = [[], []];
    let [programs, both] = [0, 0];
    while (programs < PROGRAMS || Date.now() < end) {
      const [insns, contract] = seeds[random(seeds.length)]!;
      const original = decodable(insns);
      const program = original && mutate(original, random);
      if (!program || program.instructions.some(({ row }) => row.op === 'helper')) continue;
      const id = `#${programs++}`;
      const here = verdict(() => program, contract, { maxInstructions: MAX_INSTRUCTIONS });
      const there = theirs(program, contract);
      if (!here && !there) both++;
      else if (!here) weAlone!.push([id, there!.message]);
      else if (!there && (DELIBERATE.has(here.code) || comparesHalves(program)))
        kernelAlone!.push([id, here.message]);
      else if (!there) expect.fail(`Linux accepts it; here: ${here.message}\n${disassemble(program)}`);
    }
    console.log(
      [
        `${programs} mutants: ${both} accepted by both`,
        'accepted by Linux, refused here:',
        ...byReason(kernelAlone!),
        'accepted here, refused by Linux:',
        ...byReason(weAlone!),
      ].join('\n'),
    );
    expect(both).toBeGreaterThan(programs / 10);
  },
);
