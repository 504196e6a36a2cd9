// Columns from records a fixed stride apart: a step of records at a time by vectors, and what is left of them one by one in
// general registers.

import type { ColumnSpec } from '../../format/column.js';
import type { Lifted } from '../lift.js';
import { type BulkCode, COLUMN_STATE, makeCode, type Tier } from '../target.js';
import { Assembler, CONSTANTS_ALIGNMENT } from './assemble.js';
import { Avx2Lanes, Avx512Lanes, BLOCK_BYTES, type Lanes, SPARE } from './column-lanes.js';
import {
  type ColumnPlan,
  type ColumnTerm,
  PLANE_BYTES,
  type Plane,
  planColumn,
  termsOf,
} from './column-plan.js';
import { fetch } from './fetch.js';
import {
  type Bits,
  Memory,
  memory,
  R8,
  R9,
  R10,
  R11,
  RAX,
  RCX,
  RDI,
  RDX,
  Register,
  RSI,
  register,
  vector,
} from './operands.js';
import { LANE_BITS } from './vector-plan.js';
import { ADD } from './vector-record.js';

/** More are spread from whole records. */
const MOST_COLUMNS = 64;
/** Farther apart, sixteen records are not in reach of an instruction. */
const MOST_STRIDE_BYTES = 2 ** 24;

const [STATE, SRC, INDEX, LEFT, CONSTANTS, POINTER] = [RDI, RSI, R8, R9, R11, R10];
/** Of a record that goes by itself. */
const VALUE = [RAX, RDX, RCX, R11];

/**
 * `u64 loop(u64 *state, const u8 *src)`: the columns of state.count records `stride` bytes apart, of which state.fast may be read with
 * `overread` bytes behind them. state: COLUMN_STATE, where each column has room for as many elements as there are records.
 * @returns undefined for columns that have no code of their own
 */
export function columnLoop(
  lifted: Lifted,
  specs: readonly ColumnSpec[],
  stride: number,
  tier: Tier,
): BulkCode | undefined {
  if (specs.length > MOST_COLUMNS || stride > MOST_STRIDE_BYTES) return undefined;
  const plans: ColumnPlan[] = [];
  for (const spec of specs) {
    const plan = planColumn(lifted, spec);
    if (!plan) return undefined;
    plans.push(plan);
  }
  const asm = new Assembler();
  asm.emit('xor', register(INDEX, 32), register(INDEX, 32));
  const overread = tier === 'scalar' ? 0 : vectorLoop(asm, plans, lifted.input.bytes, stride, tier);
  recordLoop(asm, plans, lifted.input.bytes, stride);
  const code = makeCode({
    isa: 'x64',
    bytes: asm.finish().bytes,
    offsets: [],
    abi: undefined,
    alignment: CONSTANTS_ALIGNMENT,
    name: 'column loop',
  });
  return { code, overread };
}

const word = (name: keyof typeof COLUMN_STATE): Memory => memory(64, STATE, COLUMN_STATE[name] * 8);

/** The next element of a column, `ahead` elements on. */
function element(asm: Assembler, column: number, bytes: number, width: Memory['bits'], ahead = 0): Memory {
  asm.emit('mov', register(POINTER), memory(64, STATE, (COLUMN_STATE.columns + column) * 8));
  return new Memory(width, register(POINTER), ahead * bytes, register(INDEX), bytes as 1 | 2 | 4 | 8);
}

/** The records from INDEX on. */
function recordLoop(asm: Assembler, plans: readonly ColumnPlan[], inputBytes: number, stride: number): void {
  const [next, done] = [asm.label(), asm.label()];
  asm.emit('mov', register(LEFT), word('count'));
  asm.emit('sub', register(LEFT), register(INDEX));
  asm.jump('je', done);
  asm.bind(next);
  plans.forEach((plan, column) => {
    makeValue(asm, plan, inputBytes);
    const bits = (plan.bytes * 8) as Bits;
    asm.emit('mov', element(asm, column, plan.bytes, bits), register(RAX, bits));
  });
  asm.emit('add', register(SRC), stride);
  asm.emit('add', register(INDEX), 1);
  asm.emit('sub', register(LEFT), 1);
  asm.jump('jne', next);
  asm.bind(done);
  asm.emit('xor', register(RAX, 32), register(RAX, 32));
  asm.emit('ret');
}

