// Format to x86-64 without BPF, as bcachefs once did it: a load, a shift or a mask, an addition and a store for each
// field; constants are stored directly.
//
//   rdi  unpacked record     rsi  packed record     rax  0 on return     no frame, no register saved

import { contractFor } from '../bpf/contract.js';
import { MAX_U64 } from '../bytes.js';
import { requireFormat } from '../format/define.js';
import { formatLabel } from '../format/label.js';
import { type Format, largestSize, SIZES } from '../format/model.js';
import { type MachineCode, makeCode } from '../jit/target.js';
import { Assembler, type Assembly } from '../jit/x64/assemble.js';
import { type Bits, memory, RAX, RDI, register } from '../jit/x64/operands.js';
import { extract, keepLow, loadWindow, WORK } from './extract.js';
import { isLane, joined, type Lane, maskOf } from './lane.js';
import { type Part, type SumPart, type Unit, unitsOf } from './plan.js';

export interface EmitOptions {
  /** For listings and profilers. Default: the format's label. */
  readonly name?: string;
}

/**
 * Machine code that unpacks a record of this format: `u64 f(u8 *unpacked, const u8 *packed)`, returning 0. It reads
 * nothing but `format.packedBytes` bytes and writes nothing but `format.unpackedBytes`.
 * @throws FormatError for what is no format
 */
export function emitNative(format: Format, options: EmitOptions = {}): MachineCode {
  requireFormat(format);
  return makeCode({
    isa: 'x64',
    bytes: assembleNative(format).bytes,
    offsets: [],
    abi: contractFor(format),
    name: options.name ?? (() => formatLabel(format)),
  });
}

/** The code of a format with what was meant by it. */
export function assembleNative(format: Format): Assembly {
  const asm = new Assembler();
  const units = joined(unitsOf(format), format.packedBytes);
  for (const unit of units.filter((unit) => !isConstant(unit))) emitUnit(asm, unit, format);
  asm.emit('xor', register(RAX, 32), register(RAX, 32));
  for (const run of constantRuns(units)) storeConstant(asm, run);
  asm.emit('ret');
  return asm.finish();
}

const isConstant = ({ parts }: Unit): boolean => parts.every(({ kind }) => kind === 'constant');

/** The bits of a unit that are known already. */
const constantOf = ({ byte, parts }: Unit): bigint =>
  parts.reduce(
    (sum, part) => (part.kind === 'constant' ? sum | (part.value << BigInt(part.at - byte * 8)) : sum),
    0n,
  );

function emitUnit(asm: Assembler, unit: Unit | Lane, format: Format): void {
  if (isLane(unit)) emitLane(asm, unit, format);
  else combine(asm, unit, format);
  orConstant(asm, constantOf(unit), unit.bytes > 4 ? 64 : 32);
  storeLow(asm, unit.byte, unit.bytes);
}

function emitLane(asm: Assembler, lane: Lane, { packedBytes }: Format): void {
  const { byte, bytes, parts, order, from } = lane;
  loadWindow(asm, 0, order, { byte: from, bytes }, packedBytes);
  const mask = maskOf(parts, byte);
  if (mask !== BigInt.asUintN(bytes * 8, MAX_U64)) asm.emit('and', register(RAX, 32), Number(mask));
  const sum = parts.find((part) => part.kind === 'sum');
  if (sum) asm.emit('add', register(RAX, 8), Number(sum.offset));
}

/** Makes each part in a register and puts them together in rax. */
function combine(asm: Assembler, { byte, bytes, parts }: Unit, format: Format): void {
  const made = parts.filter((part) => part.kind !== 'constant');
  made.forEach((part, i) => {
    const work = i === 0 ? 0 : 1;
    const low = part.at - byte * 8;
    const wide: Bits = bytes > 4 ? 64 : 32;
    // What lies above the unit's highest part is not stored.
    const dirty = low + part.width === bytes * 8;
    makePart(asm, work, part, dirty, format);
    if (low > 0) asm.emit('shl', register(WORK[work]!, wide), low);
    if (i > 0) asm.emit('or', register(RAX, wide), register(WORK[work]!, wide));
  });
}

function makePart(
  asm: Assembler,
  work: number,
  part: Exclude<Part, { kind: 'constant' }>,
  dirty: boolean,
  format: Format,
): void {
  if (part.kind === 'sum') makeSum(asm, work, part, dirty, format);
  else extract(asm, work, part, dirty && part.bits === part.width, format.packedBytes);
}

