// BPF to x86-64, one instruction at a time: every BPF register lives in a register of its own (abi.ts), and r9 to
// r11 of the machine are free within an instruction.

import { addressed, type Instruction, type Program } from '../../bpf/program.js';
import { ArgumentError } from '../../errors.js';
import { VerifiedProgram } from '../../verifier/verified.js';
import { type Lifted, lift } from '../lift.js';
import { type MachineCode, makeCode, type Relocation } from '../target.js';
import { enterFrame, type Frame, frameOf, leaveFrame, mapped } from './abi.js';
import { load, store } from './access.js';
import { alu, endian } from './alu.js';
import { Assembler, type Assembly, type Label } from './assemble.js';
import { atomic } from './atomic.js';
import type { Condition } from './forms.js';
import { HelperCalls } from './helper.js';
import type { Bits } from './operands.js';
import { Relocations } from './relocations.js';
import { assembleScalar } from './scalar.js';

export interface CompileOptions {
  /** For listings and profilers, or what makes it when it is asked for. Default: 'bpf'. */
  readonly name?: string | (() => string);
  /** Whether code is made from what the program computes, if that has a slice form; false keeps to its instructions. Default: true. */
  readonly lift?: boolean;
}

/**
 * Compiles a verified program to x86-64 code that is called as `u64 f(u64 r1, …, u64 r5)` under the System V ABI.
 * The helper functions that it calls are given where the code is placed, and its data has its place there.
 * @throws ArgumentError for a program that the verifier did not return
 */
export function compileX64(verified: VerifiedProgram, options: CompileOptions = {}): MachineCode {
  if (!VerifiedProgram.is(verified)) {
    throw new ArgumentError('A-TYPE', 'not a verified program: pass what verify(program, contract) returns');
  }
  const { lift: lifts = true, name = 'bpf' } = options;
  const lifted = lifts ? lift(verified) : undefined;
  const { assembly, offsets, relocations } =
    lifted && isNear(lifted)
      ? { assembly: assembleScalar(lifted), offsets: [], relocations: [] }
      : assembleX64(verified.program, verified.facts);
  return makeCode({
    isa: 'x64',
    bytes: assembly.bytes,
    offsets,
    relocations,
    data: verified.program.data,
    abi: verified.contract,
    needsAlignment: verified.needsAlignment,
    name,
  });
}

/** Whether displacements of 32 bits reach all of the memory. */
const isNear = ({ input, output }: Lifted): boolean => Math.max(input.bytes, output.bytes) < 2 ** 31;

/** The code of a program with what was meant by it; `offsets` and `relocations` as in MachineCode. */
export function assembleX64(
  program: Program,
  facts?: VerifiedProgram['facts'],
): {
  assembly: Assembly;
  offsets: number[];
  relocations: Relocation[];
} {
  const lowering = new Lowering(program, facts);
  const assembly = lowering.run();
  const offsets: number[] = [];
  for (let slot = 0; slot < program.slots; slot++) {
    const index = program.indexAt(slot);
    offsets.push(assembly.offsetOf(lowering.labels[index === -1 ? program.indexAt(slot + 1) : index]!));
  }
  return { assembly, offsets, relocations: lowering.relocations.resolve(assembly) };
}

const CONDITION: Readonly<Record<string, Condition>> = {
  jeq: 'e',
  jne: 'ne',
  jset: 'ne',
  jgt: 'a',
  jge: 'ae',
  jlt: 'b',
  jle: 'be',
  jsgt: 'g',
  jsge: 'ge',
  jslt: 'l',
  jsle: 'le',
};

