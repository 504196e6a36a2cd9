// One family of errors. A `code` is stable and meant for programs; `where` is what the message points at;
// the message is one sentence for a person, naming the place and what to do about it.

/** The place an error is about. `insn` is a slot number: an LD_IMM64 counts as two, as in the kernel. */
export interface Where {
  readonly insn?: number;
  readonly field?: string;
  /** Byte offset, in the file, image, record or program that the message names. */
  readonly byte?: number;
  readonly file?: string;
  readonly line?: number;
  readonly column?: number;
  /** 512-byte sector, btree and level of the btree node that an image's error is about. */
  readonly sector?: number;
  readonly btree?: string;
  readonly level?: number;
}

/** Base class of every error that this library throws on purpose. */
export class BpfUnpackError extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly where: Where = {},
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.name = new.target.name;
  }

  /** Slot number of the instruction it is about, if it is about one. */
  get insn(): number | undefined {
    return this.where.insn;
  }
}

/** A record format that is not legal, or a record that its format cannot express. */
export class FormatError extends BpfUnpackError {}

/** BPF bytes or text that are no program, whatever they are called with. */
export class ProgramError extends BpfUnpackError {}

/** An ELF object that is damaged, not of BPF, or needs what this machine has not. */
export class ElfError extends BpfUnpackError {}

/** An input on which a refused program does what it was refused for, as the interpreter replayed it. */
export interface Counterexample {
  /** r1, r2, … as `interpret(program, { args, contract, strict: true, maxInstructions })` takes them, in strict mode. */
  readonly args: (Uint8Array | bigint | undefined)[];
  /** What each helper function that the contract declares returned, at every call, by its number. */
  readonly helperResults: Readonly<Record<number, bigint>>;
  readonly maxInstructions: number;
  readonly fault: Fault;
}

export interface Fault {
  /** The ExecutionError's; 'unwritten' where the run ends with bytes of `writesAll` not written. */
  readonly code: string;
  readonly insn: number;
  readonly message: string;
}

/** Why a program was refused, as plain data. */
export interface VerifierReport {
  readonly code: string;
  /** Slot of the instruction. */
  readonly insn: number;
  readonly reason: string;
  readonly instruction: string;
  readonly operand: FailingOperand | undefined;
  /** The contract in words, a line for each argument and promise. */
  readonly contract: readonly string[];
  /** The instructions that the operand came from, in the order of the way that was walked. */
  readonly slice: readonly SliceLine[];
  readonly counterexample: ReportedCounterexample | undefined;
}

/** The piece of an instruction that is at fault. */
export interface FailingOperand {
  readonly text: string;
  /** Where `text` begins in the instruction's text, from 0. */
  readonly column: number;
  /** The registers that it is made of: `r1`. */
  readonly registers: readonly string[];
  /** What they held. */
  readonly holds: string;
}

/** A Counterexample whose buffers are hexadecimal and whose numbers are decimal text. */
export interface ReportedCounterexample {
  readonly args: readonly ReportedArg[];
  readonly helperResults: Readonly<Record<number, string>>;
  readonly maxInstructions: number;
  readonly fault: Fault;
}

/** `null` for what is not given, or derived from another argument. */
export type ReportedArg = { readonly bytes: string } | { readonly number: string } | null;

export interface SliceLine {
  readonly insn: number;
  readonly instruction: string;
  /** What it left in the register or memory that matters, the last time. */
  readonly result: string;
  /** How often it was walked over on this way. */
  readonly times: number;
}

/** What there is to tell of a refusal, made when it is asked for. */
export interface Explanation {
  readonly log: string;
  readonly report?: VerifierReport;
  readonly counterexample?: Counterexample | undefined;
  readonly text?: string;
}

/** A program that was not proven to meet its contract. */
export class VerifierError extends BpfUnpackError {
  readonly #explanation: Explanation;

  constructor(code: string, insn: number, message: string, explanation: Explanation) {
    super(code, message, { insn });
    this.#explanation = explanation;
  }

  /** The last instructions walked up to the failing one, with the state that each was checked in. */
  get log(): string {
    return this.#explanation.log;
  }

  /** Everything that is known of the refusal; made once, in some milliseconds. */
  get report(): VerifierReport {
    const { code, message: reason } = this;
    const nothing = {
      instruction: '',
      operand: undefined,
      contract: [],
      slice: [],
      counterexample: undefined,
    };
    return this.#explanation.report ?? { code, insn: this.insn!, reason, ...nothing };
  }

  /** Undefined where none was found, which proves nothing; looked for once, some milliseconds long. */
  get counterexample(): Counterexample | undefined {
    return this.#explanation.counterexample;
  }

  /** The report for a person. */
  get text(): string {
    return this.#explanation.text ?? this.message;
  }

  toJSON(): VerifierReport {
    return this.report;
  }
}

/** A fault of a program in the interpreter: what the machine would not do. */
export class ExecutionError extends BpfUnpackError {}

/** An argument of ours that the caller got wrong: a short buffer, a bad count, a disposed object. */
export class ArgumentError extends BpfUnpackError {}

/** An engine, a system call or a piece of the machine that is not available here, and why. */
export class EngineError extends BpfUnpackError {}

/** A file-system image that is damaged, unsupported or not one at all. */
export class ImageError extends BpfUnpackError {}
