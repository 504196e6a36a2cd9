// Random programs through every engine. The interpreter goes first and in strict mode, and no other engine sees a
// program and memory on which it faulted.

import { interpret } from '../../src/bpf/interpret.js';
import type { Program } from '../../src/bpf/program.js';
import { ExecutionError } from '../../src/errors.js';
import { type Random, randomBytes, seeded } from '../random-formats.js';
import { GENERATED, generate, MEMORY_BYTES } from './generate.js';
import { HELPERS } from './helper-functions.js';
import { minimise } from './minimise.js';
import { contractOf, isProven, type Loaded, type Oracle } from './oracles.js';

/** A difference, made small. */
export interface Difference {
  readonly oracle: string;
  /** Of the program it was found with. */
  readonly seed: number;
  readonly program: Program;
  readonly memory: Uint8Array;
  /** What the interpreter says, and what the oracle. */
  readonly expected: Outcome;
  readonly actual: Outcome;
}

export interface Outcome {
  readonly r0: bigint;
  readonly memory: Uint8Array;
}

const same = (a: Outcome, b: Outcome): boolean => a.r0 === b.r0 && Buffer.compare(a.memory, b.memory) === 0;

export class Tally {
  /** Of each engine: programs, and runs of programs. */
  readonly engines = new Map<string, { programs: number; runs: number }>();
  /** Programs that each row of the instruction table was part of. */
  readonly rows = new Map(GENERATED.map(({ name }) => [name, 0]));
  instructions = 0;

  add(engine: string, runs: number): void {
    const so = this.engines.get(engine) ?? { programs: 0, runs: 0 };
    this.engines.set(engine, { programs: so.programs + 1, runs: so.runs + runs });
  }

  see(program: Program): void {
    for (const name of new Set(program.instructions.map(({ row }) => row.name)))
      this.rows.set(name, this.rows.get(name)! + 1);
  }

  missing(): string[] {
    return [...this.rows].filter(([, programs]) => programs === 0).map(([name]) => name);
  }
}

/** Runs in memory of a program, the first of zeros. */
const RUNS = 16;
const MAX_INSTRUCTIONS = 1_000_000;

/** Makes the program of a seed and puts it to every oracle; returns the first difference. */
export function compareProgram(
  seed: number,
  oracles: readonly Oracle[],
  tally: Tally,
): Difference | undefined {
  const random = seeded(seed);
  const bytes = MEMORY_BYTES[random(MEMORY_BYTES.length)]!;
  const program = generate(random, bytes);
  const memories = Array.from({ length: RUNS }, (_, i) => someMemory(random, bytes, i));
  const expected = expectedOf(seed, program, memories, tally);
  tally.see(program);
  tally.add('interpreter', RUNS);
  for (const oracle of oracles) {
    const at = firstDifference(oracle, program, memories, expected, tally);
    if (at !== undefined) return minimised(seed, oracle, program, memories[at]!);
  }
  return undefined;
}

/** What the interpreter says; that it faults on nothing is part of what is tested. */
function expectedOf(
  seed: number,
  program: Program,
  memories: readonly Uint8Array[],
  tally: Tally,
): Outcome[] {
  try {
    return memories.map((memory) => interpreted(program, memory, tally));
  } catch (cause) {
    throw new Error(
      `the interpreter faults on the valid program of seed ${seed}: ${(cause as Error).message}`,
      { cause },
    );
  }
}

/** Zeros, random bytes, or mostly bytes at the ends of ranges. */
function someMemory(random: Random, bytes: number, i: number): Uint8Array {
  if (i === 0) return new Uint8Array(bytes);
  const memory = randomBytes(random, bytes);
  if (i % 2) for (let at = 0; at < bytes; at++) if (random(4)) memory[at] = [0, 0xff, 1, 0x80][random(4)]!;
  return memory;
}

function interpreted(program: Program, memory: Uint8Array, tally?: Tally): Outcome {
  const copy = memory.slice();
  const { r0, instructions } = interpret(program, {
    args: [copy, BigInt(copy.length)],
    contract: contractOf(copy.length),
    helpers: HELPERS,
    strict: true,
    maxInstructions: MAX_INSTRUCTIONS,
  });
  if (tally) tally.instructions += instructions;
  return { r0, memory: copy };
}

function firstDifference(
  oracle: Oracle,
  program: Program,
  memories: readonly Uint8Array[],
  expected: readonly Outcome[],
  tally: Tally,
): number | undefined {
  const loaded = oracle.load(program, memories[0]!.length);
  if (!loaded) return undefined;
  try {
    tally.add(oracle.name, memories.length);
    const at = memories.findIndex((memory, i) => !same(ran(loaded, memory), expected[i]!));
    return at === -1 ? undefined : at;
  } finally {
    loaded.free();
  }
}

function ran(loaded: Loaded, memory: Uint8Array): Outcome {
  const copy = memory.slice();
  return { r0: loaded.run(copy), memory: copy };
}

function outcome(oracle: Oracle, program: Program, memory: Uint8Array): Outcome | undefined {
  const loaded = oracle.load(program, memory.length);
  if (!loaded) return undefined;
  try {
    return ran(loaded, memory);
  } finally {
    loaded.free();
  }
}

function minimised(seed: number, oracle: Oracle, program: Program, memory: Uint8Array): Difference {
  const provable = isProven(program, memory.length);
  const differs = (candidate: { program: Program; memory: Uint8Array }): boolean => {
    // Without a proof it might show addresses, which differ anywhere.
    if (provable && !isProven(candidate.program, memory.length)) return false;
    try {
      const expected = interpreted(candidate.program, candidate.memory);
      const actual = outcome(oracle, candidate.program, candidate.memory);
      return actual !== undefined && !same(actual, expected);
    } catch (error) {
      if (error instanceof ExecutionError) return false;
      throw error;
    }
  };
  const small = minimise({ program, memory }, differs);
  const expected = interpreted(small.program, small.memory);
  const actual = outcome(oracle, small.program, small.memory)!;
  return { oracle: oracle.name, seed, ...small, expected, actual };
}
