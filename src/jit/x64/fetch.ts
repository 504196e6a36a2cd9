// A run of bits of the input into a register: the load that leaves least to do, then a shift, a mask, or two shifts.
//
// Bits are numbered as in one great number, whose lowest byte is the input's first one (little-endian runs) or last
// one (big-endian runs).

import { SIZES, type Size } from '../../format/model.js';
import { bigintOf, type Halves, onesAt, signedImmediate } from '../../halves.js';
import type { Assembler } from './assemble.js';
import { type Bits, type Memory, memory, register } from './operands.js';

/** Where the input is. */
export interface Source {
  /** The register that holds its address. */
  readonly base: number;
  readonly bytes: number;
}

export interface Run {
  readonly bigEndian: boolean;
  readonly from: number;
  readonly bits: number;
  /** The run's lowest bit in the register. */
  readonly to: number;
  /** Whether the bits above are copies of the topmost; otherwise they are 0. */
  readonly signed: boolean;
  /** Whether the bits above may be anything. */
  readonly dirty: boolean;
  /** The bits of the register that are wanted; the others are 0. Undefined for all of the run. */
  readonly mask: Halves | undefined;
}

/** Bytes `byte` … `byte + size - 1` of the number. */
interface Window {
  readonly byte: number;
  readonly size: Size;
}

/**
 * Puts a run into `registers[0]`; those that follow may be used as well.
 * @param wide width of the value that is made, 64 where it can exceed 32 bits
 */
export function fetch(
  asm: Assembler,
  source: Source,
  run: Run,
  wide: 32 | 64,
  registers: readonly number[],
): void {
  const window = bestWindow(run, wide, source.bytes);
  if (window) fetchByWindow(asm, source, run, wide, registers, window);
  else fetchInParts(asm, source, run, wide, registers);
}

/** How the bits of a window become the run. */
type Method =
  | 'shift' // to its place
  | 'shift, mask'
  | 'left, right' // to the top and back
  | 'right, left' // to the bottom and back
  | 'right, mask, left'
  | 'left, right, left';

// What takes a step costs more than a byte of code.
const STEP = 16;

/** 32-bit operations have no prefix. */
const widthFor = (run: Run, wide: 32 | 64, size: Size): 32 | 64 =>
  wide === 64 && (run.signed || run.to + run.bits > 32) ? 64 : size === 8 ? 64 : 32;

/** Whether two shifts do what a shift and a mask of 32 bits would. */
function shiftsAreShorter({ to, bits }: Run, low: number, highClean: boolean): boolean {
  return maskBytes(to + bits, to) > 3 && low > 0 && (to === 0 || (highClean && low !== to));
}

/** @param low, high bits of the window below and above the run */
function methodFor(run: Run, low: number, high: number): Method {
  const { to, bits, mask, dirty, signed } = run;
  if (signed) return to > 0 ? 'left, right, left' : 'left, right';
  if (mask !== undefined) return 'shift, mask';
  const lowClean = to === 0 || low === 0;
  const highClean = dirty || high === 0;
  if (lowClean && highClean) return 'shift';
  if (to + bits <= 32 && !shiftsAreShorter(run, low, highClean)) return 'shift, mask';
  if (highClean) return 'right, left';
  if (to === 0) return 'left, right';
  return bits <= 32 ? 'right, mask, left' : 'left, right, left';
}

/** Whether the run is what one sign-extending load brings. */
const isSignedCell = ({ signed, bigEndian }: Run, size: Size, low: number, high: number): boolean =>
  signed && size < 8 && low === 0 && high === 0 && (size === 1 || !bigEndian);

function costOf(run: Run, wide: 32 | 64, size: Size, low: number, high: number): number {
  const { bigEndian, to, bits } = run;
  const width = widthFor(run, wide, size);
  const rex = width === 64 ? 1 : 0;
  const shift = STEP + 3 + rex;
  const load = STEP + (size < 4 ? 4 : size === 4 ? 3 : 4);
  const swap = bigEndian && size > 1 ? STEP + (size === 2 ? 4 : 2 + rex) : 0;
  if (isSignedCell(run, size, low, high)) return load + (to > 0 ? shift : 0);
  const moved = low === to ? 0 : shift;
  switch (methodFor(run, low, high)) {
    case 'shift':
      return load + swap + moved;
    case 'shift, mask':
      return load + swap + moved + STEP + maskBytes(run.mask === undefined ? to + bits : 32, to);
    case 'left, right':
      return load + swap + (low + bits < width ? shift : 0) + shift;
    case 'right, left':
      return load + swap + 2 * shift;
    case 'right, mask, left':
      return load + swap + (low > 0 ? shift : 0) + STEP + maskBytes(bits, 0) + shift;
    case 'left, right, left':
      return load + swap + 3 * shift;
  }
}

const maskBytes = (end: number, to: number): number => {
  if (to === 0 && (end === 8 || end === 16)) return 3;
  if (to === 0 && end === 32) return 2;
  return end < 8 ? 3 : 5;
};