/** An element's value in rax; what lies above it may be anything. */
function makeValue(asm: Assembler, plan: ColumnPlan, inputBytes: number): void {
  const { bytes, runs, flip, plus, mask, sign } = plan;
  const wide = bytes === 8 ? 64 : 32;
  const [value, operand] = [register(RAX, wide), register(RDX, wide)];
  const source = { base: SRC, bytes: inputBytes };
  if (runs.length === 0) asm.loadImmediate(RAX, plus);
  runs.forEach((run, i) => {
    const whole = { ...run, signed: false, dirty: false, mask: undefined };
    fetch(asm, source, whole, wide, VALUE.slice(i === 0 ? 0 : 1));
    if (i > 0) asm.emit('or', value, operand);
  });
  if (runs.length === 0) return;
  const combine = (mnemonic: string, constant: bigint) => {
    asm.loadImmediate(RDX, constant);
    asm.emit(mnemonic, value, operand);
  };
  if (flip !== 0n) combine('xor', flip);
  if (plus !== 0n) combine('add', plus);
  if (mask !== undefined) combine('and', mask);
  if (sign === 0n) return;
  combine('xor', sign);
  combine('sub', sign);
}

/** Whole steps; returns how many bytes behind their last record are read. */
function vectorLoop(
  asm: Assembler,
  plans: readonly ColumnPlan[],
  inputBytes: number,
  stride: number,
  tier: 'avx2' | 'avx512',
): number {
  const loop = new ColumnVectors(asm, plans, inputBytes, stride, tier);
  const [next, prepare, done] = [asm.label(), asm.label(), asm.label()];
  asm.emit('mov', register(LEFT), word('fast'));
  asm.emit('shr', register(LEFT), Math.log2(loop.step));
  asm.jump('je', done);
  asm.jump('jmp', prepare);
  asm.bind(next);
  loop.emit();
  asm.emit('add', register(SRC), loop.step * stride);
  asm.emit('add', register(INDEX), loop.step);
  asm.emit('sub', register(LEFT), 1);
  asm.jump('jne', next);
  asm.emit('vzeroupper');
  asm.jump('jmp', done);
  // Which constants there are is known when everything else is.
  asm.bind(prepare);
  loop.prepare();
  asm.jump('jmp', next);
  asm.bind(done);
  return loop.overread;
}

// Registers: two for a column's values, two for a term, SPARE, four for a block, then planes, and then constants.
const [LOW, HIGH, TERM, OTHER] = [0, 1, 2, 3];
const BLOCK = SPARE + 1;
const PLANES = BLOCK + 4;

class ColumnVectors {
  readonly step: number;
  readonly overread: number;
  readonly #asm: Assembler;
  readonly #lanes: Lanes;
  readonly #plans: readonly ColumnPlan[];
  readonly #terms: readonly (readonly ColumnTerm[])[];
  /** First bytes of the blocks. */
  readonly #blocks: readonly number[];
  readonly #constants = new Map<string, { readonly at: number; readonly register: Register | undefined }>();
  #loaded: number | undefined;
  /** The planes in registers, the one that was used last at the end. */
  #kept: { readonly plane: Plane; readonly register: number }[] = [];

