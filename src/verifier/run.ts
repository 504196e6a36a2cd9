// One run of the interpreter, and which bytes of the input its branches and accesses depended on.

import { comparison } from '../bpf/alu.js';
import type { GivenArg } from '../bpf/arguments.js';
import type { Contract } from '../bpf/contract.js';
import type { Helpers } from '../bpf/helper.js';
import { interpret } from '../bpf/interpret.js';
import { FIRST_SAVED, FRAME_POINTER, REGISTERS, STACK_BYTES } from '../bpf/isa.js';
import type { Word } from '../bpf/memory.js';
import type { Instruction, Program } from '../bpf/program.js';
import { MAX_U64 } from '../bytes.js';
import { ArgumentError, type BpfUnpackError, ExecutionError } from '../errors.js';

/** The bytes of each argument, and then of what each declared helper function returns; a number's are eight, little-endian. */
export type Input = readonly Uint8Array[];

/** Which bytes of the input something depends on: bit i stands for `Run.sources[i]`. */
export type Sources = bigint;
export interface Source {
  readonly arg: number;
  readonly byte: number;
}

/** A conditional jump as it was run. */
export interface Decision {
  readonly index: number;
  readonly taken: boolean;
  readonly a: bigint;
  readonly b: bigint;
  readonly from: Sources;
}

/** The instruction looked for, as it was run. */
export interface Visit {
  /** How many decisions came before. */
  readonly decisions: number;
  readonly registers: readonly (Word | undefined)[];
  readonly from: readonly Sources[];
}

/** Where a region lies: offsets from `start` to before `end` count from `base`, which for a frame is its r10. */
export interface Extent {
  readonly base: bigint;
  readonly start: number;
  readonly end: number;
}

export interface Run {
  readonly decisions: readonly Decision[];
  readonly visits: readonly Visit[];
  readonly sources: readonly Source[];
  readonly instructions: number;
  /** Each region by its number. */
  readonly extents: ReadonlyMap<number, Extent>;
  /** How it ended, if not by exit. */
  readonly fault: BpfUnpackError | undefined;
  /** Slot of the last instruction that was begun. */
  readonly insn: number;
  readonly unwritten: readonly { readonly arg: number; readonly bytes: readonly number[] }[];
}

/** The arguments that an input stands for; numbers out of the contract's range become the nearest in it. */
export function argsOf(input: Input, contract: Contract): GivenArg[] {
  return contract.args.map((spec, i) => {
    if (spec?.kind === 'memory' || spec?.kind === 'buffer') return input[i]!.slice();
    return spec?.kind === 'scalar' ? numberOf(input[i]!, spec) : undefined;
  });
}

function numberOf(bytes: Uint8Array, { min = 0n, max = MAX_U64 }: { min?: bigint; max?: bigint }): bigint {
  const value = new DataView(bytes.buffer).getBigUint64(0, true);
  return value < min ? min : value > max ? max : value;
}

/** The numbers of the helper functions that a contract declares. */
export const helpersIn = ({ helpers = {} }: Contract): number[] => Object.keys(helpers).map(Number);

/** What each helper function returns, whatever it is given. */
export function helperResultsOf(input: Input, contract: Contract): Record<number, bigint> {
  const results = helpersIn(contract).map((id, i) => {
    return [id, numberOf(input[contract.args.length + i]!, contract.helpers![id]!.returns ?? {})];
  });
  return Object.fromEntries(results);
}

/** Helper functions that return these numbers, and leave memory as they get it. */
export function helpersReturning(results: Readonly<Record<number, bigint>>, { helpers }: Contract): Helpers {
  const functions = Object.entries(results).map(([id, result]) => {
    return [id, { ...helpers![Number(id)]!, call: () => result }];
  });
  return Object.fromEntries(functions);
}

/** Whether a run that took these decisions has come off its way. */
export type IsAstray = (decisions: readonly Decision[]) => boolean;
const ASTRAY = Symbol('astray');

/**
 * @param target index of the instruction whose visits are noted
 * @param isAstray asked after every decision; such a run is not followed to its end
 */
export function observe(
  program: Program,
  contract: Contract,
  input: Input,
  target: number,
  maxInstructions: number,
  isAstray?: IsAstray,
): Run {
  const args = argsOf(input, contract);
  const shadow = new Shadow(program, contract, args, target, isAstray);
  const end = { fault: undefined as BpfUnpackError | undefined, unwritten: [] as Run['unwritten'] };
  try {
    const helpers = helpersReturning(helperResultsOf(input, contract), contract);
    const onStep = shadow.step.bind(shadow);
    const options = { args, contract, helpers, strict: true, maxInstructions, onStep };
    end.unwritten = interpret(program, options).unwritten;
  } catch (error) {
    if (isFault(error)) end.fault = error;
    else if (error !== ASTRAY) throw error;
  }
  const { decisions, visits, sources, instructions, extents, insn } = shadow;
  return { decisions, visits, sources, instructions, extents, insn, ...end };
}

/** Whether the program is to blame, for what it did or for what it gave to a helper function. */
export const isFault = (error: unknown): error is BpfUnpackError =>
  error instanceof ExecutionError || (error instanceof ArgumentError && error.code === 'A-HELPER');

