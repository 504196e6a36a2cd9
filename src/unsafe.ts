// Apart from the main API on purpose: what is here gives up the proof.

import { type Program, requireProgram } from './bpf/program.js';
import { mintVerified, type VerifiedProgram } from './verifier/verified.js';

/**
 * Declares a program verified without verifying it, so that tests can put any program to a compiler. Its machine
 * code is called unchecked: a program that is wrong corrupts memory or crashes the process.
 */
export function unsafeTrust(program: Program): VerifiedProgram {
  requireProgram(program);
  return mintVerified(program, undefined);
}
