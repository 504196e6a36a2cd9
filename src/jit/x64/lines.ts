// Records a fixed stride apart, by AVX-512 VBMI: as many records as fill whole cache lines of output are one step, and
// each line is computed and stored at once, whatever records it belongs to. For records of 40 bytes that is 8 in 5 lines.

import type { Lifted } from '../lift.js';
import { type BulkCode, LINE_STATE, STRIDE_STATE } from '../target.js';
import { move } from './abi.js';
import { Assembler, type Label } from './assemble.js';
import { type Line, LineCode } from './line-code.js';
import { LINE_BYTES, lineTerms } from './line-terms.js';
import { memory, R8, R9, R10, R11, RAX, RCX, RDI, RDX, RSI, RSP, register } from './operands.js';
import { codeWithConstants } from './own-code.js';
import { chunkOf, fitsInto, isWhole, repeated } from './vector-plan.js';

/** More do not fit into registers, and are no faster than record by record. */
const MOST_LINES = 8;
const MOST_WINDOWS = 3;
/** Farther apart, no two records share a window. */
const MOST_STRIDE_BYTES = 1024;

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
  const code = codeWithConstants(asm, 'line loop');
  return { code, overread: plan.overread };
}

const [STATE, ENTRY, DST, SRC, REST] = [RDI, RSI, RDX, RCX, R8] as const;
const [STEPS, CONSTANTS, WORK] = [R9, R11, RAX] as const;
/** On the stack: the stride loop's state. */
const FRAME_BYTES = 40;

class LineLoop {
  readonly #asm: Assembler;
  readonly #plan: LinesPlan;
  readonly #code: LineCode;

  constructor(asm: Assembler, plan: LinesPlan) {
    this.#asm = asm;
    this.#plan = plan;
    this.#code = new LineCode(asm, plan.lines, CONSTANTS);
  }

  emit(): void {
    const asm = this.#asm;
    const [done, streaming] = [asm.label(), asm.label()];
    asm.emit('sub', register(RSP), FRAME_BYTES);
    this.#head();
    this.#countSteps();
    asm.jump('je', done);
    this.#code.prepare();
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

  #loop(store: 'vmovdqu64' | 'vmovntdq'): void {
    const asm = this.#asm;
    const { lines, records, stride } = this.#plan;
    const next: Label = asm.label();
    asm.bind(next);
    for (const line of lines) {
      asm.emit(store, memory(512, DST, line.chunk.byte), this.#code.line(line, SRC));
    }
    asm.emit('add', register(SRC), records * stride);
    asm.emit('add', register(DST), lines.length * LINE_BYTES);
    asm.emit('sub', register(STEPS), 1);
    asm.jump('jne', next);
  }
}

/** The number whose product with an odd `value` is 1 modulo a power of two. */
function inverse(value: number, modulus: number): number {
  let result = 1;
  while ((result * value) % modulus !== 1 % modulus) result += 2;
  return result;
}
