// Columns from records a fixed stride apart: a step of records at a time by vectors, and what is left of them one by one in
// general registers.

import type { ColumnSpec } from '../../format/column.js';
import type { Lifted } from '../lift.js';
import { type BulkCode, COLUMN_STATE, type Tier } from '../target.js';
import { Assembler } from './assemble.js';
import { type ColumnPlan, planColumn } from './column-plan.js';
import { ColumnVectors, element, INDEX, SRC, STATE } from './column-vectors.js';
import { fetch } from './fetch.js';
import { type Bits, type Memory, memory, R9, R11, RAX, RCX, RDX, register } from './operands.js';
import { codeWithConstants } from './own-code.js';

/** More are spread from whole records. */
const MOST_COLUMNS = 64;
/** Farther apart, sixteen records are not in reach of an instruction. */
const MOST_STRIDE_BYTES = 2 ** 24;

const LEFT = R9;
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
  const code = codeWithConstants(asm, 'column loop');
  return { code, overread };
}

const word = (name: keyof typeof COLUMN_STATE): Memory => memory(64, STATE, COLUMN_STATE[name] * 8);

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
