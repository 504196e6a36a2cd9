import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { expect, it } from 'vitest';
import { disassemble } from '../src/bpf/disassemble.js';
import { decodeProgram } from '../src/bpf/encode.js';
import { interpret } from '../src/bpf/interpret.js';
import type { Program } from '../src/bpf/program.js';
import { ExecutionError, ProgramError, VerifierError } from '../src/errors.js';
import type { ArgSpec, Contract } from '../src/verifier/contract.js';
import { verify } from '../src/verifier/verify.js';
import { inputFor, mutate, type Random, randomFrom } from './mutations.js';

/** FUZZ_PROGRAMS=1000000 FUZZ_SEED=7 npx vitest run test/verifier-fuzz.test.ts looks harder. */
const PROGRAMS = Number(process.env.FUZZ_PROGRAMS ?? 15_000);
const SEED = Number(process.env.FUZZ_SEED ?? 1);
const RUNS = 6;

interface Seed {
  program: Program;
  args: ArgSpec[];
}

function lines(name: string) {
  const text = gunzipSync(readFileSync(new URL(`vectors/${name}`, import.meta.url))).toString();
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
}

function decoded(insns: string): Program | undefined {
  try {
    return decodeProgram(new Uint8Array(Buffer.from(insns, 'hex')));
  } catch (error) {
    if (error instanceof ProgramError) return undefined;
    throw error;
  }
}

function seeds(): Seed[] {
  const found: Seed[] = [];
  for (const { insns, regions } of [
    ...lines('verifier/cases.jsonl.gz'),
    ...lines('verifier/random.jsonl.gz'),
  ]) {
    const program = decoded(insns);
    const args = ['r1', 'r2', 'r3'].map((name): ArgSpec => {
      const { size = 0, mode, scalar } = regions[name] ?? {};
      if (scalar) return { kind: 'scalar' };
      return { kind: 'memory', bytes: size, access: mode === 'ro' ? 'read' : 'readwrite' };
    });
    if (program) found.push({ program, args });
  }
  for (const { insns, mem } of lines('ubpf/vectors.jsonl.gz')) {
    const program = decoded(insns);
    const bytes = mem.length / 2;
    if (program)
      found.push({
        program,
        args: [
          { kind: 'memory', bytes, access: 'readwrite' },
          { kind: 'scalar', min: BigInt(bytes), max: BigInt(bytes) },
        ],
      });
  }
  return found;
}

function someContract({ args }: Seed, random: Random): Contract {
  const first = args[0]!;
  const writesAll = first.kind === 'memory' && first.access !== 'read' && random(8) === 0 ? [0] : [];
  return { args, writesAll, allowPointerLeaks: random(3) === 0 };
}

function accepted(program: Program, contract: Contract): boolean {
  try {
    verify(program, contract, { maxInstructions: 5_000 });
    return true;
  } catch (error) {
    if (error instanceof VerifierError) return false;
    throw error;
  }
}

/** Runs an accepted program; whatever it faults on, the proof missed. */
function run(program: Program, contract: Contract, random: Random): void {
  const args = inputFor(contract, random);
  const before = args.map((arg) => (typeof arg === 'bigint' ? arg : Buffer.from(arg).toString('hex')));
  try {
    const { unwritten } = interpret(program, { args, contract, strict: true, maxInstructions: 1_000_000 });
    expect(unwritten).toEqual([]);
  } catch (error) {
    if (!(error instanceof ExecutionError)) throw error;
    expect.fail(
      `accepted, but ${error.message}\n${disassemble(program)}\n${JSON.stringify(contract, text)}\n${JSON.stringify(before, text)}`,
    );
  }
}

const text = (_: string, value: unknown) => (typeof value === 'bigint' ? String(value) : value);

it(
  `no accepted program out of ${PROGRAMS} mutants faults in the interpreter`,
  () => {
    const random = randomFrom(SEED);
    const all = seeds();
    let proven = 0;
    for (let i = 0; i < PROGRAMS; i++) {
      const seed = all[random(all.length)]!;
      const program = mutate(seed.program, random);
      const contract = someContract(seed, random);
      if (!program || !accepted(program, contract)) continue;
      proven++;
      for (let j = 0; j < RUNS; j++) run(program, contract, random);
    }
    console.log(`${proven} of ${PROGRAMS} mutants accepted, each run ${RUNS} times`);
    expect(proven).toBeGreaterThan(PROGRAMS / 10);
  },
  24 * 3_600_000,
);
