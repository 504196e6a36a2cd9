// One record in AVX2, as a piece of straight-line code for the loops in bulk.ts: chunks of 32 bytes in ymm registers, what
// is left of the record in smaller ones; by AVX-512 VBMI where that takes fewer instructions. Constants are loaded before
// the loop as far as there are registers.

import type { Assembler } from './assemble.js';
import type { LineTerm } from './line-terms.js';
import { Masked, MaskRegister, Memory, memory, type Register, type VectorBits, vector } from './operands.js';
import { keyOf, type Part, type RecordPlan, serves } from './record-plan.js';
import type { Chunk } from './vector-plan.js';
import type { Load, Term } from './vector-terms.js';

/** Memory of `bits` bits, `offset` bytes into a record. */
export type Place = (bits: 8 | 16 | 32 | 64 | VectorBits, offset: number) => Memory;

const VECTOR_REGISTERS = 16;
/** As many loads are kept in registers; where there are more, each term loads anew. */
const MOST_LOADS = 4;

interface Constant {
  readonly at: number;
  readonly register: number | undefined;
}

export class VectorRecord {
  readonly #asm: Assembler;
  readonly #plan: RecordPlan;
  /** General register with the address of the constants. */
  readonly #base: number;
  readonly #constants = new Map<string, Constant>();
  /** The mask register of each of the plan's masks. */
  readonly #masks = new Map<string, number>();
  readonly #keeps: boolean;

  constructor(asm: Assembler, plan: RecordPlan, base: number) {
    this.#asm = asm;
    this.#plan = plan;
    this.#base = base;
    this.#keeps = plan.loads.length <= MOST_LOADS;
  }

