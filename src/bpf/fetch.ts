// Bits of the packed record into a register, touching no byte outside the record.

import { SIZES, type Size } from '../format/model.js';
import type { Builder } from './build.js';
import { SIZE_LETTER } from './isa.js';

const SRC = 2;

export interface Fetch {
  /** First bit: the lowest, in lsb0 numbering; or with `bigEndian` the highest, in msb0 numbering. */
  readonly at: number;
  readonly bits: number;
  readonly bigEndian?: boolean;
  /** Whether the bits above are sign-extended. */
  readonly signed?: boolean;
  /** Whether the bits above must be cleared (or extended); otherwise they may hold anything. */
  readonly exact: boolean;
  readonly packedBytes: number;
  readonly into: number;
  readonly spare: number;
}

/** One load of a little-endian word. */
export function fetchWord(
  asm: Builder,
  { size, byte, into }: { size: Size; byte: number; into: number },
): void {
  asm.emit(`ldx${SIZE_LETTER[size]}`, { dst: into, src: SRC, off: byte });
}

/** The bits, right-aligned. */
export function fetchBits(asm: Builder, bits: Fetch): void {
  const window = chooseWindow(bits);
  if (window) fetchFromWindow(asm, bits, window);
  else fetchInParts(asm, bits);
}

interface Window {
  readonly byte: number;
  readonly size: Size;
  /** Bits of the window below the wanted ones. */
  readonly below: number;
  /** Bits of the window above the wanted ones. */
  readonly above: number;
}

/** The load that holds all the bits and leaves the fewest operations to do; the narrowest of these. */
function chooseWindow({ at, bits, bigEndian, packedBytes }: Fetch): Window | undefined {
  let best: Window | undefined;
  for (const size of SIZES) {
    const first = Math.max(0, ((at + bits + 7) >> 3) - size);
    const last = Math.min(at >> 3, packedBytes - size);
    for (let byte = first; byte <= last; byte++) {
      const before = at - byte * 8;
      const behind = size * 8 - before - bits;
      const window = { byte, size, below: bigEndian ? behind : before, above: bigEndian ? before : behind };
      if (!best || operations(window) < operations(best)) best = window;
    }
  }
  return best;
}

const operations = ({ below, above }: Window): number => (below > 0 ? 1 : 0) + (above > 0 ? 1 : 0);

function fetchFromWindow(
  asm: Builder,
  { bits, bigEndian, signed, exact, into }: Fetch,
  window: Window,
): void {
  const { byte, size, below, above } = window;
  const whole = below === 0 && above === 0;
  if (signed && whole && !bigEndian && size < 8) {
    asm.emit(`ldxs${SIZE_LETTER[size]}`, { dst: into, src: SRC, off: byte });
    return;
  }
  fetchWord(asm, { size, byte, into });
  if (bigEndian && size > 1) asm.emit(`be${size * 8}`, { dst: into });
  if (signed) {
    extractSigned(asm, into, bits, size * 8 - above);
    return;
  }
  if (above > 0 && exact && bits > 32) {
    asm
      .emit('lsh64.imm', { dst: into, imm: 64 - bits - below })
      .emit('rsh64.imm', { dst: into, imm: 64 - bits });
    return;
  }
  if (below > 0) asm.emit('rsh64.imm', { dst: into, imm: below });
  if (above > 0 && exact)
    asm.emit('and32.imm', { dst: into, imm: Number(BigInt.asIntN(32, (1n << BigInt(bits)) - 1n)) });
}

/** Moves the `bits` bits that end below bit `end` to the top and back, copying the sign. */
function extractSigned(asm: Builder, register: number, bits: number, end: number): void {
  if (end < 64) asm.emit('lsh64.imm', { dst: register, imm: 64 - end });
  if (bits < 64) asm.emit('arsh64.imm', { dst: register, imm: 64 - bits });
}

/** For bits that no one load holds: nine bytes, or the end of a short record. Loads that meet, shifted together. */
function fetchInParts(asm: Builder, { at, bits, bigEndian, signed, exact, into, spare }: Fetch): void {
  const first = at >> 3;
  const end = (at + bits + 7) >> 3;
  // The lowest part comes first: for big-endian bits it is the last in memory.
  const below = bigEndian ? end * 8 - at - bits : at - first * 8;
  let done = 0; // bytes, counted from the least significant one
  for (const size of partSizes(end - first)) {
    const byte = bigEndian ? end - done - size : first + done;
    const register = done === 0 ? into : spare;
    fetchWord(asm, { size, byte, into: register });
    if (bigEndian && size > 1) asm.emit(`be${size * 8}`, { dst: register });
    const left = done * 8 - below;
    if (left > 0) asm.emit('lsh64.imm', { dst: register, imm: left });
    else if (left < 0) asm.emit('rsh64.imm', { dst: register, imm: -left });
    if (done > 0) asm.emit('or64.reg', { dst: into, src: spare });
    done += size;
  }
  if (signed) extractSigned(asm, into, bits, bits);
  else if (exact && bits < 64)
    asm.emit('lsh64.imm', { dst: into, imm: 64 - bits }).emit('rsh64.imm', { dst: into, imm: 64 - bits });
}

/** 3 to 9 bytes as loads, widest first. */
function partSizes(bytes: number): Size[] {
  const sizes: Size[] = [];
  for (let rest = bytes; rest > 0; rest -= sizes.at(-1)!) sizes.push(SIZES.findLast((size) => size <= rest)!);
  return sizes;
}
