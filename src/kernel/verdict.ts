// The kernel's verdict on one program, without the program.

import type { Contract } from '../bpf/contract.js';
import type { Program } from '../bpf/program.js';
import { VerifierError } from '../errors.js';
import { KernelMemory, type KernelOptions } from './kernel.js';

export type KernelVerdict = {
  readonly log: string;
  /** The log's number of the program's first instruction. */
  readonly firstSlot: number;
} & (
  | {
      readonly accepted: true;
      /** Instructions that its verifier walked over all paths, those that bring the arguments among them. */
      readonly walked: number;
      /** Bytes of machine code; 0 where the kernel's JIT is off. */
      readonly jitBytes: number;
      readonly loadMicroseconds: number;
    }
  | { readonly accepted: false; readonly error: VerifierError }
);

export interface KernelVerdictOptions extends KernelOptions {
  /** Whether an accepted program has a log as well. Default: false. */
  readonly log?: boolean;
}

/**
 * Loads a program into the kernel and takes it out again.
 * @throws ArgumentError, ProgramError for what is no contract, option or program; EngineError 'E-KERNEL' where bpf(2)
 *   is not permitted, 'E-PLATFORM' elsewhere
 */
export function kernelVerdict(
  program: Program,
  contract: Contract,
  options: KernelVerdictOptions = {},
): KernelVerdict {
  const memory = new KernelMemory(contract, options);
  const { firstSlot } = memory;
  try {
    const loaded = memory.load(program, { log: options.log ?? false });
    const { loadMicroseconds, log } = loaded;
    try {
      return { accepted: true, ...loaded.info(), loadMicroseconds, log, firstSlot };
    } finally {
      loaded.free();
    }
  } catch (error) {
    if (!(error instanceof VerifierError)) throw error;
    return { accepted: false, error, log: error.log, firstSlot };
  } finally {
    memory.dispose();
  }
}
