// The proof that a program does, whatever its input, only what its contract allows.

import { type Contract, checkContract } from '../bpf/contract.js';
import { type Program, requireProgram } from '../bpf/program.js';
import { requireInteger } from '../bytes.js';
import { explore } from './explore.js';
import { mintVerified, type VerifiedProgram } from './verified.js';

export interface VerifyOptions {
  /** Instructions walked at most, over all paths; a whole number from 1. Default: the contract's, or 1,000,000 as in Linux. */
  readonly maxInstructions?: number;
  /** Whether to tell in `facts` what was proven of each instruction; it takes longer. Default: false. */
  readonly facts?: boolean;
}

/**
 * Proves that a program, called as the contract says, stays within its memory and its access rights, reads nothing
 * that is not initialised, leaks no address, ends, and writes all of `writesAll`.
 * @throws VerifierError with a code 'V-…', the slot, a sentence and a log, for what is not proven; ProgramError
 *   'P-TYPE' for what is no program; ArgumentError 'A-CONTRACT' for a bad contract, 'A-RANGE' for a bad limit
 */
export function verify(program: Program, contract: Contract, options: VerifyOptions = {}): VerifiedProgram {
  requireProgram(program);
  const checked = checkContract(contract);
  const { maxInstructions = checked.maxInstructions ?? 1_000_000 } = options ?? {};
  requireInteger(maxInstructions, 1, Number.MAX_SAFE_INTEGER, 'maxInstructions');
  const proof = explore(program, checked, { maxInstructions, prune: true, facts: options?.facts === true });
  return mintVerified(program, checked, proof);
}
