// Programs on which others have decided, and the contracts they were decided under.

import type { ArgSpec, Contract } from '../src/bpf/contract.js';
import { decodeProgram } from '../src/bpf/encode.js';
import type { Program } from '../src/bpf/program.js';
import { BpfUnpackError, ProgramError } from '../src/errors.js';
import { VerifiedProgram } from '../src/verifier/verified.js';
import { type VerifyOptions, verify } from '../src/verifier/verify.js';
import { type UbpfVector, unhex } from './vectors.js';

export interface KernelCase {
  id: string;
  /** Of hand-made programs only. */
  category?: string;
  insns: string;
  regions: Record<string, { size: number; mode: 'rw' | 'ro'; scalar?: boolean }>;
  safe?: boolean | null;
  priv: KernelDecision;
  strict: KernelDecision;
  witness: { event: string; pc: number; input: Record<string, string> } | null;
}

/** Why a program is not verified, or not even one; undefined for a proof. */
export function verdict(
  program: () => Program,
  contract: Contract,
  limits: VerifyOptions = {},
): BpfUnpackError | undefined {
  try {
    if (!VerifiedProgram.is(verify(program(), contract, limits))) throw new Error('no proof, and no reason');
    return undefined;
  } catch (error) {
    if (error instanceof BpfUnpackError) return error;
    throw error;
  }
}

export interface KernelRun {
  id: string;
  in: Record<string, string>;
  out: Record<string, string>;
  r0_low32: number;
}

interface KernelDecision {
  accept: boolean;
  log?: string;
  /** Why a program is refused that is not with all capabilities: `spectre` says nothing of its safety. */
  kind?: string;
}

/** Undefined for bytes that are no program, as two are of which the kernel overlooks a reserved field of exit. */
export function decodable(insns: string): Program | undefined {
  try {
    return decodeProgram(unhex(insns));
  } catch (error) {
    if (error instanceof ProgramError) return undefined;
    throw error;
  }
}

export function kernelContract({ regions }: KernelCase, allowPointerLeaks: boolean): Contract {
  const args: (ArgSpec | undefined)[] = [];
  for (const [name, { size, mode, scalar }] of Object.entries(regions)) {
    const access = mode === 'ro' ? 'read' : 'readwrite';
    args[Number(name.slice(1)) - 1] = scalar ? { kind: 'scalar' } : { kind: 'memory', bytes: size, access };
  }
  return { args, allowPointerLeaks };
}

export function kernelArgs({ regions }: KernelCase, input: Record<string, string>): (Uint8Array | bigint)[] {
  const args: (Uint8Array | bigint)[] = [];
  for (const [name, { scalar }] of Object.entries(regions)) {
    const raw = unhex(input[name]!);
    args[Number(name.slice(1)) - 1] = scalar ? new DataView(raw.buffer).getBigUint64(0, true) : raw;
  }
  return args;
}

/** r1 = mem, r2 = exactly its length. */
export function ubpfContract({ mem }: Pick<UbpfVector, 'mem'>): Contract {
  const bytes = mem.length / 2;
  const length = BigInt(bytes);
  return {
    args: [
      { kind: 'memory', bytes, access: 'readwrite' },
      { kind: 'scalar', min: length, max: length },
    ],
  };
}
