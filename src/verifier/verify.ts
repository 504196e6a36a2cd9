// The proof that a program does, whatever its input, only what its contract allows.

import { type Contract, checkContract } from '../bpf/contract.js';
import { type Program, requireProgram } from '../bpf/program.js';
import { explore, type Limits } from './explore.js';
import { mintVerified, type VerifiedProgram } from './verified.js';

/** As in Linux. */
const MAX_INSTRUCTIONS = 1_000_000;

/**
 * Proves that a program, called as the contract says, stays within its memory and its access rights, reads nothing
 * that is not initialised, leaks no address, ends, and writes all of `writesAll`.
 * @throws VerifierError with a code 'V-…', the slot, a sentence and a log; ArgumentError for a bad contract
 */
export function verify(program: Program, contract: Contract, limits: Partial<Limits> = {}): VerifiedProgram {
  requireProgram(program);
  const checked = checkContract(contract);
  const { maxInstructions = MAX_INSTRUCTIONS, prune = true } = limits;
  const { needsAlignment } = explore(program, checked, { maxInstructions, prune });
  return mintVerified(program, checked, needsAlignment);
}
