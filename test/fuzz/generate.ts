// Random programs that are valid by construction: no run of one faults, whatever is in its memory. r1 is the memory,
// r2 its length. Every function keeps a pointer to the memory in the topmost word of its stack, and works on the
// words below.

import { FRAME_POINTER, ROWS, type Row, STACK_BYTES } from '../../src/bpf/isa.js';
import type { Program } from '../../src/bpf/program.js';
import { IMMEDIATES, VALUES } from '../boundary-values.js';
import { type Random, randomBits } from '../random-formats.js';
import { Code, type Label } from './code.js';
import { HELPERS } from './helper-functions.js';
import { type Pointer, State } from './state.js';

/** What a random program may consist of. */
export const GENERATED: readonly Row[] = ROWS.filter(({ kind }) => kind !== 'refused');

/** Bytes of memory that programs are made for. */
export const MEMORY_BYTES = [16, 96, 520] as const;

const MAX_FUNCTIONS = 4;
const DATA_BYTES = 48;
/** A callee's stack is small, since Linux gives a whole chain of calls 512 bytes. */
const SMALL_STACK = DATA_BYTES + 8;
const MAX_DEPTH = 3;
/** How often one instruction may run. */
const MAX_RUNS = 64;
/** So that enough registers are left to work with. */
const MAX_POINTERS = 4;
const FP = FRAME_POINTER;

const rowsOf = (...kinds: Row['kind'][]): readonly Row[] =>
  GENERATED.filter(({ kind }) => kinds.includes(kind));
const ARITHMETIC = rowsOf('alu', 'endian');
const JUMPS = rowsOf('jump');
const LOADS = rowsOf('load');
const STORES = rowsOf('store');
const ATOMICS = rowsOf('atomic');

/** A loop that runs `turns` times: the counter's first value and step, and the jump back. */
const LOOPS = [
  { first: 0, step: 1, back: 'jlt', end: (turns: number) => turns },
  { first: 0, step: 1, back: 'jslt', end: (turns: number) => turns },
  { first: 0, step: 1, back: 'jne', end: (turns: number) => turns },
  { first: 1, step: 1, back: 'jle', end: (turns: number) => turns },
  { first: -3, step: 2, back: 'jsle', end: (turns: number) => 2 * turns - 5 },
  { first: 9, step: -1, back: 'jgt', end: (turns: number) => 9 - turns },
  { first: 5, step: -1, back: 'jsge', end: (turns: number) => 6 - turns },
] as const;

interface Routine {
  readonly label: Label;
  /** Arguments: the memory, then numbers; the third may be the caller's stack. */
  readonly args: number;
  readonly takesStack: boolean;
  /** How often it may be run, by all its callers together. */
  runs: number;
}

/** The program of a seed's random numbers. */
export function generate(random: Random, memoryBytes: number): Program {
  const code = new Code();
  const count = random(3) === 0 ? 1 + random(MAX_FUNCTIONS) : 1;
  const routines = Array.from({ length: count }, (_, i): Routine => {
    const args = i === 0 ? 2 : 2 + random(4);
    return { label: {}, args, takesStack: i > 0 && args > 2 && random(2) === 0, runs: i === 0 ? 1 : 0 };
  });
  // Only our own engines have helper functions.
  const callsHelpers = random(8) === 0;
  const stack = count > 1 ? SMALL_STACK : [SMALL_STACK, 128, 136, STACK_BYTES][random(4)]!;
  routines.forEach((_, i) => {
    new FunctionMaker(code, random, memoryBytes, stack, routines, i, callsHelpers).make();
  });
  return code.program();
}

class FunctionMaker {
  readonly #state = new State();
  readonly #data: number;
  readonly #callees: readonly Routine[];
  readonly #self: Routine;
  #runs: number;
  #depth = 0;

  constructor(
    readonly code: Code,
    readonly random: Random,
    readonly memoryBytes: number,
    stack: number,
    routines: readonly Routine[],
    readonly index: number,
    readonly callsHelpers: boolean,
  ) {
    this.#data = -stack;
    this.#self = routines[index]!;
    this.#callees = routines.slice(index + 1);
    this.#runs = this.#self.runs;
  }

