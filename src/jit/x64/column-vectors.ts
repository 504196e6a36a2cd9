// Whole steps of records as columns, by vectors: planes are made where a column first wants them, and kept while there is room.

import { COLUMN_STATE } from '../target.js';
import type { Assembler } from './assemble.js';
import { Avx2Lanes, Avx512Lanes, BLOCK_BYTES, type Lanes, SPARE } from './column-lanes.js';
import { type ColumnPlan, type ColumnTerm, PLANE_BYTES, type Plane, termsOf } from './column-plan.js';
import { Memory, memory, R8, R10, R11, RDI, Register, RSI, register, vector } from './operands.js';
import { LANE_BITS } from './vector-plan.js';
import { ADD } from './vector-record.js';

/** General registers: the loop's state, the first record of the step, and how many records came before it. */
export const [STATE, SRC, INDEX] = [RDI, RSI, R8];
const [CONSTANTS, POINTER] = [R11, R10];

/** The next element of a column, `ahead` elements on. */
export function element(
  asm: Assembler,
  column: number,
  bytes: number,
  width: Memory['bits'],
  ahead = 0,
): Memory {
  asm.emit('mov', register(POINTER), memory(64, STATE, (COLUMN_STATE.columns + column) * 8));
  return new Memory(width, register(POINTER), ahead * bytes, register(INDEX), bytes as 1 | 2 | 4 | 8);
}

// Registers: two for a column's values, two for a term, SPARE, four for a block, then planes, and then constants.
const [LOW, HIGH, TERM, OTHER] = [0, 1, 2, 3];
const BLOCK = SPARE + 1;
const PLANES = BLOCK + 4;

export class ColumnVectors {
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
