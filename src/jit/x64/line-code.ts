// The code of lines: 64 bytes of output each, computed from windows of 64 bytes of the input (line-terms.ts). Constants are kept
// in registers as far as there are some.

import type { Assembler } from './assemble.js';
import type { LineTerm } from './line-terms.js';
import { Masked, MaskRegister, Memory, memory, type Register, vector } from './operands.js';
import type { Chunk } from './vector-plan.js';
import { ADD } from './vector-record.js';

const MASK_REGISTERS = [1, 2, 3, 4, 5, 6];
const SPARE_MASK = 7;
const ZMM_REGISTERS = 32;
/** What a line and its terms are put together in, and a constant that no register is left for. */
const TEMPORARIES = 3;

export interface Line {
  readonly chunk: Chunk;
  readonly terms: readonly LineTerm[];
}

interface Constant {
  readonly at: number;
  readonly register: number | undefined;
}

export class LineCode {
  readonly #asm: Assembler;
  readonly #lines: readonly Line[];
  readonly #base: number;
  readonly #constants = new Map<string, Constant>();
  readonly #masks = new Map<string, Constant>();

  /** @param base general register for the address of the constants */
  constructor(asm: Assembler, lines: readonly Line[], base: number) {
    this.#asm = asm;
    this.#lines = lines;
    this.#base = base;
  }

  /** Loads the constants, before the loop. */
  prepare(): void {
    const asm = this.#asm;
    asm.address(this.#base, asm.constants);
    let next = TEMPORARIES;
    const masks = [...MASK_REGISTERS];
    for (const value of constantsOf(this.#lines)) {
      const key = keyOf(value);
      if (this.#constants.has(key)) continue;
      const at = asm.constant(value);
      const number = next < ZMM_REGISTERS ? next++ : undefined;
      this.#constants.set(key, { at, register: number });
      if (number !== undefined) asm.emit('vmovdqu64', vector(number, 512), memory(512, this.#base, at));
    }
    for (const value of masksOf(this.#lines)) {
      const key = keyOf(value);
      if (this.#masks.has(key)) continue;
      const at = asm.constant(value);
      const number = masks.shift();
      this.#masks.set(key, { at, register: number });
      if (number !== undefined) asm.emit('kmovq', new MaskRegister(number), memory(64, this.#base, at));
    }
  }

  /** Computes a line from the input at the address in general register `source`. */
  line({ chunk, terms }: Line, source: number): Register {
    const asm = this.#asm;
    const result = vector(0, 512);
    const temporary = vector(1, 512);
    let value: Register | undefined;
    for (const term of terms) {
      const into = value ? temporary : result;
      this.#term(term, into, source);
      if (value) asm.emit('vporq', result, result, into);
      value = result;
    }
    const combine = (mnemonic: string, constant: Uint8Array) => {
      const operand = this.#constant(constant);
      if (value) asm.emit(mnemonic, result, value, operand);
      else if (operand instanceof Memory) asm.emit('vmovdqu64', result, operand);
      value = value || operand instanceof Memory ? result : operand;
    };
    if (chunk.flip) combine('vpxorq', chunk.flip);
    for (const add of chunk.adds) combine(ADD[add.bits], add.value);
    if (!value) asm.emit('vpxorq', result, result, result);
    return value ?? result;
  }

  #term({ windows, permute, multishift, mask }: LineTerm, into: Register, source: number): void {
    const asm = this.#asm;
    const index = this.#inRegister(permute);
    windows.forEach(({ from, takes }, i) => {
      const bytes = memory(512, source, from);
      const all = i === 0 && mask !== undefined;
      if (all) asm.emit('vpermb', into, index, bytes);
      else asm.emit('vpermb', new Masked(into, this.#mask(takes), i === 0 ? 'clear' : 'keep'), index, bytes);
    });
    if (multishift) asm.emit('vpmultishiftqb', into, this.#inRegister(multishift), into);
    if (mask) asm.emit('vpandq', into, into, this.#constant(mask));
  }

  #inRegister(value: Uint8Array): Register {
    const constant = this.#constant(value);
    if (!(constant instanceof Memory)) return constant;
    const spare = vector(2, 512);
    this.#asm.emit('vmovdqu64', spare, constant);
    return spare;
  }

  #constant(value: Uint8Array): Register | Memory {
    const { at, register: number } = this.#constants.get(keyOf(value))!;
    return number === undefined ? memory(512, this.#base, at) : vector(number, 512);
  }

  #mask(value: Uint8Array): number {
    const { at, register: number } = this.#masks.get(keyOf(value))!;
    if (number !== undefined) return number;
    this.#asm.emit('kmovq', new MaskRegister(SPARE_MASK), memory(64, this.#base, at));
    return SPARE_MASK;
  }
}

const keyOf = (value: Uint8Array): string => Buffer.from(value).toString('hex');

/** Those that have to be in registers come first. */
function constantsOf(lines: readonly Line[]): Uint8Array[] {
  const terms = lines.flatMap((line) => line.terms);
  return [
    ...terms.flatMap(({ permute, multishift }) => [permute, multishift]),
    ...terms.map(({ mask }) => mask),
    ...lines.flatMap(({ chunk }) => [chunk.flip, ...chunk.adds.map(({ value }) => value)]),
  ].filter((value) => value !== undefined);
}

const masksOf = (lines: readonly Line[]): Uint8Array[] =>
  lines.flatMap(({ terms }) =>
    terms.flatMap(({ windows, mask }) => windows.slice(mask ? 1 : 0).map(({ takes }) => takes)),
  );
