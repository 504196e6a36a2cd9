// A run of bits of the packed record, in a register: the cheapest load that holds it, then shifts or a mask.

import { type BitOrder, SIZES, type Size } from '../format/model.js';
import type { Assembler } from '../jit/x64/assemble.js';
import { type Bits, memory, R8, R9, R10, R11, RAX, RCX, RDX, RSI, register } from '../jit/x64/operands.js';

/** Where values are made, in order: whoever works in one may use all that follow. */
export const WORK = [RAX, RCX, RDX, R8, R9, R10, R11] as const;

/** Bits `from` … `from + bits - 1` of the packed record read as one number. */
interface Run {
  readonly order: BitOrder;
  readonly from: number;
  readonly bits: number;
}

/** Bytes `byte` … `byte + bytes - 1` of that number. */
interface Window {
  readonly byte: number;
  readonly bytes: Size;
}

/** Loads part of the packed record into `WORK[work]`, zero-extended. */
export function loadWindow(
  asm: Assembler,
  work: number,
  order: BitOrder,
  { byte, bytes }: Window,
  packedBytes: number,
): void {
  const number = WORK[work]!;
  const bits = (bytes * 8) as Bits;
  const at = memory(bits, RSI, order === 'lsb0' ? byte : packedBytes - byte - bytes);
  if (bytes < 4) asm.emit('movzx', register(number, 32), at);
  else asm.emit('mov', register(number, bits), at);
  if (order === 'lsb0' || bytes === 1) return;
  if (bytes === 2) asm.emit('rol', register(number, 16), 8);
  else asm.emit('bswap', register(number, bits));
}

/**
 * Puts a run into `WORK[work]`. What lies above it is zero, unless `dirty` allows anything; never more of the record
 * is loaded than there is.
 */
export function extract(asm: Assembler, work: number, run: Run, dirty: boolean, packedBytes: number): void {
  const window = bestWindow(run, dirty, packedBytes);
  if (window) extractByWindow(asm, work, run, window, dirty, packedBytes);
  else extractInParts(asm, work, run, dirty, packedBytes);
}

function extractByWindow(
  asm: Assembler,
  work: number,
  run: Run,
  window: Window,
  dirty: boolean,
  packedBytes: number,
): void {
  const { shift, above } = placed(run, window);
  const wide = window.bytes === 8 ? 64 : 32;
  const value = register(WORK[work]!, wide);
  loadWindow(asm, work, run.order, window, packedBytes);
  if (!dirty && above > 0 && byShifts(run.bits, shift)) {
    asm.emit('shl', value, wide - shift - run.bits);
    asm.emit('shr', value, wide - run.bits);
  } else {
    if (shift > 0) asm.emit('shr', value, shift);
    if (!dirty && above > 0) keepLow(asm, work, run.bits);
  }
}

/** Whether two shifts are shorter than a shift and a mask. */
const byShifts = (bits: number, shift: number): boolean =>
  bits > 32 || (shift > 0 && bits > 8 && bits !== 16 && bits !== 32);

/** A run that no load holds, as one of nine bytes, or of three at the end of a short record: its low part and the rest. */
function extractInParts(asm: Assembler, work: number, run: Run, dirty: boolean, packedBytes: number): void {
  const { order, from, bits } = run;
  const byte = from >> 3;
  const bytes = SIZES.findLast((size) => byte + size <= packedBytes && (byte + size) * 8 < from + bits)!;
  const low = (byte + bytes) * 8 - from;
  extract(asm, work, { order, from, bits: low }, false, packedBytes);
  extract(asm, work + 1, { order, from: from + low, bits: bits - low }, dirty, packedBytes);
  asm.emit('shl', register(WORK[work + 1]!), low);
  asm.emit('or', register(WORK[work]!), register(WORK[work + 1]!));
}

/** Clears what lies above the low `bits` bits. */
export function keepLow(asm: Assembler, work: number, bits: number): void {
  const number = WORK[work]!;
  const low = register(number, 32);
  if (bits === 64) return;
  if (bits > 32) {
    asm.emit('shl', register(number), 64 - bits);
    asm.emit('shr', register(number), 64 - bits);
  } else if (bits === 32) {
    asm.emit('mov', low, low);
  } else if (bits === 8 || bits === 16) {
    asm.emit('movzx', low, register(number, bits));
  } else {
    asm.emit('and', low, 2 ** bits - 1);
  }
}

function placed({ from, bits }: Run, { byte, bytes }: Window): { shift: number; above: number } {
  return { shift: from - byte * 8, above: (byte + bytes) * 8 - from - bits };
}

function bestWindow(run: Run, dirty: boolean, packedBytes: number): Window | undefined {
  let best: Window | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const bytes of SIZES) {
    const first = Math.max(0, Math.ceil((run.from + run.bits) / 8) - bytes);
    const last = Math.min(run.from >> 3, packedBytes - bytes);
    for (let byte = first; byte <= last; byte++) {
      const cost = costOf(run, { byte, bytes }, dirty);
      if (cost < least) {
        best = { byte, bytes };
        least = cost;
      }
    }
  }
  return best;
}

/** Bytes of code that it takes to extract a run by way of a window. */
function costOf(run: Run, window: Window, dirty: boolean): number {
  const { shift, above } = placed(run, window);
  const rex = window.bytes === 8 ? 1 : 0;
  const load = window.bytes < 4 ? 4 : 3 + rex;
  const swap = run.order === 'lsb0' ? 0 : { 1: 0, 2: 4, 4: 2, 8: 3 }[window.bytes];
  const shifting = shift > 0 ? 3 + rex : 0;
  if (dirty || above === 0) return load + swap + shifting;
  if (byShifts(run.bits, shift)) return load + swap + 2 * (3 + rex);
  return load + swap + shifting + maskCost(run.bits);
}

function maskCost(bits: number): number {
  if (bits === 32) return 2;
  return bits === 16 || bits < 9 ? 3 : 5;
}
