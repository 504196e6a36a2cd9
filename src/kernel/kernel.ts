// The Linux kernel as a second verifier and one more engine. A contract's memory is the values of array maps, which the
// program is given as they are, or as a global function's pointers to structs of those sizes.

import { type GivenArg, memoryOf, requireContract, takeArgs } from '../bpf/arguments.js';
import { type Contract, checkContract } from '../bpf/contract.js';
import { type Program, requireProgram } from '../bpf/program.js';
import { ArgumentError, EngineError, ProgramError, VerifierError } from '../errors.js';
import {
  close,
  createArray,
  loadProgram,
  MAP_FLAG,
  programInfo,
  readValue,
  runProgram,
  writeValue,
} from './syscall.js';
import { signature, typesOf } from './types.js';
import { callerOf, isVariable, type Maps, type Ours, requireFixed, slots, WORD_BYTES, wrap } from './wrap.js';

export interface KernelOptions {
  /**
   * What the kernel's verifier takes the arguments for.
   * 'map values' (the default): it checks the program as its caller calls it, knowing access rights and ranges.
   * 'global function': it checks the program by itself, for any memory of those sizes and any numbers (Linux 6.8).
   */
  readonly as?: 'map values' | 'global function';
}

/** A contract's memory in the kernel, for any number of programs. Holds descriptors until it is disposed of. */
export class KernelMemory {
  readonly #contract: Contract;
  /** The contract as a global function's; undefined where programs are none. */
  readonly #signature: Contract | undefined;
  readonly #maps: Maps;
  readonly #caller: readonly Ours[];
  /** The kernel's number, in its log, of a program's first instruction. */
  readonly firstSlot: number;
  /** All of them. */
  readonly #fds: number[] = [];
  #open = true;

