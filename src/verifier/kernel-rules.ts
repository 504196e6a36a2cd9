// What Linux refuses although RFC 9669 defines it and nothing is unsafe; only for contracts that ask for it. Sources:
// check_alu_op, check_ptr_alignment and check_max_stack_depth in kernel/bpf/verifier.c.

import { MAX_FRAMES, STACK_BYTES } from '../bpf/isa.js';
import type { Instruction, Program } from '../bpf/program.js';
import type { Cfg } from './cfg.js';
import { Rejection } from './report.js';
import { type State, topOf } from './states.js';
import { offsetsOf, Pointer } from './values.js';

const SHIFTS = new Set(['lsh', 'rsh', 'arsh']);
const DIVISIONS = new Set(['div', 'sdiv', 'mod', 'smod']);
/** What the stack of one function is rounded up to, where there is a JIT. */
const STACK_UNIT = 16;

/** The rules of Linux for single instructions, and for the stacks of a chain of calls. */
export class KernelRules {
  readonly #program: Program;
  readonly #cfg: Cfg;
  /** Bytes of stack that each function uses, by its first instruction. */
  readonly #depths = new Map<number, number>();

  constructor(program: Program, cfg: Cfg) {
    this.#program = program;
    this.#cfg = cfg;
  }

  /** @throws Rejection 'V-KERNEL-RULE' if Linux refuses the instruction in this state */
  check(instruction: Instruction, state: State): void {
    const { row, imm } = instruction;
    if (row.kind === 'alu' && row.source === 'imm') {
      if (SHIFTS.has(row.op) && (imm < 0 || imm >= row.bits))
        throw rule(`a shift by ${imm}; it has to be by 0 to ${row.bits - 1}`);
      if (DIVISIONS.has(row.op) && imm === 0) throw rule('a division by 0');
    }
    if (row.size > 0) this.#checkStack(instruction, state);
  }

  #checkStack(instruction: Instruction, state: State): void {
    const { row, off } = instruction;
    const through = row.kind === 'load' || row.op === 'load_acquire' ? instruction.src : instruction.dst;
    const pointer = topOf(state).registers[through];
    if (!(pointer instanceof Pointer) || pointer.region.frame < 0) return;
    const { t } = pointer.offset.need().whole;
    const misplaced = ((t.value + BigInt(off)) | t.mask) & BigInt(row.size - 1);
    if (misplaced !== 0n)
      throw rule(
        `an access of ${row.size} bytes of the stack at an offset that may not be a multiple of ${row.size}`,
      );
    const frame = state.frames[pointer.region.frame]!;
    const owner = frame.back < 0 ? 0 : this.#program.targetOf(frame.back - 1);
    const depth = -offsetsOf(pointer, off).first;
    if (depth > (this.#depths.get(owner) ?? 0)) this.#depths.set(owner, depth);
  }

  /**
   * @throws Rejection 'V-KERNEL-RULE' for a chain of calls, whether it comes to them or not, that is more than 8 deep, or whose
   *   functions use more than 512 bytes of stack together
   */
  checkChains(): void {
    const seen = new Set<string>();
    const open = [{ entry: 0, above: 0, frames: 1 }];
    for (let next = open.pop(); next; next = open.pop()) {
      const { entry, above, frames } = next;
      const key = `${entry} ${above} ${frames}`;
      if (seen.has(key)) continue;
      seen.add(key);
      if (frames > MAX_FRAMES) throw rule(`a chain of calls is more than ${MAX_FRAMES} deep`, entry);
      const own = this.#depths.get(entry) ?? 0;
      const depth = above + Math.ceil(own / STACK_UNIT) * STACK_UNIT;
      if (depth > STACK_BYTES)
        throw rule(`a chain of calls uses ${depth} bytes of stack; together they have ${STACK_BYTES}`, entry);
      for (const callee of this.#calledBy(entry))
        open.push({ entry: callee, above: depth, frames: frames + 1 });
    }
  }

  #calledBy(entry: number): Set<number> {
    const called = this.#program.instructions.flatMap(({ row }, index) =>
      row.op === 'local' && this.#cfg.functions[index] === entry ? [this.#program.targetOf(index)] : [],
    );
    return new Set(called);
  }
}

const rule = (what: string, index?: number) =>
  new Rejection('V-KERNEL-RULE', `Linux takes no such program: ${what}`, index);