  /** Loads the constants; before the loop. */
  prepare(): void {
    const asm = this.#asm;
    asm.address(this.#base, asm.constants);
    let free = this.#spare + 1;
    for (const { chunk, terms, bits } of this.#plan.parts) {
      for (const value of [
        ...terms.flatMap(constantsOf),
        chunk.flip,
        ...chunk.adds.map((add) => add.value),
      ]) {
        const key = value && keyOf(value, bits);
        if (!key || this.#constants.has(key)) continue;
        const register = free < VECTOR_REGISTERS ? free++ : undefined;
        const at = asm.constant(padded(value, bits));
        this.#constants.set(key, { at, register });
        if (register !== undefined) asm.emit('vmovdqu', vector(register, bits), memory(bits, this.#base, at));
      }
    }
    for (const mask of this.#plan.masks) {
      const number = this.#masks.size + 1;
      this.#masks.set(keyOf(mask, 64), number);
      asm.emit('kmovq', new MaskRegister(number), memory(64, this.#base, asm.constant(padded(mask, 64))));
    }
  }

  /** Unpacks one record. */
  emit(source: Place, target: Place): void {
    if (this.#keeps)
      for (const [register, load] of this.#plan.loads.entries()) this.#load(register, load, source);
    for (const part of this.#plan.parts) this.#part(part, source, target);
  }

  /** Where a chunk is put together; behind the registers that hold loads. */
  get #result(): number {
    return this.#keeps ? this.#plan.loads.length : 1;
  }

  get #temporary(): number {
    return this.#result + 1;
  }

  /** For a constant that has to be in a register. */
  get #spare(): number {
    return this.#temporary + (this.#plan.byVbmi ? 1 : 0);
  }

  #load(register: number, { from: [low, high], bytes }: Load, source: Place): void {
    const asm = this.#asm;
    const [xmm, ymm] = [vector(register, 128), vector(register, 256)];
    if (bytes === 8) {
      if (high === undefined) asm.emit('vmovq', xmm, source(64, low));
      else asm.emit('vpbroadcastq', ymm, source(64, low));
    } else if (high === low) {
      asm.emit('vbroadcasti128', ymm, source(128, low));
    } else {
      asm.emit('vmovdqu', xmm, source(128, low));
      if (high !== undefined) asm.emit('vinserti128', ymm, ymm, source(128, high), 1);
    }
  }

  #part({ chunk, terms, bits }: Part, source: Place, target: Place): void {
    const asm = this.#asm;
    const result = vector(this.#result, bits);
    let value: Register | undefined;
    for (const term of terms) {
      const into = value ? vector(this.#temporary, bits) : result;
      if ('load' in term) this.#term(term, into, source);
      else this.#permute(term, into, source);
      if (value) asm.emit('vpor', result, result, into);
      value = result;
    }
    const combine = (mnemonic: string, constant: Uint8Array) => {
      const operand = this.#constant(constant, bits);
      if (value) asm.emit(mnemonic, result, value, operand);
      else if (operand instanceof Memory) asm.emit('vmovdqu', result, operand);
      value = value || operand instanceof Memory ? result : operand;
    };
    if (chunk.flip) combine('vpxor', chunk.flip);
    for (const add of chunk.adds) combine(ADD[add.bits], add.value);
    if (!value) asm.emit('vpxor', result, result, result);
    store(asm, chunk, value ?? result, target);
  }

  #term({ load, shuffle, right, left, mask }: Term, into: Register, source: Place): void {
    const asm = this.#asm;
    const { bits } = into;
    const kept = this.#plan.loads.findIndex((other) => serves(other, load));
    if (!this.#keeps) this.#load(0, load, source);
    const from = vector(this.#keeps ? kept : 0, bits as VectorBits);
    asm.emit('vpshufb', into, from, this.#constant(shuffle, bits));
    if (right) asm.emit('vpsrlvq', into, into, this.#constant(right, bits));
    if (left) asm.emit('vpsllvq', into, into, this.#constant(left, bits));
    if (mask) asm.emit('vpand', into, into, this.#constant(mask, bits));
  }

  #permute({ windows, permute, multishift, mask }: LineTerm, into: Register, source: Place): void {
    const asm = this.#asm;
    const bits = into.bits as VectorBits;
    const index = this.#inRegister(permute, bits);
    windows.forEach(({ from, takes }, i) => {
      const all = i === 0 && mask !== undefined;
      const taken = () => this.#masks.get(keyOf(takes, 64))!;
      const to = all ? into : new Masked(into, taken(), i === 0 ? 'clear' : 'keep');
      asm.emit('vpermb', to, index, this.#plan.loads.length > 0 ? vector(0, bits) : source(bits, from));
    });
    if (multishift) asm.emit('vpmultishiftqb', into, this.#inRegister(multishift, bits), into);
    if (mask) asm.emit('vpand', into, into, this.#constant(mask, bits));
  }

  #inRegister(value: Uint8Array, bits: VectorBits): Register {
    const constant = this.#constant(value, bits);
    if (!(constant instanceof Memory)) return constant;
    this.#asm.emit('vmovdqu', vector(this.#spare, bits), constant);
    return vector(this.#spare, bits);
  }

  #constant(value: Uint8Array, bits: number): Register | Memory {
    const { at, register } = this.#constants.get(keyOf(value, bits))!;
    const width = bits as VectorBits;
    return register === undefined ? memory(width, this.#base, at) : vector(register, width);
  }
}

/** Those that have to be in registers come first. */
const constantsOf = (term: Term | LineTerm): (Uint8Array | undefined)[] =>
  'load' in term
    ? [term.shuffle, term.right, term.left, term.mask]
    : [term.permute, term.multishift, term.mask];

export const ADD = { 8: 'vpaddb', 16: 'vpaddw', 32: 'vpaddd', 64: 'vpaddq' } as const;

/** What is behind the value is not stored. */
function padded(value: Uint8Array, bits: number): Uint8Array {
  const bytes = new Uint8Array(bits / 8);
  bytes.set(value);
  return bytes;
}

function store(asm: Assembler, { byte, bytes }: Chunk, from: Register, target: Place): void {
  if (bytes === 32) asm.emit('vmovdqu', target(256, byte), from);
  else if (bytes === 16) asm.emit('vmovdqu', target(128, byte), from);
  else if (bytes === 8) asm.emit('vmovq', target(64, byte), from);
  else if (bytes === 4) asm.emit('vmovd', target(32, byte), from);
  else if (bytes === 2) asm.emit('vpextrw', target(16, byte), from, 0);
  else asm.emit('vpextrb', target(8, byte), from, 0);
}

/** Copies the 40 bytes of an unpacked key by way of registers that hold no constants. */
export function copyKey(asm: Assembler, source: Place, target: Place): void {
  for (const byte of [0, 16]) {
    asm.emit('vmovdqu', vector(0, 128), source(128, byte));
    asm.emit('vmovdqu', target(128, byte), vector(0, 128));
  }
  asm.emit('vmovq', vector(0, 128), source(64, 32));
  asm.emit('vmovq', target(64, 32), vector(0, 128));
}
