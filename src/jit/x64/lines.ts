// Records a fixed stride apart, by AVX-512 VBMI: as many records as fill whole cache lines of output are one step, and
// each line is computed and stored at once, whatever records it belongs to. For records of 40 bytes that is 8 in 5 lines.

import type { Lifted } from '../lift.js';
import { type BulkCode, LINE_STATE, makeCode, STRIDE_STATE } from '../target.js';
import { move } from './abi.js';
import { Assembler, CONSTANTS_ALIGNMENT, type Label } from './assemble.js';
import { LINE_BYTES, type LineTerm, lineTerms } from './line-terms.js';
import {
  Masked,
  MaskRegister,
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
  type Register,
  RSI,
  RSP,
  register,
  vector,
} from './operands.js';
import { type Chunk, chunkOf, fitsInto, isWhole, repeated } from './vector-plan.js';
import { ADD } from './vector-record.js';

/** More do not fit into registers, and are no faster than record by record. */
const MOST_LINES = 8;
const MOST_WINDOWS = 3;
const MASK_REGISTERS = [1, 2, 3, 4, 5, 6];
const SPARE_MASK = 7;
const ZMM_REGISTERS = 32;
/** What a line and its terms are put together in, and a constant that no register is left for. */
const TEMPORARIES = 3;
/** Farther apart, no two records share a window. */
const MOST_STRIDE_BYTES = 1024;

interface Line {
  readonly chunk: Chunk;
  readonly terms: readonly LineTerm[];
}

interface LinesPlan {
  readonly lines: readonly Line[];
  /** Records in a step. */
  readonly records: number;
  readonly outputBytes: number;
  readonly stride: number;
  readonly overread: number;
}

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));

function planLines(lifted: Lifted, stride: number): LinesPlan | undefined {
  const outputBytes = lifted.output.bytes;
  if (outputBytes === 0 || stride > MOST_STRIDE_BYTES || !isWhole(lifted)) return undefined;
  const records = LINE_BYTES / gcd(outputBytes, LINE_BYTES);
  const count = (outputBytes * records) / LINE_BYTES;
  if (count > MOST_LINES) return undefined;
  const spans = Array.from({ length: count }, (_, i) => ({ byte: i * LINE_BYTES, bytes: LINE_BYTES }));
  const pieces = repeated(lifted, records, stride);
  if (!pieces.every((piece) => fitsInto(piece, spans))) return undefined;
  const end = (records - 1) * stride + lifted.input.bytes;
  const lines = spans.map((span): Line => {
    const chunk = chunkOf(pieces, span);
    return { chunk, terms: lineTerms(chunk, end) };
  });
  const terms = lines.flatMap((line) => line.terms);
  if (terms.length > 2 * count || terms.some(({ windows }) => windows.length > MOST_WINDOWS))
    return undefined;
  const reach = Math.max(0, ...terms.flatMap(({ windows }) => windows.map(({ from }) => from + LINE_BYTES)));
  return { lines, records, outputBytes, stride, overread: Math.max(0, reach - end) };
}

/**
 * `u64 loop(u64 *state, void *entry, u8 *dst, const u8 *src, void *rest)`: unpacks state.count records `stride` bytes apart.
 * state: LINE_STATE. The records before the first whole line of `dst` and behind the last one go by
 * `state.vector(stride state, entry, dst, src, rest)`, the vector loop of bulk.ts, of which state.slow are its slow ones.
 * Lines are stored past the caches if state.streaming is not 0 and `dst` can be brought to a multiple of 64.
 * @returns undefined for records that do not lend themselves to it
 */
export function lineStrideLoop(lifted: Lifted, stride: number): BulkCode | undefined {
  const plan = planLines(lifted, stride);
  if (!plan) return undefined;
  const asm = new Assembler();
  new LineLoop(asm, plan).emit();
  const code = makeCode({
    isa: 'x64',
    bytes: asm.finish().bytes,
    offsets: [],
    abi: undefined,
    alignment: CONSTANTS_ALIGNMENT,
    name: 'line loop',
  });
  return { code, overread: plan.overread };
}

const [STATE, ENTRY, DST, SRC, REST] = [RDI, RSI, RDX, RCX, R8] as const;
const [STEPS, CONSTANTS, WORK] = [R9, R11, RAX] as const;
/** On the stack: the stride loop's state. */
const FRAME_BYTES = 40;

class LineLoop {
  readonly #asm: Assembler;
  readonly #plan: LinesPlan;
  readonly #constants = new Map<string, { readonly at: number; readonly register: number | undefined }>();
  readonly #masks = new Map<string, { readonly at: number; readonly register: number | undefined }>();

