// Holds a run of the interpreter against what the verifier says of each instruction.

import { FRAME_POINTER } from '../src/bpf/isa.js';
import type { Word } from '../src/bpf/memory.js';
import type { InstructionFacts, MemoryFact, RegisterFact } from '../src/verifier/invariants.js';

type Registers = readonly (Word | undefined)[];

export class InvariantCheck {
  /** The first steps that lie outside of the invariant, in words. */
  readonly flaws: string[] = [];
  steps = 0;
  readonly #arguments = new Map<string, Word>();
  readonly #frames: Word[] = [];

  constructor(readonly facts: readonly (InstructionFacts | undefined)[]) {}

  readonly onStep = (slot: number, registers: Registers): void => {
    this.#follow(registers);
    this.steps++;
    const facts = this.facts[slot];
    if (!facts) this.#flaw(slot, 'is said not to be reached');
    facts?.registers.forEach((fact, r) => {
      if (fact && !this.#holds(fact, registers[r]))
        this.#flaw(slot, `r${r} = ${text(registers[r])} is not in ${text(fact)}`);
    });
  };

  #follow(registers: Registers): void {
    if (this.steps === 0)
      registers.forEach((word, r) => {
        if (word?.region && r < FRAME_POINTER) this.#arguments.set(`r${r}`, { ...word });
      });
    const frame = registers[FRAME_POINTER]!;
    const depth = this.#frames.findIndex(({ region }) => region === frame.region);
    if (depth >= 0) this.#frames.length = depth + 1;
    else this.#frames.push({ ...frame });
  }

  #holds(fact: RegisterFact, word: Word | undefined): boolean {
    if (!word) return false;
    if (fact.kind === 'number') {
      const signed = BigInt.asIntN(64, word.value);
      const { unsigned, signed: range, bits } = fact;
      return (
        word.value >= unsigned.min &&
        word.value <= unsigned.max &&
        signed >= range.min &&
        signed <= range.max &&
        (word.value & bits.mask) === bits.value
      );
    }
    const base = this.#baseOf(fact.memory);
    if (!base || base.region !== word.region) return false;
    const offset = BigInt.asIntN(64, word.value - base.value);
    return offset >= fact.offset.min && offset <= fact.offset.max;
  }

  #baseOf({ base, depth }: MemoryFact): Word | undefined {
    return depth === undefined ? this.#arguments.get(base) : this.#frames[depth];
  }

  #flaw(slot: number, what: string): void {
    if (this.flaws.length < 5) this.flaws.push(`instruction ${slot}: ${what}`);
  }
}

const text = (value: unknown): string =>
  JSON.stringify(value, (_, each) => (typeof each === 'bigint' ? String(each) : each)) ?? 'nothing';