function makeSum(asm: Assembler, work: number, sum: SumPart, dirty: boolean, format: Format): void {
  const { bits, signed, offset, sumWidth, skip, width } = sum;
  const wide = sumBits(sum);
  const value = register(WORK[work]!, wide);
  extract(asm, work, sum, signed || bits === sumWidth, format.packedBytes);
  if (signed) extendSign(asm, work, bits, wide);
  addOffset(asm, work, BigInt.asIntN(Math.min(sumWidth, wide), offset), wide);
  if (skip > 0) asm.emit('shr', value, skip);
  if (!dirty) keepLow(asm, work, width);
}

/** 32 where the sum is taken modulo 2^32 or less, or stays below it. */
function sumBits({ bits, signed, offset, sumWidth, skip }: SumPart): 32 | 64 {
  const small = !signed && skip === 0 && offset + (1n << BigInt(bits)) <= 1n << 32n;
  return sumWidth <= 32 || small ? 32 : 64;
}

function extendSign(asm: Assembler, work: number, bits: number, wide: Bits): void {
  const value = register(WORK[work]!, wide);
  if (bits === 8 || bits === 16) asm.emit('movsx', value, register(WORK[work]!, bits));
  else if (bits === 32) asm.emit('movsxd', value, register(WORK[work]!, 32));
  else {
    asm.emit('shl', value, wide - bits);
    asm.emit('sar', value, wide - bits);
  }
}

function addOffset(asm: Assembler, work: number, offset: bigint, wide: Bits): void {
  const value = register(WORK[work]!, wide);
  if (offset === 0n) return;
  if (offset === BigInt.asIntN(32, offset)) {
    asm.emit('add', value, Number(offset));
  } else {
    asm.loadImmediate(WORK[work + 1]!, offset);
    asm.emit('add', value, register(WORK[work + 1]!, wide));
  }
}

function orConstant(asm: Assembler, constant: bigint, wide: Bits): void {
  const value = register(RAX, wide);
  const signed = BigInt.asIntN(wide, constant);
  if (constant === 0n) return;
  if (isImmediate(signed)) {
    asm.emit('or', value, Number(signed));
  } else {
    asm.loadImmediate(WORK[1], constant);
    asm.emit('or', value, register(WORK[1]));
  }
}

/** Stores the low bytes of rax, in the largest steps. */
function storeLow(asm: Assembler, byte: number, bytes: number): void {
  for (let done = 0; done < bytes; ) {
    const size = largestSize(bytes - done);
    const bits = (size * 8) as Bits;
    asm.emit('mov', memory(bits, RDI, byte + done), register(RAX, bits));
    done += size;
    if (done < bytes) asm.emit('shr', register(RAX), bits);
  }
}

interface ConstantRun {
  readonly byte: number;
  readonly bytes: number;
  readonly value: bigint;
}

// Enough to merge stores, and no long arithmetic for long padding.
const MAX_RUN_BYTES = 64;

/** Neighbouring units that are constant, as one. */
function constantRuns(units: readonly Unit[]): ConstantRun[] {
  const runs: ConstantRun[] = [];
  for (const unit of units.filter(isConstant)) {
    const last = runs.at(-1);
    const value = constantOf(unit);
    if (last && last.byte + last.bytes === unit.byte && last.bytes < MAX_RUN_BYTES) {
      const sum = last.value | (value << BigInt(last.bytes * 8));
      runs[runs.length - 1] = { byte: last.byte, bytes: last.bytes + unit.bytes, value: sum };
    } else {
      runs.push({ byte: unit.byte, bytes: unit.bytes, value });
    }
  }
  return runs;
}

/** Stores a constant in the largest steps; zeros come from rax, which holds the result 0. */
function storeConstant(asm: Assembler, { byte, bytes, value }: ConstantRun): void {
  for (let done = 0; done < bytes; ) {
    const rest = value >> BigInt(done * 8);
    const size = SIZES.findLast(
      (size) => size <= bytes - done && (size < 8 || isImmediate(BigInt.asUintN(64, rest))),
    )!;
    const bits = (size * 8) as Bits;
    const part = BigInt.asIntN(bits, rest);
    const cell = memory(bits, RDI, byte + done);
    asm.emit('mov', cell, part === 0n ? register(RAX, bits) : Number(part));
    done += size;
  }
}

/** Whether one store of 64 bits can carry a constant: its immediate has 32, sign-extended. */
function isImmediate(value: bigint): boolean {
  const signed = BigInt.asIntN(64, value);
  return signed === BigInt.asIntN(32, signed);
}
