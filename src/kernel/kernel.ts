// The Linux kernel as a second verifier and one more engine. A contract's memory is the value of an array map; the
// program becomes a function that a few instructions of ours call, which bring the arguments and keep all of r0:
//
//   r1 = map value …   call program   *(result) = r0   exit   program…

import {
  type Arg,
  type ArgSpec,
  type Contract,
  checkContract,
  memoryOf,
  requireContract,
  takeArgs,
} from '../bpf/contract.js';
import { encodeProgram } from '../bpf/encode.js';
import { row } from '../bpf/isa.js';
import { type Instruction, instruction, makeProgram, type Program, requireProgram } from '../bpf/program.js';
import { MAX_U64 } from '../bytes.js';
import { ArgumentError, ProgramError, VerifierError } from '../errors.js';
import { close, createArray, loadProgram, MAP_FLAG, readValue, runProgram, writeValue } from './syscall.js';

const WORD_BYTES = 8;
/** The src field of an LD_IMM64 whose immediate is a map's descriptor and an offset in its value. */
const PSEUDO_MAP_VALUE = 2;

/** A contract's memory in the kernel, for any number of programs. Holds descriptors until it is disposed of. */
export class KernelMemory {
  readonly #contract: Contract;
  /** Of each argument; undefined for what is not memory of at least one byte. */
  readonly #maps: readonly (number | undefined)[];
  /** A word for each argument, for numbers that differ from run to run; undefined where there are none. */
  readonly #numbers: number | undefined;
  readonly #result: number;
  /** All of them. */
  readonly #fds: number[] = [];
  #open = true;

