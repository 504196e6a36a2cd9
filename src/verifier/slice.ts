// Where a value came from on the way that was walked: the instructions that computed it and carried it, and the
// branches that taught something of it. Addresses are not followed, where a value was loaded from memory.

import { FIRST_SAVED, FRAME_POINTER, REGISTERS } from '../bpf/isa.js';
import type { Instruction, Program } from '../bpf/program.js';
import type { Step } from './path.js';
import * as scalars from './scalars.js';
import { Pointer, type Value } from './values.js';

/** One value: the step that made it, and of what. */
interface Origin {
  readonly step: number;
  readonly from: readonly (Origin | undefined)[];
  /** Shared by copies, and by values that differ from it by constants. */
  readonly taught: Lesson[];
}

/** A branch that taught something of a value by comparing it with another. */
interface Lesson {
  readonly step: number;
  readonly other: Origin | undefined;
}

interface Frame {
  registers: (Origin | undefined)[];
}

/** @returns numbers of steps, ascending: what registers held before the last step, and where they had it from */
export function sliceOf(program: Program, path: readonly Step[], registers: readonly number[]): number[] {
  const flow = new Flow(program, path);
  const last = path.length - 1;
  for (let step = 0; step < last; step++) flow.step(step);
  const { registers: held } = flow.top;
  return stepsBehind(
    registers.map((register) => held[register]),
    last,
  );
}

/** @returns numbers of steps, ascending: the conditional jumps from step `from` on, and where their operands came from */
export function sliceOfJumps(program: Program, path: readonly Step[], from: number): number[] {
  const flow = new Flow(program, path);
  const found = new Set<number>();
  for (let step = 0; step < path.length; step++) {
    const { row, dst, src } = program.instructions[path[step]!.index]!;
    if (step >= from && row.kind === 'jump') {
      const operands = row.source === 'reg' ? [dst, src] : [dst];
      const origins = operands.map((register) => flow.top.registers[register]);
      for (const behind of [step, ...stepsBehind(origins, step)]) found.add(behind);
    }
    if (step < path.length - 1) flow.step(step);
  }
  return [...found].sort((a, b) => a - b);
}

/** The steps that gave values which are held before step `before`. */
function stepsBehind(origins: readonly (Origin | undefined)[], before: number): number[] {
  const steps = new Set<number>();
  const open = origins.map((origin) => ({ origin, before }));
  const seen = new Map<Origin, number>();
  for (let next = open.pop(); next; next = open.pop()) {
    const { origin, before } = next;
    if (!origin || (seen.get(origin) ?? -1) >= before) continue;
    seen.set(origin, before);
    if (origin.step >= 0) steps.add(origin.step);
    open.push(...origin.from.map((origin) => ({ origin, before })));
    for (const { step, other } of origin.taught) {
      if (step >= before) continue;
      steps.add(step);
      open.push({ origin: other, before: step });
    }
  }
  return [...steps].sort((a, b) => a - b);
}

/** Follows values forward through registers and stacks. */
class Flow {
  readonly #frames: Frame[] = [];
  /** Bytes of stacks, by depth and offset from that frame's r10. */
  readonly #stack = new Map<string, Origin>();

  constructor(
    readonly program: Program,
    readonly path: readonly Step[],
  ) {
    for (let depth = path[0]?.depth ?? 1; depth > 0; depth--) this.#frames.push(newFrame());
  }

  get top(): Frame {
    return this.#frames[this.#frames.length - 1]!;
  }

  /** Goes over a step that is not the last. */
  step(step: number): void {
    const instruction = this.program.instructions[this.path[step]!.index]!;
    const { row, dst, src } = instruction;
    const { registers } = this.top;
    const operand = row.source === 'reg' ? registers[src] : undefined;
    switch (row.kind) {
      case 'alu':
        registers[dst] = this.#alu(step, instruction, registers[dst], operand);
        return;
      case 'endian':
        registers[dst] = made(step, registers[dst]);
        return;
      case 'load_imm64':
        registers[dst] = made(step);
        return;
      case 'load':
        registers[dst] = this.#load(step, instruction, src);
        return;
      case 'store':
        this.#store(step, instruction, operand);
        return;
      case 'atomic':
        this.#atomic(step, instruction);
        return;
      case 'jump':
        this.#learn(step, registers[dst], operand, instruction);
        return;
      case 'call':
        if (row.op === 'local') this.#frames.push(entered(registers, step));
        else this.#callHelper(step);
        return;
      case 'exit':
        this.#leave(step);
    }
  }

