// The interpreter: a full engine, and the oracle of the compilers. Every access is checked.

import { byteLength, requireInteger } from '../bytes.js';
import { ExecutionError } from '../errors.js';
import { arithmetic, atomicResult, comparison, signExtend, swapBytes } from './alu.js';
import { type GivenArg, isDerived, memoryOf, requireContract, takeArgs } from './arguments.js';
import { type ArgSpec, type Contract, checkContract } from './contract.js';
import { callHelper, type Helper, type Helpers, takeHelpers, watchBuffers } from './helper.js';
import { FIRST_SAVED, FRAME_POINTER, MAX_FRAMES, REGISTERS } from './isa.js';
import { Memory, type Word } from './memory.js';
import { addressed, type Instruction, type Program, requireProgram } from './program.js';

export interface InterpretOptions {
  /** r1, r2, …: a buffer is passed as its address (an empty one as 0), and changed in place; undefined: not given, or derived. */
  readonly args: readonly GivenArg[];
  /** What the program may rely on and may do: enforced. With `strict`, bytes of `writesAll` left unwritten are named. */
  readonly contract?: Contract;
  /** The helper functions that the program may call. Where the contract has a signature, that one counts. */
  readonly helpers?: Helpers;
  /** Also faults on reads of registers and stack bytes that were never written. */
  readonly strict?: boolean;
  /** Default: the contract's, or ten million. */
  readonly maxInstructions?: number;
  /** Sees each instruction's slot and r0 to r10 before it runs; the array is the machine's own. */
  readonly onStep?: (insn: number, registers: readonly (Word | undefined)[]) => void;
}

export interface InterpretResult {
  /** Unsigned 64 bits. */
  readonly r0: bigint;
  readonly instructions: number;
  /** In strict mode: the bytes of each `writesAll` argument that were not written. */
  readonly unwritten: readonly { readonly arg: number; readonly bytes: readonly number[] }[];
}

const MAX_INSTRUCTIONS = 10_000_000;
const ZERO: Word = { value: 0n, region: 0 };

/**
 * Runs a program, verified or not. Data that it brings along is as in the object at the start of each run.
 * @throws ExecutionError naming the slot: 'X-OOB', 'X-NOT-POINTER', 'X-ACCESS', 'X-ALIGN', 'X-UNINIT-REG',
 *   'X-UNINIT-STACK', 'X-FALL-OFF', 'X-DEPTH', 'X-HELPER' or 'X-LIMIT'; what a helper function throws; ArgumentError
 *   'A-HELPER' for a number that its signature does not allow, 'A-IN-USE' if it detached or resized a buffer in use
 */
export function interpret(program: Program, options: InterpretOptions): InterpretResult {
  requireProgram(program);
  const args = takeArgs(options?.args);
  requireInteger(options.maxInstructions ?? 1, 1, Number.MAX_SAFE_INTEGER, 'maxInstructions');
  return new Machine(program, { ...options, args }).run();
}

class Machine {
  readonly #program: Program;
  readonly #memory: Memory;
  readonly #strict: boolean;
  readonly #limit: number;
  readonly #contract: Contract | undefined;
  readonly #onStep: InterpretOptions['onStep'];
  readonly #helpers: ReadonlyMap<number, Helper>;
  readonly #requireIntact: () => void;
  readonly #args: readonly (Word | undefined)[];
  /** Where each data section begins. */
  readonly #data: readonly Word[];
  /** Undefined: never written. Outside of strict mode all start as 0. */
  readonly #registers: (Word | undefined)[];
  readonly #callers: { readonly back: number; readonly saved: readonly (Word | undefined)[] }[] = [];