  /**
   * @throws ArgumentError for a bad contract or option; EngineError 'E-KERNEL' for an argument that the
   * kernel cannot be given, and where bpf(2) is not permitted, 'E-PLATFORM' elsewhere
   */
  constructor(contract: Contract, options: KernelOptions = {}) {
    this.#contract = checkContract(contract);
    requireFixed(this.#contract);
    const as = options?.as ?? 'map values';
    if (as !== 'map values' && as !== 'global function')
      throw new ArgumentError('A-RANGE', `as must be 'map values' or 'global function', got ${String(as)}`);
    this.#signature = as === 'global function' ? signature(this.#contract) : undefined;
    const { args } = this.#contract;
    try {
      this.#maps = {
        result: this.#array(WORD_BYTES, MAP_FLAG.readwrite),
        numbers: args.some(isVariable) ? this.#array(WORD_BYTES * args.length, MAP_FLAG.read) : undefined,
        memory: args.map((spec) =>
          spec?.kind === 'memory' && spec.bytes > 0
            ? // A function takes no memory that it may not write.
              this.#array(spec.bytes, this.#signature ? MAP_FLAG.readwrite : MAP_FLAG[spec.access])
            : undefined,
        ),
      };
    } catch (error) {
      this.dispose();
      throw error;
    }
    this.#caller = callerOf(this.#signature ?? this.#contract, this.#maps);
    this.firstSlot = slots(this.#caller);
  }

  /**
   * Has the kernel verify and compile a program.
   * @throws VerifierError 'V-KERNEL' with the kernel's reason and log, where it refuses; its log counts from
   *   the caller's first instruction, `insn` from the program's; EngineError 'E-KERNEL' for a program that calls a helper function of the contract;
   *   ProgramError 'P-DATA' for a program with data
   */
  load(program: Program, { log = false }: { readonly log?: boolean } = {}): KernelProgram {
    requireProgram(program);
    if (program.data.length > 0) {
      const names = program.data.map(({ name }) => name).join(', ');
      throw new ProgramError(
        'P-DATA',
        `the program brings data along (${names}), which this does not put into the kernel`,
      );
    }
    this.#requireOpen();
    this.#requireNoHelper(program);
    const { whole, insns } = wrap(this.#caller, program);
    const types = this.#signature && typesOf(whole, this.firstSlot, this.#signature);
    const verdict = loadProgram({ insns, ...(types && { types }) }, log);
    if (verdict.fd === undefined) throw refusal(verdict.error, verdict.log, this.firstSlot);
    const { fd, microseconds } = verdict;
    return new KernelProgram(fd, microseconds, verdict.log, (args) => this.#run(fd, args));
  }

  dispose(): void {
    if (!this.#open) return;
    this.#open = false;
    for (const fd of this.#fds) close(fd);
  }

  #array(bytes: number, flags: number): number {
    const fd = createArray(bytes, flags);
    this.#fds.push(fd);
    return fd;
  }

  #run(fd: number, given: readonly GivenArg[]): bigint {
    this.#requireOpen();
    const args = takeArgs(given);
    requireContract(args, this.#contract);
    const buffers = args.map((arg, i) => memoryOf(arg, this.#contract.args[i]));
    const { memory, numbers, result } = this.#maps;
    if (numbers !== undefined) {
      const words = BigUint64Array.from(args, (arg) => (typeof arg === 'bigint' ? arg : 0n));
      writeValue(numbers, new Uint8Array(words.buffer));
    }
    memory.forEach((map, i) => {
      if (map !== undefined) writeValue(map, buffers[i]!);
    });
    runProgram(fd);
    memory.forEach((map, i) => {
      if (map !== undefined) readValue(map, buffers[i]!);
    });
    const r0 = new BigUint64Array(1);
    readValue(result, new Uint8Array(r0.buffer));
    return r0[0]!;
  }

  #requireNoHelper({ instructions }: Program): void {
    const { helpers = {} } = this.#contract;
    const called = instructions.find(({ row, imm }) => row.name === 'call.helper' && helpers[imm]);
    if (!called) return;
    const message = `the program calls helper function ${called.imm} of the contract; under that number the kernel has one of its own`;
    throw new EngineError('E-KERNEL', message);
  }

  #requireOpen(): void {
    if (!this.#open) throw new ArgumentError('A-DISPOSED', 'the kernel memory has been disposed of');
  }
}

/** A program in the kernel. It holds a descriptor until it is freed. */
export class KernelProgram {
  #fd: number | undefined;
  /** What loading took, in µs: check, rewriting and compilation. */
  readonly loadMicroseconds: number;
  /** The verifier's log, if it was asked for; otherwise empty. */
  readonly log: string;
  readonly #run: (args: readonly GivenArg[]) => bigint;

  /** @internal */
  constructor(fd: number, loadMicroseconds: number, log: string, run: (args: readonly GivenArg[]) => bigint) {
    this.#fd = fd;
    this.loadMicroseconds = loadMicroseconds;
    this.log = log;
    this.#run = run;
  }

  /**
   * What the kernel tells of it: how many instructions its verifier walked over all paths, those that bring the
   * arguments among them, and how many bytes of machine code the program became, 0 where its JIT is off.
   */
  info(): { walked: number; jitBytes: number } {
    const { walked, functionBytes } = programInfo(this.#requireFd());
    return { walked, jitBytes: functionBytes.slice(1).reduce((sum, bytes) => sum + bytes, 0) };
  }

  /** Runs it on copies of the buffers, which are written back. @returns r0, unsigned 64 bits */
  call(args: readonly GivenArg[]): bigint {
    this.#requireFd();
    return this.#run(args);
  }

  free(): void {
    if (this.#fd === undefined) return;
    close(this.#fd);
    this.#fd = undefined;
  }

  #requireFd(): number {
    if (this.#fd === undefined) throw new ArgumentError('A-DISPOSED', 'the kernel program has been freed');
    return this.#fd;
  }
}

function refusal(error: string, log: string, before: number): VerifierError {
  const lines = log.split('\n').filter((line) => line !== '' && !line.startsWith('processed '));
  const last = lines.findLastIndex((line) => /^\d+: \(/.test(line));
  const reason = lines.slice(last + 1).join('; ') || 'without a word';
  // Before the kernel walks the program it names instructions in its sentences only.
  const slot = lines[last] ?? /\binsn (\d+)/.exec(reason)?.[1] ?? '0';
  const insn = Math.max(0, Number.parseInt(slot, 10) - before);
  return new VerifierError('V-KERNEL', insn, `the kernel refused it (${error}): ${reason}`, { log });
}