  make(): void {
    this.code.bind(this.#self.label);
    this.#enter();
    this.#steps(2 + this.random(12));
    // The next function would be unreachable if nobody called it, which Linux refuses.
    if (this.#callees.length > 0) this.#call(this.#callees[0]!);
    this.#steps(1 + this.random(6));
    this.#leave();
  }

  #enter(): void {
    const { args, takesStack } = this.#self;
    this.#state.set(1, { kind: 'pointer', bytes: this.memoryBytes, at: 0 });
    for (let register = 2; register <= args; register++) this.#state.set(register, 'number');
    if (takesStack) this.#state.set(3, { kind: 'pointer', bytes: DATA_BYTES, at: 0 });
    this.code.emit('stxdw', { dst: FP, src: 1, off: -8 });
    for (let at = 0; at < DATA_BYTES; at += 8) {
      if (this.random(2)) this.code.emit('stdw', { dst: FP, off: this.#data + at, imm: this.#immediate() });
      else this.code.emit('stxdw', { dst: FP, src: 2, off: this.#data + at });
    }
    for (let i = this.random(6); i > 0; i--) this.#constant(this.#pick(this.#state.free()));
    if (this.random(2)) this.#point(this.#pick(this.#state.free()));
  }

  /** r0 = something of every number at hand, so that none goes unseen. */
  #leave(): void {
    if (this.#state.get(0) !== 'number') this.#constant(0);
    for (const register of this.#state.numbers()) {
      if (register === 0) continue;
      this.code.emit('mul64.imm', { dst: 0, imm: 0x01000193 });
      this.code.emit('xor64.reg', { dst: 0, src: register });
    }
    this.code.emit('exit');
  }

  #steps(count: number): void {
    for (let i = 0; i < count; i++) this.#step();
  }

  #step(): void {
    if (this.callsHelpers && this.random(8) === 0) this.#callHelper();
    const choice = this.random(32);
    if (choice < 10) this.#arithmetic();
    else if (choice < 14) this.#load();
    else if (choice < 17) this.#store();
    else if (choice < 21) this.#atomic();
    else if (choice < 22) this.#constant(this.#pick(this.#state.free()));
    else if (choice < 24) this.#point(this.#pick(this.#state.free()));
    else if (choice < 26) this.#index();
    else if (choice < 29) this.#branch();
    else if (choice < 30) this.#skip();
    else if (choice < 31) this.#loop();
    else if (this.#callees.length > 0) this.#call(this.#pick(this.#callees));
  }

  #arithmetic(): void {
    const row = this.#pick(ARITHMETIC);
    const changes = row.dst === 'readwrite';
    const dst = changes ? this.#freeNumber() : this.#pick(this.#state.free());
    const src = row.source === 'reg' ? this.#number() : 0;
    this.code.emit(row.name, { dst, src, imm: this.#operand(row) });
    this.#state.set(dst, 'number');
  }

  /** An immediate. Linux refuses shifts by too much and divisions by 0, so they are rare. */
  #operand({ op, bits }: Row): number {
    const rare = this.random(50) === 0;
    if (/sh$/.test(op) && !rare) return this.random(bits);
    const imm = this.#immediate();
    return /div|mod/.test(op) && imm === 0 && !rare ? -1 : imm;
  }

  #load(): void {
    const row = this.#pick(LOADS);
    const { base, off } = this.#place(row.size, 1);
    const dst = this.#pick(this.#state.free());
    this.code.emit(row.name, { dst, src: base, off });
    this.#state.set(dst, 'number');
  }

  #store(): void {
    const row = this.#pick(STORES);
    const src = row.source === 'reg' ? this.#number() : 0;
    const { base, off } = this.#place(row.size, 1);
    this.code.emit(row.name, { dst: base, src, off, imm: this.#immediate() });
  }

  #atomic(): void {
    const row = this.#pick(ATOMICS);
    if (row.op === 'load_acquire') {
      const { base, off } = this.#place(row.size, row.size);
      const dst = this.#pick(this.#state.free());
      this.code.emit(row.name, { dst, src: base, off });
      this.#state.set(dst, 'number');
      return;
    }
    const src = row.src === 'readwrite' ? this.#freeNumber() : this.#number();
    if (row.op === 'cmpxchg') {
      if (!this.#state.free().includes(0)) return;
      if (this.#state.get(0) !== 'number') this.#constant(0);
    }
    const { base, off } = this.#place(row.size, row.size);
    // Half of the comparisons find what they compare with; of 32 bits, whatever is above them.
    if (row.op === 'cmpxchg' && this.random(2))
      this.code.emit(row.size === 8 ? 'ldxdw' : 'ldxsw', { dst: 0, src: base, off });
    this.code.emit(row.name, { dst: base, src, off });
  }

  #constant(dst: number): void {
    if (this.random(2)) this.code.emit('lddw', { dst, value: this.#value() });
    else this.code.emit('mov64.imm', { dst, imm: this.#immediate() });
    this.#state.set(dst, 'number');
  }

  /** dst = a pointer; where another register has a number already, a block may rely on that, so it is left alone. */
  #point(dst: number): void {
    if (this.#depth > 0 && this.#state.get(dst) === 'number') return;
    const from = this.#state.pointers();
    if (from.length > MAX_POINTERS) return;
    if (from.length > 0 && this.random(2)) {
      const source = this.#pick(from);
      this.code.emit('mov64.reg', { dst, src: source });
      this.#state.set(dst, this.#state.get(source));
    } else if (this.random(4) > 0) {
      this.code.emit('ldxdw', { dst, src: FP, off: -8 });
      this.#state.set(dst, { kind: 'pointer', bytes: this.memoryBytes, at: 0 });
    } else {
      this.code.emit('mov64.reg', { dst, src: FP });
      this.code.emit('add64.imm', { dst, imm: this.#data });
      this.#state.set(dst, { kind: 'pointer', bytes: DATA_BYTES, at: 0 });
    }
    if (this.random(2)) this.#move(dst);
  }

  /** Moves a pointer by a constant, even far out of its memory. */
  #move(register: number): void {
    const { bytes, at } = this.#state.get(register) as Pointer;
    const by = [this.random(bytes), 8 * this.random(bytes / 8), -this.random(128), 127, 128, -32000, 32000][
      this.random(7)
    ]!;
    if (Math.abs(at + by) > 32700 - bytes) return;
    // Linux takes no subtraction from a pointer to the stack.
    if (bytes !== DATA_BYTES && this.random(2)) this.code.emit('sub64.imm', { dst: register, imm: -by });
    else this.code.emit('add64.imm', { dst: register, imm: by });
    this.#state.set(register, { kind: 'pointer', bytes, at: at + by });
  }

  /** An access at an offset that is known only at run time. */
  #index(): void {
    const candidates = this.#state.free().filter((register) => typeof this.#state.get(register) !== 'object');
    const pointers = this.#state
      .pointers()
      .map((register) => [register, this.#state.get(register) as Pointer] as const);
    const inside = pointers.filter(([, { bytes, at }]) => at >= 0 && at + 16 <= bytes);
    if (candidates.length < 2 || inside.length === 0) return;
    const [from, { bytes, at }] = this.#pick(inside);
    const register = this.#pick(candidates);
    const offset = this.#pick(candidates.filter((other) => other !== register));
    const row = this.#pick([...LOADS, ...STORES]);
    if (this.#state.get(offset) !== 'number') this.#constant(offset);
    const room = 2 ** Math.floor(Math.log2(bytes - at - 8)) - 1;
    const end: Label = {};
    if (this.random(2))
      this.code.emit(this.random(2) ? 'and64.imm' : 'and32.imm', { dst: offset, imm: room });
    else {
      // Both ways lead on with a number in the register.
      this.#constant(register);
      this.code.emit('jgt64.imm', { dst: offset, imm: bytes - at - 8 }, end);
    }
    this.code.emit('mov64.reg', { dst: register, src: from });
    this.code.emit('add64.reg', { dst: register, src: offset });
    if (row.kind === 'store')
      this.code.emit(row.name, { dst: register, src: offset, imm: this.#immediate() });
    const load = row.kind === 'load' ? row : this.#pick(LOADS);
    this.code.emit(load.name, { dst: register, src: register, off: this.random(9 - load.size) });
    this.#state.set(register, 'number');
    this.code.bind(end);
  }

  /** if, or if and else, on numbers. */
  #branch(): void {
    if (this.#depth >= MAX_DEPTH) return;
    const row = this.#pick(JUMPS);
    const otherwise: Label = {};
    const end: Label = {};
    const src = row.source === 'reg' ? this.#number() : 0;
    const dst = this.random(3) ? this.#number() : this.#freeNumber();
    // Numbers that have been worked on are seldom those at which comparisons change their ways.
    if (this.random(3) === 0 && this.#state.free().includes(dst)) this.#constant(dst);
    this.code.emit(row.name, { dst, src, imm: this.#immediate() }, otherwise);
    this.#block(undefined, 1 + this.random(4));
    if (this.random(2)) {
      this.code.emit(this.random(2) ? 'ja' : 'gotol', {}, end);
      this.code.bind(otherwise);
      this.#block(undefined, 1 + this.random(4));
    } else {
      this.code.bind(otherwise);
    }
    this.code.bind(end);
  }

  /** A jump over code that another jump leads into, so that none is unreachable. */
  #skip(): void {
    const [back, there, end]: [Label, Label, Label] = [{}, {}, {}];
    this.code.emit('ja', {}, there);
    this.code.bind(back);
    this.#arithmetic();
    this.code.emit(this.random(2) ? 'ja' : 'gotol', {}, end);
    this.code.bind(there);
    this.code.emit(this.random(2) ? 'ja' : 'gotol', {}, back);
    this.code.bind(end);
  }

  #loop(): void {
    const turns = 1 + this.random(4);
    const counters = this.#state.free().filter((register) => register >= 6);
    if (this.#depth >= MAX_DEPTH || this.#runs * turns > MAX_RUNS || counters.length === 0) return;
    const counter = this.#pick(counters);
    const { first, step, back, end } = this.#pick(LOOPS);
    const again: Label = {};
    const bits = this.random(2) ? 64 : 32;
    this.code.emit(`mov${bits}.imm`, { dst: counter, imm: first });
    this.#state.set(counter, 'number');
    this.code.bind(again);
    this.#runs *= turns;
    this.#block(counter, 1 + this.random(5));
    this.#runs /= turns;
    this.code.emit(`add${bits}.imm`, { dst: counter, imm: step });
    this.code.emit(`${back}${bits}.imm`, { dst: counter, imm: end(turns) }, again);
  }

  #block(counter: number | undefined, steps: number): void {
    this.#depth++;
    this.#state.block(
      counter,
      () => this.#steps(steps),
      (register) => this.#constant(register),
    );
    this.#depth--;
  }

  #call(callee: Routine): void {
    if (!this.#state.mayCall || callee.runs + this.#runs > MAX_RUNS) return;
    callee.runs += this.#runs;
    for (let register = callee.args; register >= 2; register--) {
      this.code.emit('mov64.reg', { dst: register, src: this.#number() });
      this.#state.set(register, 'number');
    }
    if (callee.takesStack) {
      this.code.emit('mov64.reg', { dst: 3, src: FP });
      this.code.emit('add64.imm', { dst: 3, imm: this.#data });
    }
    this.code.emit('ldxdw', { dst: 1, src: FP, off: -8 });
    this.code.emit('call.local', {}, callee.label);
    for (let register = 1; register <= 5; register++) this.#state.set(register, 'empty');
    this.#state.set(0, 'number');
  }

  #callHelper(): void {
    if (!this.#state.mayCall) return;
    const [id, { args }] = this.#pick(Object.entries(HELPERS));
    const registers = [...args.entries()].map(([i, arg]) => ({ register: i + 1, arg })).reverse();
    for (const { register, arg } of registers) {
      if (arg.kind !== 'scalar') continue;
      this.code.emit('mov64.reg', { dst: register, src: this.#number() });
      this.#state.set(register, 'number');
    }
    for (const { register, arg } of registers)
      if (arg.kind === 'memory') this.#pointAnew(register, arg.bytes);
    this.code.emit('call.helper', { imm: Number(id) });
    for (let register = 1; register <= 5; register++) this.#state.set(register, 'empty');
    this.#state.set(0, 'number');
  }

  /** dst = the address of `size` bytes, in the memory or on the stack. */
  #pointAnew(dst: number, size: number): void {
    const onStack = this.random(2) === 0;
    if (onStack) this.code.emit('mov64.reg', { dst, src: FP });
    else this.code.emit('ldxdw', { dst, src: FP, off: -8 });
    const room = (onStack ? DATA_BYTES : this.memoryBytes) - size;
    this.code.emit('add64.imm', { dst, imm: (onStack ? this.#data : 0) + this.random(room + 1) });
  }

  /** Where `size` bytes may be accessed at a multiple of `least`: a pointer at hand, or the stack. */
  #place(size: number, least: number): { base: number; off: number } {
    const pointers = this.#state.pointers();
    const base = this.random(4) === 0 || pointers.length === 0 ? FP : this.#pick(pointers);
    const { bytes, at } =
      base === FP ? { bytes: DATA_BYTES, at: -this.#data } : (this.#state.get(base) as Pointer);
    // Linux wants accesses to the stack aligned, so others are rare.
    const alignment = bytes === DATA_BYTES && this.random(40) > 0 ? size : least;
    const last = Math.floor((bytes - size) / alignment);
    return { base, off: alignment * this.#pick([0, last, this.random(last + 1)]) - at };
  }

  /** A register that holds a number, made so if there is none. */
  #number(): number {
    const numbers = this.#state.numbers();
    return numbers.length > 0 ? this.#pick(numbers) : this.#freeNumber();
  }

  #freeNumber(): number {
    const free = this.#state.free();
    const numbers = free.filter((register) => this.#state.get(register) === 'number');
    if (numbers.length > 0) return this.#pick(numbers);
    const register = this.#pick(free);
    this.#constant(register);
    return register;
  }

  #immediate(): number {
    return this.random(3) ? this.#pick(IMMEDIATES) : Number(BigInt.asIntN(32, randomBits(this.random, 32)));
  }

  #value(): bigint {
    return this.random(3) ? this.#pick(VALUES) : randomBits(this.random, 64);
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.random(from.length)]!;
  }
}
