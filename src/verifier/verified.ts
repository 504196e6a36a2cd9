// The brand between the proof and the compilers. Only `verify` and `unsafeTrust` call `mintVerified`; the package's
// exports keep everybody else away from this file.

import type { Contract } from '../bpf/contract.js';
import type { Program } from '../bpf/program.js';
import { requireKey } from '../bytes.js';
import type { Proof } from './explore.js';
import type { LoopFact } from './fixpoint.js';
import type { InstructionFacts } from './invariants.js';

/** Nobody outside of this file can name it, so the constructor of an object at hand makes no other. */
const PROVEN = Symbol('proven');
const NO_PROOF: Proof = { needsAlignment: false, loops: [], facts: undefined };

export class VerifiedProgram {
  readonly #verified = true;
  readonly program: Program;
  /** What was proven; undefined for a program that was trusted without proof. */
  readonly contract: Contract | undefined;
  /** Whether memory arguments have to be aligned to 8 bytes, because atomic operations rest on it. */
  readonly needsAlignment: boolean;

  /** The loops that were proven without walking over each of their rounds. */
  readonly loops: readonly LoopFact[];
  /** By slot, what holds before each instruction that can be reached; undefined unless it was asked for. */
  readonly facts: readonly (InstructionFacts | undefined)[] | undefined;

  /** @internal */
  constructor(key: symbol, program: Program, contract: Contract | undefined, proof: Proof) {
    requireKey(key, PROVEN, 'a verified program', 'verify');
    this.program = program;
    this.contract = contract;
    this.needsAlignment = proof.needsAlignment;
    this.loops = Object.freeze([...proof.loops]);
    this.facts = proof.facts && Object.freeze([...proof.facts]);
    Object.freeze(this);
  }

  /** Whether `value` came from the verifier (or from `unsafeTrust`), and not from an imitation. */
  static is(value: unknown): value is VerifiedProgram {
    return typeof value === 'object' && value !== null && #verified in value && value.#verified;
  }
}

export function mintVerified(
  program: Program,
  contract: Contract | undefined,
  proof: Proof = NO_PROOF,
): VerifiedProgram {
  return new VerifiedProgram(PROVEN, program, contract, proof);
}