  /** @throws ArgumentError for a bad contract; EngineError 'E-KERNEL' where bpf(2) is not permitted, 'E-PLATFORM' elsewhere */
  constructor(contract: Contract) {
    this.#contract = checkContract(contract);
    const { args } = this.#contract;
    try {
      this.#result = this.#array(WORD_BYTES, MAP_FLAG.readwrite);
      if (args.some(isVariable)) this.#numbers = this.#array(WORD_BYTES * args.length, MAP_FLAG.read);
      this.#maps = args.map((spec) =>
        spec?.kind === 'memory' && spec.bytes > 0
          ? this.#array(spec.bytes, MAP_FLAG[spec.access])
          : undefined,
      );
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /**
   * Has the kernel verify and compile a program.
   * @throws VerifierError 'V-KERNEL' with the kernel's reason and log, where it refuses; the kernel's instruction
   *   numbers count the instructions that bring the arguments, `insn` does not; ProgramError 'P-DATA' for a program with data
   */
  load(program: Program): KernelProgram {
    requireProgram(program);
    if (program.data.length > 0) {
      const names = program.data.map(({ name }) => name).join(', ');
      throw new ProgramError(
        'P-DATA',
        `the program brings data along (${names}), which this does not put into the kernel`,
      );
    }
    this.#requireOpen();
    const { bytes, before } = this.#wrap(program);
    const verdict = loadProgram(bytes);
    if (verdict.fd !== undefined) return new KernelProgram(verdict.fd, (fd, args) => this.#run(fd, args));
    const { error, log } = verdict;
    const lines = log.split('\n').filter((line) => line !== '' && !line.startsWith('processed '));
    const last = lines.findLastIndex((line) => /^\d+: \(/.test(line));
    const reason = lines.slice(last + 1).join('; ') || 'without a word';
    // Before the kernel walks the program it names instructions in its sentences only.
    const slot = lines[last] ?? /\binsn (\d+)/.exec(reason)?.[1] ?? '0';
    const insn = Math.max(0, Number.parseInt(slot, 10) - before);
    throw new VerifierError('V-KERNEL', insn, `the kernel refused it (${error}): ${reason}`, log);
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

  #wrap(program: Program): { bytes: Uint8Array; before: number } {
    const bring = this.#contract.args.flatMap((_, i) => this.#argument(i));
    const leave = [
      mapValue(1, this.#result, 0),
      op('stxdw', { dst: 1, src: 0 }),
      op('mov64.imm', { dst: 0 }),
      op('exit', {}),
    ];
    const ours = [...bring, op('call.local', { imm: leave.length + 1 }), ...leave];
    const whole = makeProgram([...ours.map(({ instruction }) => instruction), ...program.instructions]);
    const bytes = encodeProgram(whole);
    ours.forEach(({ ofMap }, i) => {
      if (ofMap) bytes[whole.slotOf(i) * WORD_BYTES + 1]! |= PSEUDO_MAP_VALUE << 4;
    });
    return { bytes, before: whole.slotOf(ours.length) };
  }

  #argument(index: number): Ours[] {
    const dst = index + 1;
    const spec = this.#contract.args[index];
    if (spec === undefined) return [];
    const map = this.#maps[index];
    if (map !== undefined) return [mapValue(dst, map, 0)];
    if (spec.kind === 'memory') return [op('mov64.imm', { dst })];
    if (!isVariable(spec)) return [op('lddw', { dst, value: spec.min ?? 0n })];
    return [mapValue(dst, this.#numbers!, index * WORD_BYTES), op('ldxdw', { dst, src: dst })];
  }

  #run(fd: number, given: readonly Arg[]): bigint {
    this.#requireOpen();
    const args = takeArgs(given);
    requireContract(args, this.#contract);
    const memory = args.map((arg, i) => memoryOf(arg, this.#contract.args[i]));
    if (this.#numbers !== undefined) {
      const numbers = BigUint64Array.from(args, (arg) => (typeof arg === 'bigint' ? arg : 0n));
      writeValue(this.#numbers, new Uint8Array(numbers.buffer));
    }
    this.#maps.forEach((map, i) => {
      if (map !== undefined) writeValue(map, memory[i]!);
    });
    runProgram(fd);
    this.#maps.forEach((map, i) => {
      if (map !== undefined) readValue(map, memory[i]!);
    });
    const result = new BigUint64Array(1);
    readValue(this.#result, new Uint8Array(result.buffer));
    return result[0]!;
  }

  #requireOpen(): void {
    if (!this.#open) throw new ArgumentError('A-DISPOSED', 'the kernel memory has been disposed of');
  }
}

/** A program in the kernel. It holds a descriptor until it is freed. */
export class KernelProgram {
  #fd: number | undefined;
  readonly #run: (fd: number, args: readonly Arg[]) => bigint;

  /** @internal */
  constructor(fd: number, run: (fd: number, args: readonly Arg[]) => bigint) {
    this.#fd = fd;
    this.#run = run;
  }

  /** Runs it on copies of the buffers, which are written back. @returns r0, unsigned 64 bits */
  call(args: readonly Arg[]): bigint {
    if (this.#fd === undefined) throw new ArgumentError('A-DISPOSED', 'the kernel program has been freed');
    return this.#run(this.#fd, args);
  }

  free(): void {
    if (this.#fd === undefined) return;
    close(this.#fd);
    this.#fd = undefined;
  }
}

/** An instruction of ours around the program. */
interface Ours {
  readonly instruction: Instruction;
  /** Whether it is an LD_IMM64 of a map's value. */
  readonly ofMap: boolean;
}

const op = (name: string, operands: Parameters<typeof instruction>[1]): Ours => ({
  instruction: instruction(row(name), operands),
  ofMap: false,
});

/** dst = the address of a map's value plus `offset`. */
const mapValue = (dst: number, map: number, offset: number): Ours => ({
  ...op('lddw', { dst, value: (BigInt(offset) << 32n) | BigInt(map) }),
  ofMap: true,
});

const isVariable = (spec: ArgSpec | undefined): boolean =>
  spec?.kind === 'scalar' && (spec.min ?? 0n) !== (spec.max ?? MAX_U64);