function bestWindow(run: Run, wide: 32 | 64, bytes: number): Window | undefined {
  const { from, bits, to } = run;
  const first = from >> 3;
  const end = (from + bits + 7) >> 3;
  let best: Window | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const size of SIZES) {
    // Windows that begin with the run, end with it, or have it in place, as far as there is room.
    for (let place = 0; place < 3; place++) {
      const byte =
        place === 0 ? Math.min(first, bytes - size) : place === 1 ? Math.max(end - size, 0) : (from - to) / 8;
      if (byte < 0 || byte > first || byte + size < end || byte + size > bytes || !Number.isInteger(byte))
        continue;
      const cost = costOf(run, wide, size, from - byte * 8, (byte + size) * 8 - from - bits);
      if (cost >= least) continue;
      best = { byte, size };
      least = cost;
    }
  }
  return best;
}

const cellOf = ({ base, bytes }: Source, bigEndian: boolean, { byte, size }: Window): Memory =>
  memory((size * 8) as Bits, base, bigEndian ? bytes - byte - size : byte);

function loadSigned(
  asm: Assembler,
  source: Source,
  bigEndian: boolean,
  window: Window,
  number: number,
  wide: 32 | 64,
): void {
  const cell = cellOf(source, bigEndian, window);
  if (window.size === 4) asm.emit('movsxd', register(number), cell);
  else asm.emit('movsx', register(number, wide), cell);
}

function load(asm: Assembler, source: Source, bigEndian: boolean, window: Window, number: number): void {
  const { size } = window;
  const bits = (size * 8) as Bits;
  const cell = cellOf(source, bigEndian, window);
  if (size < 4) asm.emit('movzx', register(number, 32), cell);
  else asm.emit('mov', register(number, bits), cell);
  if (!bigEndian || size === 1) return;
  if (size === 2) asm.emit('rol', register(number, 16), 8);
  else asm.emit('bswap', register(number, bits));
}

function fetchByWindow(
  asm: Assembler,
  source: Source,
  run: Run,
  wide: 32 | 64,
  registers: readonly number[],
  window: Window,
): void {
  const { from, bits, to, signed, bigEndian } = run;
  const { byte, size } = window;
  const number = registers[0]!;
  const low = from - byte * 8;
  const high = (byte + size) * 8 - from - bits;
  const width = widthFor(run, wide, size);
  if (isSignedCell(run, size, low, high)) {
    loadSigned(asm, source, bigEndian, window, number, wide);
    shift(asm, 'shl', number, wide, to);
    return;
  }
  load(asm, source, bigEndian, window, number);
  switch (methodFor(run, low, high)) {
    case 'shift':
      move(asm, number, width, to - low);
      break;
    case 'shift, mask':
      move(asm, number, width, to - low);
      mask(asm, registers, run.mask ?? onesAt(bits, to));
      break;
    case 'right, mask, left':
      shift(asm, 'shr', number, size === 8 ? 64 : 32, low);
      mask(asm, registers, onesAt(bits, 0));
      shift(asm, 'shl', number, width, to);
      break;
    case 'left, right':
      shift(asm, 'shl', number, width, width - low - bits);
      shift(asm, signed ? 'sar' : 'shr', number, width, width - bits);
      break;
    case 'right, left':
      shift(asm, 'shr', number, width, low);
      shift(asm, 'shl', number, width, to);
      break;
    case 'left, right, left':
      shift(asm, 'shl', number, width, width - low - bits);
      shift(asm, signed ? 'sar' : 'shr', number, width, width - bits);
      shift(asm, 'shl', number, width, to);
      break;
  }
}

function shift(
  asm: Assembler,
  mnemonic: 'shl' | 'shr' | 'sar',
  number: number,
  width: 32 | 64,
  count: number,
): void {
  if (count > 0) asm.emit(mnemonic, register(number, width), count);
}

const move = (asm: Assembler, number: number, width: 32 | 64, left: number): void =>
  left > 0 ? shift(asm, 'shl', number, width, left) : shift(asm, 'shr', number, width, -left);

/** Clears what is not wanted. */
function mask(asm: Assembler, registers: readonly number[], wanted: Halves): void {
  const [number, spare] = registers as [number, number];
  const low = register(number, 32);
  if (wanted.high === 0) {
    if (wanted.low === -1) asm.emit('mov', low, low);
    else if (wanted.low === 0xff) asm.emit('movzx', low, register(number, 8));
    else if (wanted.low === 0xffff) asm.emit('movzx', low, register(number, 16));
    else asm.emit('and', low, wanted.low >>> 0);
    return;
  }
  const immediate = signedImmediate(wanted);
  if (immediate !== undefined) {
    asm.emit('and', register(number), immediate);
  } else {
    asm.loadImmediate(spare, bigintOf(wanted));
    asm.emit('and', register(number), register(spare));
  }
}

/** A run that no load holds, as one of nine bytes, or of three at the end of a short input: its low part and the rest. */
function fetchInParts(
  asm: Assembler,
  source: Source,
  run: Run,
  wide: 32 | 64,
  registers: readonly number[],
): void {
  const { from, bits, to } = run;
  const [number, ...others] = registers as [number, number, ...number[]];
  const byte = Math.floor(from / 8);
  const size = SIZES.findLast(
    (candidate) => byte + candidate <= source.bytes && (byte + candidate) * 8 < from + bits,
  )!;
  const low = (byte + size) * 8 - from;
  const part = { ...run, mask: undefined };
  fetch(asm, source, { ...part, bits: low, signed: false, dirty: false }, wide, registers);
  fetch(asm, source, { ...part, from: from + low, bits: bits - low, to: to + low }, wide, others);
  asm.emit('or', register(number, wide), register(others[0]!, wide));
  if (run.mask !== undefined) mask(asm, registers, run.mask);
}