  #alu(step: number, { row }: Instruction, a: Origin | undefined, b: Origin | undefined): Origin {
    if (row.op === 'mov')
      return row.bits === 64 && row.signExtend === 0 && b ? copied(step, b) : made(step, b);
    const moved = row.bits === 64 && row.source === 'imm' && (row.op === 'add' || row.op === 'sub');
    return moved && a ? copied(step, a) : made(step, a, b);
  }

  #learn(step: number, a: Origin | undefined, b: Origin | undefined, { row, dst, src }: Instruction): void {
    const [before, after] = [this.path[step]!.registers, this.path[step + 1]!.registers];
    if (a && sharper(before[dst], after[dst])) a.taught.push({ step, other: b });
    if (row.source === 'reg' && b && sharper(before[src], after[src])) b.taught.push({ step, other: a });
  }

  #callHelper(step: number): void {
    const { registers } = this.top;
    registers[0] = made(step);
    registers.fill(undefined, 1, FIRST_SAVED);
  }

  #leave(step: number): void {
    const { registers } = this.#frames.pop()!;
    if (this.#frames.length === 0) this.#frames.push(newFrame());
    const caller = this.top.registers;
    caller[0] = made(step, registers[0]);
    caller.fill(undefined, 1, FIRST_SAVED);
  }

  #load(step: number, { row, off }: Instruction, register: number): Origin {
    const places = this.#places(step, register, off, row.size);
    const origins = places?.map((place) => this.#stack.get(place)) ?? [];
    const first = origins[0];
    return row.size === 8 && first && origins.every((origin) => origin === first)
      ? copied(step, first)
      : made(step, ...new Set(origins));
  }

  #store(step: number, { row, dst, off }: Instruction, value: Origin | undefined): void {
    const places = this.#places(step, dst, off, row.size);
    if (!places) return;
    const exact = places.length === row.size;
    const whole = row.size === 8 && value ? copied(step, value) : made(step, value);
    for (const place of places) {
      this.#stack.set(place, exact ? whole : made(step, value, this.#stack.get(place)));
    }
  }

  #atomic(step: number, instruction: Instruction): void {
    const { row, dst, src } = instruction;
    const { registers } = this.top;
    if (row.op === 'load_acquire') {
      registers[dst] = this.#load(step, instruction, src);
      return;
    }
    const operand = registers[src];
    const before = row.op === 'store_release' ? undefined : this.#load(step, instruction, dst);
    this.#store(step, instruction, before ? made(step, before, operand) : operand);
    if (row.op === 'cmpxchg') registers[0] = before;
    else if (row.src === 'readwrite') registers[src] = before;
  }

  /** Every byte of a stack that an access may touch; undefined for other memory. */
  #places(step: number, register: number, off: number, size: number): string[] | undefined {
    const pointer: Value | undefined = this.path[step]!.registers[register];
    if (!(pointer instanceof Pointer) || pointer.region.frame < 0) return undefined;
    const { min, max } = pointer.offset.known.whole.s;
    const [first, last] = [Number(min) + off, Number(max) + off + size];
    return Array.from({ length: last - first }, (_, i) => `${pointer.region.frame} ${first + i}`);
  }
}

const made = (step: number, ...from: (Origin | undefined)[]): Origin => ({ step, from, taught: [] });
const copied = (step: number, of: Origin): Origin => ({ step, from: [of], taught: of.taught });

function newFrame(): Frame {
  return { registers: Array.from({ length: REGISTERS }, () => made(-1)) };
}

function entered(registers: readonly (Origin | undefined)[], step: number): Frame {
  const frame: Frame = { registers: new Array<Origin | undefined>(REGISTERS).fill(undefined) };
  for (let r = 1; r < FIRST_SAVED; r++) frame.registers[r] = registers[r] && copied(step, registers[r]!);
  frame.registers[FRAME_POINTER] = made(-1);
  return frame;
}

/** Whether more is known of a register's value after a branch than before. */
function sharper(before: Value | undefined, after: Value | undefined): boolean {
  if (!before || !after || before === after) return false;
  const known = (value: Value) => (value instanceof Pointer ? value.offset : value).known;
  return !scalars.equal(known(before), known(after));
}