  constructor(
    asm: Assembler,
    plans: readonly ColumnPlan[],
    inputBytes: number,
    stride: number,
    tier: 'avx2' | 'avx512',
  ) {
    this.#asm = asm;
    this.#plans = plans;
    this.#terms = termsOf(plans, inputBytes);
    const planes = this.#terms.flat().map(({ plane }) => plane);
    const end = Math.max(0, ...planes.map(({ byte }) => byte + PLANE_BYTES));
    const records = { base: SRC, stride };
    const constant = (value: Uint8Array) => this.#constant(value);
    const wide = tier === 'avx512' ? new Avx512Lanes(asm, records, constant, end) : undefined;
    this.#lanes = wide ?? new Avx2Lanes(asm, records, constant);
    this.#blocks = wide?.isWhole ? [0] : blocksFor(planes, inputBytes);
    this.step = (2 * this.#lanes.bits) / LANE_BITS;
    const reach = planes.length === 0 ? 0 : Math.max(...this.#blocks.map((byte) => this.#lanes.reach(byte)));
    this.overread = Math.max(0, reach - (this.step - 1) * stride - inputBytes);
  }

  /** A step. Columns of one plane come together. */
  emit(): void {
    const first = (column: number) => this.#terms[column]![0]?.plane.byte ?? -1;
    const order = [...this.#plans.keys()].sort((a, b) => first(a) - first(b));
    for (const column of order) {
      if (this.#plans[column]!.bytes === 8) this.#wide(column);
      else this.#narrow(column);
    }
  }

  prepare(): void {
    const asm = this.#asm;
    asm.address(CONSTANTS, asm.constants);
    for (const { at, register } of this.#constants.values())
      if (register) asm.emit(this.#move, register, memory(this.#lanes.bits, CONSTANTS, at));
  }

  get #move(): string {
    return this.#lanes.bits === 512 ? 'vmovdqa64' : 'vmovdqu';
  }

  #wide(column: number): void {
    for (const group of [0, 1]) {
      let value: Register | undefined;
      for (const { plane, shift, wanted, exact } of this.#terms[column]!) {
        const into = value ? TERM : LOW;
        const from = this.#plane(plane) + group;
        let term = this.#vector(from);
        if (shift !== 0) {
          this.#lanes.shift(into, from, shift);
          term = this.#vector(into);
        }
        value = this.#joined(value, term, exact ? undefined : wanted, 8);
      }
      this.#store(column, this.#finished(column, value), group * (this.step / 2));
    }
  }

  #narrow(column: number): void {
    const bytes = this.#plans[column]!.bytes as 1 | 2 | 4;
    let value: Register | undefined;
    for (const { plane, shift, wanted, exact } of this.#terms[column]!) {
      const into = value ? OTHER : LOW;
      const from = this.#plane(plane);
      const at = shift / 8;
      const picks = Number.isInteger(at) && at >= 0 && this.#lanes.picks(bytes, at);
      if (picks) {
        this.#lanes.pick(into, [from, from + 1], bytes, at);
      } else {
        this.#lanes.shift(HIGH, from, shift);
        this.#lanes.shift(TERM, from + 1, shift);
        this.#lanes.pick(into, [HIGH, TERM], bytes, 0);
      }
      const clean = exact && !(picks && at + bytes > PLANE_BYTES);
      value = this.#joined(value, this.#vector(into), clean ? undefined : wanted, bytes);
    }
    this.#store(column, this.#finished(column, value), 0);
  }

  /** A value and a term of which only some bits are wanted. */
  #joined(
    value: Register | undefined,
    term: Register,
    mask: bigint | undefined,
    bytes: ColumnPlan['bytes'],
  ): Register {
    const { and, or } = this.#lanes.operations;
    let wanted = term;
    if (mask !== undefined) {
      wanted = this.#vector(value ? TERM : LOW);
      this.#asm.emit(and, wanted, term, this.#element(mask, bytes));
    }
    if (!value) return wanted;
    this.#asm.emit(or, this.#vector(LOW), value, wanted);
    return this.#vector(LOW);
  }

  #finished(column: number, terms: Register | undefined): Register {
    const asm = this.#asm;
    const { bytes, flip, plus, mask, sign } = this.#plans[column]!;
    const { and, xor } = this.#lanes.operations;
    const into = this.#vector(LOW);
    if (!terms) {
      const constant = this.#element(plus, bytes);
      if (constant instanceof Register && (constant.number < 16 || bytes === 8)) return constant;
      asm.emit(this.#move, into, constant);
      return into;
    }
    const bits = (bytes * 8) as keyof typeof ADD;
    let value = terms;
    const combine = (mnemonic: string, constant: bigint) => {
      asm.emit(mnemonic, into, value, this.#element(constant, bytes));
      value = into;
    };
    if (flip !== 0n) combine(xor, flip);
    if (plus !== 0n) combine(ADD[bits], plus);
    if (mask !== undefined) combine(and, mask);
    if (sign !== 0n) {
      combine(xor, sign);
      combine(ADD[bits], BigInt.asUintN(bits, -sign));
    }
    return value;
  }

  #store(column: number, { number }: Register, ahead: number): void {
    const { bytes } = this.#plans[column]!;
    const length = bytes === 8 ? this.#lanes.bits / 8 : this.step * bytes;
    const bits = (length * 8) as 64 | 128 | 256 | 512;
    const place = element(this.#asm, column, bytes, bits, ahead);
    const move = bits === 64 ? 'vmovq' : bits === 512 ? 'vmovdqu64' : 'vmovdqu';
    this.#asm.emit(move, place, vector(number, bits === 64 ? 128 : bits));
  }

  /** The first of the two registers that hold a plane. */
  #plane(plane: Plane): number {
    const is = (other: Plane) => other.byte === plane.byte && other.turned === plane.turned;
    const found = this.#kept.find((one) => is(one.plane));
    if (found) {
      this.#kept = [...this.#kept.filter((one) => one !== found), found];
      return found.register;
    }
    const isFull = this.#kept.length === this.#lanes.planes;
    const register = isFull ? this.#kept.shift()!.register : PLANES + 2 * this.#kept.length;
    const block = this.#blocks.findLast((byte) => byte <= plane.byte)!;
    const registers = [0, 1, 2, 3].map((i) => BLOCK + i);
    if (this.#loaded !== block) this.#lanes.load(registers, block);
    this.#loaded = block;
    for (const group of [0, 1]) this.#lanes.plane(register + group, group, registers, block, plane);
    this.#kept.push({ plane, register });
    return register;
  }

  #element(value: bigint, bytes: number): Register | Memory {
    return this.#constant(
      Uint8Array.from({ length: bytes }, (_, i) => Number((value >> BigInt(i * 8)) & 0xffn)),
    );
  }

  #constant(value: Uint8Array): Register | Memory {
    const { bits, planes, registers } = this.#lanes;
    const whole = Uint8Array.from({ length: bits / 8 }, (_, i) => value[i % value.length]!);
    const key = Buffer.from(whole).toString('hex');
    let known = this.#constants.get(key);
    if (!known) {
      const free = PLANES + 2 * planes + this.#constants.size;
      const register = free < registers ? this.#vector(free) : undefined;
      known = { at: this.#asm.constant(whole), register };
      this.#constants.set(key, known);
    }
    return known.register ?? memory(bits, CONSTANTS, known.at);
  }

  #vector = (number: number): Register => vector(number, this.#lanes.bits);
}

/** Blocks that have all planes, inside of the record where they can be. */
function blocksFor(planes: readonly Plane[], inputBytes: number): number[] {
  const blocks: number[] = [];
  const room = Math.max(0, inputBytes - BLOCK_BYTES);
  for (const { byte } of planes.toSorted((a, b) => a.byte - b.byte)) {
    const last = blocks.at(-1);
    if (last === undefined || byte + PLANE_BYTES > last + BLOCK_BYTES) blocks.push(Math.min(byte, room));
  }
  return blocks;
}
