// The seam between the compilers and executable memory: bytes, where each instruction went, and what every
// call has to bring. A back end is a Target; making code has no side effects.

import type { Contract } from '../bpf/contract.js';
import type { DataSection } from '../bpf/data.js';
import { requireKey } from '../bytes.js';
import { ArgumentError } from '../errors.js';

/** The machines that a back end makes code for. */
export type Isa = 'x64';

/** What executable memory wants of a back end, besides the code of programs. */
export interface Target {
  readonly isa: Isa;
  /** The byte that unused code memory is filled with: it traps wherever it is entered. */
  readonly trap: number;
  /** The instructions of code, by an independent disassembler. */
  readonly decode: (bytes: Uint8Array) => { readonly offset: number; readonly text: string }[];
  /** `u64 trampoline(void *entry, u64 a1, …, u64 a6)`: calls `entry(a1, …, a6)`; the last of them may be left out. */
  readonly callTrampoline: () => MachineCode;
  /** `u64 loop(void *entry, u8 *dst, const u8 *src, u64 count, u64 srcStride, u64 dstStride)`. */
  readonly fixedStrideLoop: () => MachineCode;
  /** `u64 loop(u64 *state, void *entry, u8 *dst, const u8 *keys, u32 *offsets)`; the state's words are STREAM_STATE. */
  readonly keyStreamLoop: () => MachineCode;
  /** One routine for all formats, which tables tell apart: see jit/x64/table.ts. */
  readonly table: {
    readonly run: () => MachineCode;
    readonly record: (kind: keyof typeof TABLE_TERMS) => MachineCode;
    readonly stride: (kind: keyof typeof TABLE_TERMS) => MachineCode;
    readonly stream: (kind: keyof typeof TABLE_TERMS) => MachineCode;
  };
  /** `u64 probe(u32 *words)`: writes CPU_WORDS words that tell what the CPU has. */
  readonly cpuProbe: () => MachineCode;
  /**
   * `void exit(u64 *list)`: unmaps `count` pieces of memory, address and length of each in the list, where the length is not 0; then the piece
   * behind them, which may be this code's own.
   */
  readonly unmapAtExit: (munmap: bigint, count: number) => MachineCode;
  readonly tierOf: (words: Uint32Array) => Tier;
}

/** What a CPU has for loops over many records: nothing special, AVX2, or AVX-512 with VBMI as well. */
export const TIERS = ['scalar', 'avx2', 'avx512'] as const;
export type Tier = (typeof TIERS)[number];

/** A loop over many records with a format's own code inside. */
export interface BulkCode {
  readonly code: MachineCode;
  /** Bytes behind a record that it may read. */
  readonly overread: number;
}

/** Words of a fixed-stride loop's state: how many records by vector code, how many after them, and how far apart. */
export const STRIDE_STATE = { fast: 0, count: 1, stride: 2 } as const;

/** Words of a column loop's state: how many records, how many of them by vector code, and from `columns` on the columns' addresses. */
export const COLUMN_STATE = { count: 0, fast: 1, columns: 2 } as const;

/**
 * Words of a line loop's state: how many records, how far apart; how many of the last ones have too few bytes behind them for lines,
 * and for the vector loop, whose address follows; whether to store past the caches.
 */
export const LINE_STATE = { count: 0, stride: 1, late: 2, slow: 3, vector: 4, streaming: 5 } as const;

/** Words of a key stream's state. `position`, a byte offset in keys, and `count` are in and out; `ended` is out. */
export const STREAM_STATE = { position: 0, end: 1, most: 2, keyU64s: 3, count: 4, ended: 5 } as const;

/** Where the offsets of each of several streams are, as multiples of one distance. */
export const STREAM_PLACES = [0, 1, 2, 4] as const;

/**
 * Words of a table routine's state: what to call with which six arguments, which bytes of a record to read and to write, a bit each;
 * and room for the state of a key stream.
 */
export const TABLE_STATE = { target: 0, args: 1, reads: 7, writes: 8, stream: 9, words: 15 } as const;

/** Bytes of a row of a table, and of the largest record that one describes. */
export const TABLE_ROW_BYTES = 64;

/**
 * Rows of a table, in this order. Of each term for each byte: the byte of the record that goes there, then the first bit of its lane of
 * eight bytes, then the bits that are wanted. What to flip; what to add in elements of 64, 32, 16 and 8 bits; the bits that are left;
 * for each byte of the unpacked record where it is now. A plain table has two terms, additions of 64 bits, and keeps all bits.
 */
export const TABLE_TERMS = { plain: 2, any: 4 } as const;
export const TABLE_ROWS = {
  term: (term: number) => term * 3,
  flip: 12,
  add: { 8: 13, 4: 14, 2: 15, 1: 16 },
  keep: 17,
  out: 18,
  count: 19,
} as const;

