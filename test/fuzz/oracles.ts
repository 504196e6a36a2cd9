// The engines that a random program runs in, beside the interpreter.

import type { Contract } from '../../src/bpf/contract.js';
import { FRAME_POINTER } from '../../src/bpf/isa.js';
import type { Instruction, Program } from '../../src/bpf/program.js';
import { VerifierError } from '../../src/errors.js';
import { CodeArena } from '../../src/exec/arena.js';
import { compileX64 } from '../../src/jit/x64/lower.js';
import { KernelMemory } from '../../src/kernel/kernel.js';
import { unsafeTrust } from '../../src/unsafe.js';
import type { VerifiedProgram } from '../../src/verifier/verified.js';
import { verify } from '../../src/verifier/verify.js';
import { kernelRuns } from '../kernel-available.js';
import { HELPERS } from './helper-functions.js';
import { openUbpf } from './ubpf.js';

/** An engine with a program in it. */
export interface Loaded {
  /** Runs on `memory`, which is changed in place: r1 = its address, r2 = its length. @returns r0 */
  run(memory: Uint8Array): bigint;
  free(): void;
}

export interface Oracle {
  readonly name: string;
  /** Undefined where the oracle does not take the program, which it counts by reason. Only for programs that did not fault. */
  load(program: Program, memoryBytes: number): Loaded | undefined;
  /** How many programs it did not take, or took in another way than hoped, by reason. */
  readonly notes: Map<string, number>;
  dispose(): void;
}

/** Paths are walked one by one; where there are too many the program runs on trust. */
const MAX_WALKED = 3_000;

export function contractOf(memoryBytes: number): Contract {
  const length = BigInt(memoryBytes);
  return {
    args: [
      { kind: 'memory', bytes: memoryBytes, access: 'readwrite' },
      { kind: 'scalar', min: length, max: length },
    ],
    helpers: HELPERS,
  };
}

/** Every oracle there is here; what is missing is said loudly, of the kernel by kernel-available.ts. */
export function oraclesHere(): Oracle[] {
  const oracles = [jit()];
  if (kernelRuns) oracles.push(kernel());
  const path = process.env.UBPF_LIB;
  if (path) oracles.push(openUbpf(path));
  else console.warn('NOT COMPARED with uBPF: UBPF_LIB names no libubpf.so');
  return oracles;
}

export const callsHelpers = ({ instructions }: Program): boolean =>
  instructions.some(({ row }) => row.op === 'helper');

const count = (notes: Map<string, number>, reason: string): void => {
  notes.set(reason, (notes.get(reason) ?? 0) + 1);
};

/** The proof that a program is safe in memory of that size, or why there is none. */
function proofOf(program: Program, memoryBytes: number): VerifiedProgram | VerifierError {
  try {
    return verify(program, contractOf(memoryBytes), { maxInstructions: MAX_WALKED });
  } catch (error) {
    if (error instanceof VerifierError) return error;
    throw error;
  }
}

export const isProven = (program: Program, memoryBytes: number): boolean =>
  !(proofOf(program, memoryBytes) instanceof VerifierError);

/** The x64 JIT: of a proof where there is one, and otherwise on trust, since the interpreter found no fault. */
function jit(): Oracle {
  const arena = new CodeArena();
  const notes = new Map<string, number>();
  return {
    name: 'x64 JIT',
    notes,
    load(program, memoryBytes) {
      const proof = proofOf(program, memoryBytes);
      const refused = proof instanceof VerifierError;
      if (refused) count(notes, `${proof.code}, so run on trust`);
      const routine = arena.place(compileX64(refused ? unsafeTrust(program) : proof), {
        helpers: HELPERS,
      });
      return {
        run: (memory) => routine.call([memory, BigInt(memory.length)]),
        free: () => routine.free(),
      };
    },
    dispose: () => arena.dispose(),
  };
}

/** The Linux kernel: its verifier, its patches and its JIT. */
function kernel(): Oracle {
  const memories = new Map<number, KernelMemory>();
  const notes = new Map<string, number>();
  return {
    name: 'kernel',
    notes,
    load(program, memoryBytes) {
      if (callsHelpers(program)) {
        count(notes, 'not compared: helper functions, which are ours');
        return undefined;
      }
      if (mayMeetKnownBug(program)) {
        count(
          notes,
          'not compared: a jump and an atomic operation on which Linux is wrong, see docs/testing.md',
        );
        return undefined;
      }
      let memory = memories.get(memoryBytes);
      if (!memory) memories.set(memoryBytes, (memory = new KernelMemory(contractOf(memoryBytes))));
      try {
        const loaded = memory.load(program);
        return { run: (bytes) => loaded.call([bytes, BigInt(bytes.length)]), free: () => loaded.free() };
      } catch (error) {
        if (!(error instanceof VerifierError)) throw error;
        const reason = error.message.replace(/^.*?: /, '').replace(/-?\b(0x[\da-f]+|\d+)\b/g, 'N');
        count(notes, `refused: ${reason}`);
        return undefined;
      }
    },
    dispose() {
      for (const memory of memories.values()) memory.dispose();
    },
  };
}

/**
 * Two mistakes of Linux 6.18 where its verifier comes by the same place on a second path: it forgets to clear the upper
 * half of r0 after a cmpxchg of 32 bits, and what a fetching atomic operation took from the stack, it may take for
 * what the first path had there.
 */
function mayMeetKnownBug({ instructions }: Program): boolean {
  const fetches = ({ row }: Instruction) =>
    row.kind === 'atomic' && (row.src === 'readwrite' || row.op === 'cmpxchg');
  const copiesFrame = ({ row, src }: Instruction) => row.name === 'mov64.reg' && src === FRAME_POINTER;
  const onStack = instructions.some(copiesFrame)
    ? () => true
    : ({ dst }: Instruction) => dst === FRAME_POINTER;
  return (
    instructions.some(({ row }) => row.kind === 'jump') &&
    instructions.some((each) => each.row.name === 'cmpxchg.w' || (fetches(each) && onStack(each)))
  );
}