  constructor(asm: Assembler, plan: LinesPlan) {
    this.#asm = asm;
    this.#plan = plan;
  }

  emit(): void {
    const asm = this.#asm;
    const [done, streaming] = [asm.label(), asm.label()];
    asm.emit('sub', register(RSP), FRAME_BYTES);
    this.#head();
    this.#countSteps();
    asm.jump('je', done);
    this.#prepare();
    const [plain, stored] = [asm.label(), asm.label()];
    asm.emit('cmp', memory(64, STATE, LINE_STATE.streaming * 8), 0);
    asm.jump('jne', streaming);
    asm.bind(plain);
    this.#loop('vmovdqu64');
    asm.bind(stored);
    asm.emit('vzeroupper');
    asm.bind(done);
    this.#tail();
    asm.bind(streaming);
    asm.emit('test', register(DST, 32), LINE_BYTES - 1);
    asm.jump('jne', plain);
    this.#loop('vmovntdq');
    asm.emit('sfence');
    asm.jump('jmp', stored);
  }

  /** Records before the first whole line, if whole records can bring `dst` there. */
  #head(): void {
    const asm = this.#asm;
    const { outputBytes, records, stride } = this.#plan;
    const unit = LINE_BYTES / records;
    const aligned = asm.label();
    const word = (name: keyof typeof STRIDE_STATE) => memory(64, RSP, STRIDE_STATE[name] * 8);
    asm.emit('mov', register(WORK), memory(64, STATE, LINE_STATE.stride * 8));
    asm.emit('mov', word('stride'), register(WORK));
    asm.emit('mov', word('count'), 0);
    if (unit > 1) {
      asm.emit('test', register(DST, 32), unit - 1);
      asm.jump('jne', aligned);
    }
    asm.emit('mov', register(WORK, 32), register(DST, 32));
    asm.emit('neg', register(WORK, 32));
    if (unit > 1) asm.emit('shr', register(WORK, 32), Math.log2(unit));
    asm.emit('imul', register(WORK, 32), register(WORK, 32), inverse(outputBytes / unit, records));
    asm.emit('and', register(WORK, 32), records - 1);
    asm.jump('je', aligned);
    asm.emit('mov', word('fast'), register(WORK));
    asm.emit('sub', memory(64, STATE, LINE_STATE.count * 8), register(WORK));
    for (const number of [STATE, ENTRY, DST, SRC, REST, WORK]) asm.emit('push', register(number));
    asm.emit('mov', register(R10), memory(64, STATE, LINE_STATE.vector * 8));
    asm.emit('lea', register(STATE), memory(64, RSP, 6 * 8));
    asm.emit('call', register(R10));
    for (const number of [WORK, REST, SRC, DST, ENTRY, STATE]) asm.emit('pop', register(number));
    asm.emit('imul', register(R10), register(WORK), outputBytes);
    asm.emit('add', register(DST), register(R10));
    asm.emit('imul', register(R10), register(WORK), stride);
    asm.emit('add', register(SRC), register(R10));
    asm.bind(aligned);
  }

  /** Leaves the zero flag set if there are none. */
  #countSteps(): void {
    const asm = this.#asm;
    const few = asm.label();
    asm.emit('mov', register(WORK), memory(64, STATE, LINE_STATE.count * 8));
    asm.emit('xor', register(STEPS, 32), register(STEPS, 32));
    asm.emit('mov', register(R10), memory(64, STATE, LINE_STATE.late * 8));
    asm.emit('sub', register(WORK), register(R10));
    asm.jump('jb', few);
    move(asm, STEPS, WORK);
    if (this.#plan.records > 1) asm.emit('shr', register(STEPS), Math.log2(this.#plan.records));
    asm.emit('imul', register(WORK), register(STEPS), this.#plan.records);
    asm.emit('sub', memory(64, STATE, LINE_STATE.count * 8), register(WORK));
    asm.bind(few);
    asm.emit('test', register(STEPS), register(STEPS));
  }

  /** What is left goes by the vector loop; in place of this one, so the state is copied to where the caller has it. */
  #tail(): void {
    const asm = this.#asm;
    const enough = asm.label();
    asm.emit('mov', register(WORK), memory(64, STATE, LINE_STATE.count * 8));
    asm.emit('mov', register(R9), memory(64, STATE, LINE_STATE.slow * 8));
    asm.emit('sub', register(WORK), register(R9));
    asm.jump('jae', enough);
    asm.emit('add', register(R9), register(WORK));
    asm.emit('xor', register(WORK, 32), register(WORK, 32));
    asm.bind(enough);
    asm.emit('mov', register(R10), memory(64, STATE, LINE_STATE.vector * 8));
    asm.emit('mov', register(R11), memory(64, STATE, LINE_STATE.stride * 8));
    asm.emit('mov', memory(64, STATE, STRIDE_STATE.fast * 8), register(WORK));
    asm.emit('mov', memory(64, STATE, STRIDE_STATE.count * 8), register(R9));
    asm.emit('mov', memory(64, STATE, STRIDE_STATE.stride * 8), register(R11));
    asm.emit('add', register(RSP), FRAME_BYTES);
    asm.emit('jmp', register(R10));
  }

  #prepare(): void {
    const asm = this.#asm;
    asm.address(CONSTANTS, asm.constants);
    let free = TEMPORARIES;
    const masks = [...MASK_REGISTERS];
    for (const value of constantsOf(this.#plan)) {
      const key = keyOf(value);
      if (this.#constants.has(key)) continue;
      const at = asm.constant(value);
      const number = free < ZMM_REGISTERS ? free++ : undefined;
      this.#constants.set(key, { at, register: number });
      if (number !== undefined) asm.emit('vmovdqu64', vector(number, 512), memory(512, CONSTANTS, at));
    }
    for (const value of masksOf(this.#plan)) {
      const key = keyOf(value);
      if (this.#masks.has(key)) continue;
      const at = asm.constant(value);
      const number = masks.shift();
      this.#masks.set(key, { at, register: number });
      if (number !== undefined) asm.emit('kmovq', new MaskRegister(number), memory(64, CONSTANTS, at));
    }
  }

  #loop(store: 'vmovdqu64' | 'vmovntdq'): void {
    const asm = this.#asm;
    const { lines, records, stride } = this.#plan;
    const next: Label = asm.label();
    asm.bind(next);
    for (const line of lines) {
      asm.emit(store, memory(512, DST, line.chunk.byte), this.#line(line));
    }
    asm.emit('add', register(SRC), records * stride);
    asm.emit('add', register(DST), lines.length * LINE_BYTES);
    asm.emit('sub', register(STEPS), 1);
    asm.jump('jne', next);
  }

  #line({ chunk, terms }: Line): Register {
    const asm = this.#asm;
    const result = vector(0, 512);
    const temporary = vector(1, 512);
    let value: Register | undefined;
    for (const term of terms) {
      const into = value ? temporary : result;
      this.#term(term, into);
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

  #term({ windows, permute, multishift, mask }: LineTerm, into: Register): void {
    const asm = this.#asm;
    const index = this.#inRegister(permute);
    windows.forEach(({ from, takes }, i) => {
      const source = memory(512, SRC, from);
      const all = i === 0 && mask !== undefined;
      if (all) asm.emit('vpermb', into, index, source);
      else asm.emit('vpermb', new Masked(into, this.#mask(takes), i === 0 ? 'clear' : 'keep'), index, source);
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
    return number === undefined ? memory(512, CONSTANTS, at) : vector(number, 512);
  }

  #mask(value: Uint8Array): number {
    const { at, register: number } = this.#masks.get(keyOf(value))!;
    if (number !== undefined) return number;
    this.#asm.emit('kmovq', new MaskRegister(SPARE_MASK), memory(64, CONSTANTS, at));
    return SPARE_MASK;
  }
}

const keyOf = (value: Uint8Array): string => Buffer.from(value).toString('hex');

/** Those that have to be in registers come first. */
function constantsOf({ lines }: LinesPlan): Uint8Array[] {
  const terms = lines.flatMap((line) => line.terms);
  return [
    ...terms.flatMap(({ permute, multishift }) => [permute, multishift]),
    ...terms.map(({ mask }) => mask),
    ...lines.flatMap(({ chunk }) => [chunk.flip, ...chunk.adds.map(({ value }) => value)]),
  ].filter((value) => value !== undefined);
}

const masksOf = ({ lines }: LinesPlan): Uint8Array[] =>
  lines.flatMap(({ terms }) =>
    terms.flatMap(({ windows, mask }) => windows.slice(mask ? 1 : 0).map(({ takes }) => takes)),
  );

/** The number whose product with an odd `value` is 1 modulo a power of two. */
function inverse(value: number, modulus: number): number {
  let result = 1;
  while ((result * value) % modulus !== 1 % modulus) result += 2;
  return result;
}