class Lowering {
  readonly #asm = new Assembler();
  readonly #program: Program;
  readonly #facts: VerifiedProgram['facts'];
  readonly #frame: Frame;
  /** Whether functions of the program call each other: then callers make frames, and exit is a bare return. */
  readonly #calls: boolean;
  /** Undefined for a program that calls no helper functions. */
  readonly helpers: HelperCalls | undefined;
  readonly relocations = new Relocations(this.#asm);
  /** Of each instruction, and of the end. */
  readonly labels: readonly Label[];

  constructor(program: Program, facts: VerifiedProgram['facts']) {
    this.#program = program;
    this.#facts = facts;
    this.#frame = frameOf(program);
    this.#calls = program.hasCalls;
    const callsHelpers = program.instructions.some(({ row }) => row.op === 'helper');
    this.helpers = callsHelpers ? new HelperCalls(this.#asm, this.relocations) : undefined;
    this.labels = Array.from({ length: program.instructions.length + 1 }, () => this.#asm.label());
  }

  run(): Assembly {
    const { instructions } = this.#program;
    this.helpers?.enter();
    if (this.#calls) {
      this.#call(0);
      this.helpers?.leave();
      this.#asm.emit('ret');
    } else {
      enterFrame(this.#asm, this.#frame);
    }
    instructions.forEach((instruction, index) => {
      this.#asm.bind(this.labels[index]!);
      this.#lower(instruction, index);
    });
    this.#asm.bind(this.labels[instructions.length]!);
    // An unproven program may run off its end.
    if (!['exit', 'goto'].includes(instructions.at(-1)!.row.kind)) this.#asm.emit('ud2');
    this.helpers?.finish(this.#frame);
    return this.#asm.finish();
  }

  #lower(instruction: Instruction, index: number): void {
    const asm = this.#asm;
    const { row, dst, src, imm, value } = instruction;
    switch (row.kind) {
      case 'alu':
        alu(asm, instruction, this.#facts?.[this.#program.slotOf(index)]?.registers[src]);
        break;
      case 'endian':
        endian(asm, instruction);
        break;
      case 'load_imm64':
        asm.loadImmediate(mapped(dst).number, value);
        break;
      case 'data_address': {
        const { section, offset } = addressed(instruction);
        this.relocations.loadAddress(mapped(dst).number, { data: section, at: offset });
        break;
      }
      case 'load':
        load(asm, instruction);
        break;
      case 'store':
        store(asm, instruction);
        break;
      case 'atomic':
        atomic(asm, instruction);
        break;
      case 'jump':
        this.#jump(instruction, index);
        break;
      case 'goto':
        asm.jump('jmp', this.#target(index));
        break;
      case 'call':
        if (row.op === 'helper') this.helpers!.call(imm);
        else this.#call(this.#program.targetOf(index));
        break;
      case 'exit':
        if (!this.#calls) this.#leave();
        asm.emit('ret');
        break;
      case 'refused':
        throw new Error(`${row.name} is in no program`);
    }
  }

  #leave(): void {
    leaveFrame(this.#asm, this.#frame);
    this.helpers?.leave();
  }

  #target(index: number): Label {
    return this.labels[this.#program.targetOf(index)]!;
  }

  #jump(instruction: Instruction, index: number): void {
    compare(this.#asm, instruction);
    this.#asm.jump(`j${CONDITION[instruction.row.op]!}`, this.#target(index));
  }

  /** The caller keeps r6 to r10 and makes the callee's stack, so that functions may share code and need no prologue. */
  #call(index: number): void {
    enterFrame(this.#asm, this.#frame);
    this.#asm.jump('call', this.labels[index]!);
    leaveFrame(this.#asm, this.#frame);
  }
}

/** Sets the flags that a conditional jump asks for. */
function compare(asm: Assembler, { row, dst, src, imm }: Instruction): void {
  const bits = row.bits as Bits;
  const left = mapped(dst, bits);
  const test = row.op === 'jset';
  if (row.source === 'reg') asm.emit(test ? 'test' : 'cmp', left, mapped(src, bits));
  else if (test) asm.emit('test', mapped(dst, testedBits(imm, bits)), imm);
  else if (imm === 0) asm.emit('test', left, left);
  else asm.emit('cmp', left, imm);
}

/** The least width whose bits hold every bit of a mask. */
function testedBits(mask: number, bits: Bits): Bits {
  if (mask >= 0 && mask <= 0xff) return 8;
  return mask >= 0 ? 32 : bits;
}
