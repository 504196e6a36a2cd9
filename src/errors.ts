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

/** A program that was not proven to meet its contract. */
export class VerifierError extends BpfUnpackError {
  constructor(
    code: string,
    insn: number,
    message: string,
    /** The instructions up to the failing one, with the state that each was checked in. */
    readonly log: string,
  ) {
    super(code, message, { insn });
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
