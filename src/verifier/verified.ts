// The brand between the proof and the compilers. Only `verify` and `unsafeTrust` call `mint`; the package's
// exports keep everybody else away from this file.

import type { Contract } from '../bpf/contract.js';
import type { Program } from '../bpf/program.js';

export class VerifiedProgram {
  readonly #verified = true;
  readonly program: Program;
  /** What was proven; undefined for a program that was trusted without proof. */
  readonly contract: Contract | undefined;
  /** Whether memory arguments have to be aligned to 8 bytes, because atomic operations rest on it. */
  readonly needsAlignment: boolean;

  private constructor(program: Program, contract: Contract | undefined, needsAlignment: boolean) {
    this.program = program;
    this.contract = contract;
    this.needsAlignment = needsAlignment;
    Object.freeze(this);
  }

  /** Whether `value` came from the verifier (or from `unsafeTrust`), and not from an imitation. */
  static is(value: unknown): value is VerifiedProgram {
    return typeof value === 'object' && value !== null && #verified in value && value.#verified;
  }

  /** @internal */
  static readonly mint = (
    program: Program,
    contract: Contract | undefined,
    needsAlignment = false,
  ): VerifiedProgram => new VerifiedProgram(program, contract, needsAlignment);
}