/** For each register and byte of memory, the bytes of the input that it depends on. */
class Shadow {
  readonly decisions: Decision[] = [];
  readonly visits: Visit[] = [];
  readonly sources: Source[] = [];
  readonly extents = new Map<number, Extent>();
  instructions = 0;
  insn = 0;
  readonly #bits = new Map<string, Sources>();
  /** The argument whose memory a region is. */
  readonly #argOf = new Map<number, number>();
  readonly #memory = new Map<bigint, Sources>();
  readonly #callers: Sources[][] = [];
  #registers: Sources[] = new Array(REGISTERS).fill(0n);

  constructor(
    readonly program: Program,
    readonly contract: Contract,
    readonly args: readonly GivenArg[],
    readonly target: number,
    readonly isAstray: IsAstray | undefined,
  ) {}

  step(insn: number, registers: readonly (Word | undefined)[]): void {
    if (this.instructions++ === 0) this.#enter(registers);
    this.insn = insn;
    const frame = registers[FRAME_POINTER]!;
    if (!this.extents.has(frame.region))
      this.extents.set(frame.region, { base: frame.value, start: -STACK_BYTES, end: 0 });
    const index = this.program.indexAt(insn);
    const instruction = this.program.instructions[index]!;
    if (index === this.target) {
      const decisions = this.decisions.length;
      this.visits.push({ decisions, registers: registers.slice(), from: this.#registers.slice() });
    }
    this.#follow(instruction, index, registers);
  }

  #enter(registers: readonly (Word | undefined)[]): void {
    this.contract.args.forEach((spec, arg) => {
      const word = registers[arg + 1];
      if (spec?.kind === 'scalar') this.#registers[arg + 1] = this.#sourcesOf(arg, 0, 8);
      const given = this.args[arg];
      if (!word?.region || !given || typeof given === 'bigint') return;
      this.extents.set(word.region, { base: word.value, start: 0, end: given.length });
      this.#argOf.set(word.region, arg);
    });
  }

  #resultSources(helper: number): Sources {
    const place = helpersIn(this.contract).indexOf(helper);
    return place < 0 ? 0n : this.#sourcesOf(this.contract.args.length + place, 0, 8);
  }

  #sourcesOf(arg: number, first: number, size: number): Sources {
    let sources = 0n;
    for (let byte = first; byte < first + size; byte++) {
      const key = `${arg} ${byte}`;
      let bit = this.#bits.get(key);
      if (!bit) {
        bit = 1n << BigInt(this.sources.push({ arg, byte }) - 1);
        this.#bits.set(key, bit);
      }
      sources |= bit;
    }
    return sources;
  }

  #follow(instruction: Instruction, index: number, words: readonly (Word | undefined)[]): void {
    const { row, dst, src, off } = instruction;
    const from = this.#registers;
    const operand = row.source === 'reg' ? from[src]! : 0n;
    switch (row.kind) {
      case 'alu':
        from[dst] = row.op === 'mov' ? operand : from[dst]! | operand;
        return;
      case 'load':
        from[dst] = this.#load(words[src], off, row.size) | from[src]!;
        return;
      case 'store':
        this.#store(words[dst], off, row.size, operand);
        return;
      case 'load_imm64':
        from[dst] = 0n;
        return;
      case 'atomic':
        this.#atomic(instruction, words);
        return;
      case 'jump':
        this.#decide(instruction, index, words, from[dst]! | operand);
        return;
      case 'call':
        if (row.op === 'local') this.#callers.push(from.slice(FIRST_SAVED));
        else from[0] = this.#resultSources(instruction.imm);
        return;
      case 'exit':
        this.#registers = [...from.slice(0, FIRST_SAVED), ...(this.#callers.pop() ?? [])];
    }
  }

  #decide(
    { row, dst, src, value }: Instruction,
    index: number,
    words: readonly (Word | undefined)[],
    from: Sources,
  ): void {
    const a = words[dst]?.value;
    const b = row.source === 'reg' ? words[src]?.value : value;
    if (a === undefined || b === undefined) return;
    this.decisions.push({ index, taken: comparison(row.op, row.bits, a, b), a, b, from });
    if (this.isAstray?.(this.decisions)) throw ASTRAY;
  }

  #atomic({ row, dst, src, off }: Instruction, words: readonly (Word | undefined)[]): void {
    const from = this.#registers;
    if (row.op === 'load_acquire') {
      from[dst] = this.#load(words[src], off, row.size) | from[src]!;
      return;
    }
    const operand = from[src]!;
    const before = row.op === 'store_release' ? 0n : this.#load(words[dst], off, row.size);
    this.#store(words[dst], off, row.size, before | operand);
    if (row.op === 'cmpxchg') from[0] = before;
    else if (row.src === 'readwrite') from[src] = before;
  }

  #load(pointer: Word | undefined, off: number, size: number): Sources {
    if (!pointer) return 0n;
    const arg = this.#argOf.get(pointer.region);
    const extent = this.extents.get(pointer.region);
    let sources = 0n;
    for (let i = 0; i < size; i++) {
      const address = pointer.value + BigInt(off + i);
      const stored = this.#memory.get(address);
      if (stored !== undefined) sources |= stored;
      else if (arg !== undefined && extent && isInside(extent, address))
        sources |= this.#sourcesOf(arg, Number(address - extent.base), 1);
    }
    return sources;
  }

  #store(pointer: Word | undefined, off: number, size: number, from: Sources): void {
    if (!pointer) return;
    for (let i = 0; i < size; i++) this.#memory.set(pointer.value + BigInt(off + i), from);
  }
}

const isInside = ({ base, start, end }: Extent, address: bigint): boolean =>
  address >= base + BigInt(start) && address < base + BigInt(end);