/** Words of each stream in the state of a loop over several: those of a key stream, and the addresses of its buffers. */
export const STREAM_WORDS = { ...STREAM_STATE, out: 6, keys: 7, offsets: 8 } as const;

/** Of a probe's answer. */
export const CPU_WORDS = 4;

/**
 * 32-bit words that code calling helper functions shares with what answers them: how many calls of such code are under way, one
 * out of a helper function of the other; then a flag for each of these depths, from 1 on, which is up while no helper function
 * has answered.
 */
export const CALL_STATE = { depth: 0, maxDepth: 32, words: 34 } as const;

/**
 * What is known only where the code is placed: 8 bytes each for the address of the function that all helper calls go
 * through, of the CALL_STATE, and of byte `at` of a data section; 4 bytes for the number of a helper among those placed.
 */
export interface Relocation {
  readonly offset: number;
  readonly symbol:
    | 'helper dispatch'
    | 'call state'
    | { readonly helper: number }
    | { readonly data: number; readonly at: number };
}

export interface CodeSpec {
  readonly isa: Isa;
  /** Nobody else may have them: they become the code's. */
  readonly bytes: Uint8Array;
  /**
   * Byte offset of the code of each BPF slot, ascending; the slot inside an LD_IMM64 has that of the next. Empty where code
   * does not follow the program's instructions: without BPF, and for what was lifted.
   */
  readonly offsets: readonly number[];
  /** What a call must bring; undefined for code made from an unproven program, which is called unchecked. */
  readonly abi: Contract | undefined;
  /** Whether each memory argument must lie at a multiple of 8, because atomic operations rest on it. Default: false. */
  readonly needsAlignment?: boolean;
  /** Default: none. */
  readonly relocations?: readonly Relocation[];
  /** What relocations for data refer to; each placement of the code has its own copy. Default: none. */
  readonly data?: readonly DataSection[];
  /** Where it lies in memory: at a multiple of so many bytes, a power of two from 16 to 4096. Default: 16. */
  readonly alignment?: number;
  /** A name for listings and profilers, or what makes it when it is asked for. */
  readonly name: string | (() => string);
}

/** A name that is made when it is asked for: that of a format takes 3 µs. */
export class Label {
  #text: string | (() => string);

  constructor(text: string | (() => string)) {
    this.#text = text;
  }

  get text(): string {
    if (typeof this.#text === 'function') this.#text = this.#text();
    return this.#text;
  }
}

const NONE: readonly never[] = Object.freeze([]);

/** A frozen copy. */
const frozen = <T>(list: readonly T[] = NONE): readonly T[] =>
  list.length === 0 ? NONE : Object.freeze(list.slice());

/** Nobody outside of this file can name it, so the constructor of an object at hand makes no other. */
const COMPILED = Symbol('compiled');

export class MachineCode {
  readonly #made = true;
  readonly #bytes: Uint8Array;
  readonly isa: Isa;
  readonly offsets: readonly number[];
  readonly abi: Contract | undefined;
  readonly needsAlignment: boolean;
  readonly alignment: number;
  readonly relocations: readonly Relocation[];
  readonly data: readonly DataSection[];
  /** The name, for who keeps it without the code. */
  readonly label: Label;

  /** @internal */
  constructor(key: symbol, spec: CodeSpec) {
    requireKey(key, COMPILED, 'machine code', 'compileX64 and emitNative');
    this.#bytes = spec.bytes;
    this.isa = spec.isa;
    this.offsets = frozen(spec.offsets);
    this.abi = spec.abi;
    this.needsAlignment = spec.needsAlignment ?? false;
    this.alignment = spec.alignment ?? 16;
    this.relocations = frozen(spec.relocations?.map((relocation) => Object.freeze(relocation)));
    this.data = frozen(spec.data);
    this.label = new Label(spec.name);
    Object.freeze(this);
  }

  /** A copy of the code, so that nobody can change it between the proof and its publication. */
  get bytes(): Uint8Array {
    return this.#bytes.slice();
  }

  /** For listings and profilers. */
  get name(): string {
    return this.label.text;
  }

  get length(): number {
    return this.#bytes.length;
  }

  /** Copies the code into `target`, from byte `at` on. */
  copyTo(target: Uint8Array, at: number): void {
    target.set(this.#bytes, at);
  }

  /** Whether `value` was made by a back end. */
  static is(value: unknown): value is MachineCode {
    return typeof value === 'object' && value !== null && #made in value && value.#made;
  }
}

/** For back ends only. */
export function makeCode(spec: CodeSpec): MachineCode {
  return new MachineCode(COMPILED, spec);
}

/** @throws ArgumentError unless `code` was made by a back end */
export function requireCode(code: unknown): asserts code is MachineCode {
  if (!MachineCode.is(code)) {
    throw new ArgumentError('A-TYPE', 'not machine code: make it with compileX64 or emitNative');
  }
}