  constructor(
    program: Program,
    { args, contract, helpers, strict = false, maxInstructions, onStep }: InterpretOptions,
  ) {
    this.#program = program;
    this.#strict = strict;
    this.#onStep = onStep;
    this.#contract = contract && checkContract(contract);
    this.#limit = maxInstructions ?? this.#contract?.maxInstructions ?? MAX_INSTRUCTIONS;
    if (this.#contract) requireContract(args, this.#contract);
    this.#helpers = takeHelpers(helpers, this.#contract?.helpers);
    this.#requireIntact = watchBuffers(args);
    this.#memory = new Memory(strict);
    this.#args = this.#passed(args);
    this.#data = program.data.map(({ name, bytes, writable }) =>
      this.#memory.addData(name, bytes, writable ? 'readwrite' : 'read'),
    );
    this.#registers = new Array(REGISTERS).fill(strict ? undefined : ZERO);
    this.#args.forEach((word, i) => {
      const given = !strict || !this.#contract || this.#contract.args[i] !== undefined;
      if (given && word) this.#registers[i + 1] = word;
    });
    this.#registers[FRAME_POINTER] = this.#memory.pushFrame();
  }

  /** What goes into r1, r2, …; undefined for what is not given. */
  #passed(args: readonly GivenArg[]): (Word | undefined)[] {
    const specs = this.#contract?.args ?? [];
    const given = args.map((arg, i) => {
      if (typeof arg !== 'object') return arg === undefined ? undefined : scalar(arg);
      const spec = specs[i];
      const access = spec?.kind === 'memory' || spec?.kind === 'buffer' ? spec.access : 'readwrite';
      return this.#memory.addBuffer(`r${i + 1}'s memory`, memoryOf(arg, spec)!, access);
    });
    const derived = (spec: ArgSpec | undefined): Word | undefined => {
      if (!spec || !isDerived(spec)) return undefined;
      const length = BigInt(byteLength(args[spec.of] as Uint8Array));
      const { value, region } = given[spec.of]!;
      return spec.kind === 'end' ? { value: value + length, region } : scalar(length);
    };
    return Array.from(
      { length: Math.max(args.length, specs.length) },
      (_, i) => given[i] ?? derived(specs[i]),
    );
  }

  run(): InterpretResult {
    let index = 0;
    let last = 0;
    let instructions = 0;
    do {
      if (++instructions > this.#limit) {
        const insn = this.#program.slotOf(index);
        throw new ExecutionError(
          'X-LIMIT',
          `instruction ${insn}: ${this.#limit} instructions have run; raise the limit if the program ends`,
          { insn },
        );
      }
      last = index;
      index = this.#step(index);
    } while (index !== EXIT);
    return {
      r0: this.#read(0, this.#program.slotOf(last)).value,
      instructions,
      unwritten: this.#unwritten(),
    };
  }

  /** Runs one instruction and returns the index of the next. */
  #step(index: number): number {
    const instruction = this.#program.instructions[index];
    if (!instruction) {
      const insn = this.#program.slots;
      throw new ExecutionError(
        'X-FALL-OFF',
        `the program runs off its end at ${insn}: its last instruction must be exit or goto`,
        { insn },
      );
    }
    const insn = this.#program.slotOf(index);
    this.#onStep?.(insn, this.#registers);
    switch (instruction.row.kind) {
      case 'alu':
        this.#alu(instruction, insn);
        return index + 1;
      case 'endian': {
        const { row, dst } = instruction;
        this.#registers[dst] = scalar(swapBytes(row.op, row.bits, this.#read(dst, insn).value));
        return index + 1;
      }
      case 'load': {
        const { row, dst, src, off } = instruction;
        const word = this.#memory.load(this.#read(src, insn), off, row.size, insn);
        this.#registers[dst] = row.signExtend ? scalar(signExtend(row.signExtend, 64, word.value)) : word;
        return index + 1;
      }
      case 'store': {
        const { row, dst, off } = instruction;
        this.#memory.store(this.#read(dst, insn), off, row.size, this.#operand(instruction, insn), insn);
        return index + 1;
      }
      case 'atomic':
        this.#atomic(instruction, insn);
        return index + 1;
      case 'load_imm64':
        this.#registers[instruction.dst] = scalar(instruction.value);
        return index + 1;
      case 'data_address': {
        const { section, offset } = addressed(instruction);
        const { value, region } = this.#data[section]!;
        this.#registers[instruction.dst] = { value: value + BigInt(offset), region };
        return index + 1;
      }
      case 'jump': {
        const { row, dst } = instruction;
        const taken = comparison(
          row.op,
          row.bits,
          this.#read(dst, insn).value,
          this.#operand(instruction, insn).value,
        );
        return taken ? this.#program.targetOf(index) : index + 1;
      }
      case 'goto':
        return this.#program.targetOf(index);
      case 'call':
        return this.#call(instruction, index, insn);
      default:
        return this.#exit();
    }
  }

  #read(register: number, insn: number): Word {
    const word = this.#registers[register];
    if (word) return word;
    throw new ExecutionError(
      'X-UNINIT-REG',
      `instruction ${insn}: r${register} is read before it is written`,
      { insn },
    );
  }

  #operand({ row, src, value }: Instruction, insn: number): Word {
    return row.source === 'reg' ? this.#read(src, insn) : scalar(value);
  }

  #alu(instruction: Instruction, insn: number): void {
    const { row, dst } = instruction;
    const operand = row.op === 'neg' ? ZERO : this.#operand(instruction, insn);
    if (row.op === 'mov') {
      const { value } = operand;
      if (row.signExtend) this.#registers[dst] = scalar(signExtend(row.signExtend, row.bits, value));
      else this.#registers[dst] = row.bits === 64 ? operand : scalar(BigInt.asUintN(32, value));
      return;
    }
    const before = this.#read(dst, insn);
    const value = arithmetic(row.op, row.bits, before.value, operand.value);
    this.#registers[dst] = { value, region: row.bits === 64 ? derivedRegion(row.op, before, operand) : 0 };
  }

  #atomic({ row, dst, src, off }: Instruction, insn: number): void {
    const memory = this.#memory;
    const pointer = this.#read(row.op === 'load_acquire' ? src : dst, insn);
    memory.requireAligned(pointer, off, row.size, insn);
    if (row.op === 'load_acquire') {
      this.#registers[dst] = memory.load(pointer, off, row.size, insn);
      return;
    }
    const operand = this.#read(src, insn);
    if (row.op === 'store_release') {
      memory.store(pointer, off, row.size, operand, insn);
      return;
    }
    const old = memory.load(pointer, off, row.size, insn);
    if (row.op === 'cmpxchg') {
      const equal = old.value === BigInt.asUintN(row.bits, this.#read(0, insn).value);
      memory.store(pointer, off, row.size, equal ? operand : old, insn);
      this.#registers[0] = old;
      return;
    }
    const value = atomicResult(row.op, row.bits, old.value, operand.value);
    memory.store(pointer, off, row.size, row.op === 'xchg' ? operand : scalar(value), insn);
    if (row.src === 'readwrite') this.#registers[src] = old;
  }

  #call({ row, imm }: Instruction, index: number, insn: number): number {
    if (row.op === 'helper') {
      this.#callHelper(imm, insn);
      return index + 1;
    }
    if (this.#callers.length + 1 >= MAX_FRAMES) {
      throw new ExecutionError(
        'X-DEPTH',
        `instruction ${insn}: local calls are nested more than ${MAX_FRAMES} frames deep`,
        { insn },
      );
    }
    this.#callers.push({ back: index + 1, saved: this.#registers.slice(FIRST_SAVED) });
    if (this.#strict) {
      this.#registers[0] = undefined;
      this.#registers.fill(undefined, FIRST_SAVED);
    }
    this.#registers[FRAME_POINTER] = this.#memory.pushFrame();
    return this.#program.targetOf(index);
  }

  #callHelper(id: number, insn: number): void {
    const helper = this.#helpers.get(id);
    if (!helper)
      throw new ExecutionError('X-HELPER', `instruction ${insn}: no helper function ${id} was given`, {
        insn,
      });
    const result = callHelper(id, helper, {
      number: (index) => this.#read(index + 1, insn).value,
      take: (index, { bytes, access }) => this.#memory.copy(this.#read(index + 1, insn), bytes, access, insn),
      give: (index, bytes) => this.#memory.fill(this.#read(index + 1, insn), bytes, insn),
      requireIntact: this.#requireIntact,
    });
    this.#registers[0] = scalar(result);
    if (this.#strict) this.#registers.fill(undefined, 1, FIRST_SAVED);
  }

  /** Returns from a local call with r6 to r10 as they were; r1 to r5 are nobody's afterwards. */
  #exit(): number {
    this.#memory.popFrame(this.#registers[FRAME_POINTER]!);
    const caller = this.#callers.pop();
    if (!caller) return EXIT;
    caller.saved.forEach((word, i) => {
      this.#registers[FIRST_SAVED + i] = word;
    });
    if (this.#strict) this.#registers.fill(undefined, 1, FIRST_SAVED);
    return caller.back;
  }

  #unwritten(): InterpretResult['unwritten'] {
    if (!this.#strict) return [];
    return (this.#contract?.writesAll ?? [])
      .map((arg) => ({ arg, bytes: this.#memory.unwritten(this.#args[arg]?.region ?? 0) }))
      .filter(({ bytes }) => bytes.length > 0);
  }
}

const EXIT = -1;

const scalar = (value: bigint): Word => ({ value, region: 0 });

/** A pointer moved by a number leads into the same region; all other arithmetic gives numbers. */
function derivedRegion(op: string, a: Word, b: Word): number {
  if (op === 'add') return a.region !== 0 && b.region !== 0 ? 0 : a.region || b.region;
  return op === 'sub' && b.region === 0 ? a.region : 0;
}
