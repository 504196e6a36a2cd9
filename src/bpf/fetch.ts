// Bits of the packed record into a register, touching no byte outside the record.

import { largestSize, SIZES, type Size } from '../format/model.js';
import { onesAt } from '../halves.js';
import type { Builder } from './build.js';

const SRC = 2;

export interface Run {
  /** First bit: the lowest, in lsb0 numbering; or with `bigEndian` the highest, in msb0 numbering. */
  readonly at: number;
  readonly bits: number;
  readonly bigEndian: boolean;
  /** Whether the bits above are sign-extended. */
  readonly signed: boolean;
  /** Whether the bits above must be cleared (or extended); otherwise they may hold anything. */
  readonly exact: boolean;
}

/** One load of a little-endian word. */
export function fetchWord(asm: Builder, size: Size, byte: number, into: number): void {
  asm.load(size, into, SRC, byte);
}

/** The bits, right-aligned. */
export function fetchBits(asm: Builder, run: Run, packedBytes: number, into: number, spare: number): void {
  const window = chooseWindow(run, packedBytes);
  if (window) fetchFromWindow(asm, run, window, into);
  else fetchInParts(asm, run, into, spare);
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
function chooseWindow({ at, bits, bigEndian }: Run, packedBytes: number): Window | undefined {
  let best: Window | undefined;
  let least = MOST_OPERATIONS + 1;
  for (const size of SIZES) {
    const first = Math.max(0, ((at + bits + 7) >> 3) - size);
    const last = Math.min(at >> 3, packedBytes - size);
    for (let byte = first; byte <= last; byte++) {
      const before = at - byte * 8;
      const behind = size * 8 - before - bits;
      const operations = (before > 0 ? 1 : 0) + (behind > 0 ? 1 : 0);
      if (operations >= least) continue;
      least = operations;
      best = { byte, size, below: bigEndian ? behind : before, above: bigEndian ? before : behind };
      if (operations === 0) return best;
    }
  }
  return best;
}

/** A shift and a mask. */
const MOST_OPERATIONS = 2;

function fetchFromWindow(
  asm: Builder,
  { bits, bigEndian, signed, exact }: Run,
  { byte, size, below, above }: Window,
  into: number,
): void {
  if (signed && below === 0 && above === 0 && !bigEndian && size < 8) {
    asm.loadSigned(size, into, SRC, byte);
    return;
  }
  fetchWord(asm, size, byte, into);
  if (bigEndian) turnRound(asm, size, into);
  if (signed) {
    extractSigned(asm, into, bits, size * 8 - above);
  } else if (above > 0 && exact && bits > 32) {
    asm.immediate('lsh64.imm', into, 64 - bits - below).immediate('rsh64.imm', into, 64 - bits);
  } else {
    if (below > 0) asm.immediate('rsh64.imm', into, below);
    if (above > 0 && exact) asm.immediate('and32.imm', into, onesAt(bits, 0).low);
  }
}

function turnRound(asm: Builder, size: Size, register: number): void {
  if (size === 8) asm.register('be64', register);
  else if (size === 4) asm.register('be32', register);
  else if (size === 2) asm.register('be16', register);
}

/** Moves the `bits` bits that end below bit `end` to the top and back, copying the sign. */
function extractSigned(asm: Builder, register: number, bits: number, end: number): void {
  if (end < 64) asm.immediate('lsh64.imm', register, 64 - end);
  if (bits < 64) asm.immediate('arsh64.imm', register, 64 - bits);
}

/** For bits that no one load holds: nine bytes, or the end of a short record. Loads that meet, shifted together. */
function fetchInParts(
  asm: Builder,
  { at, bits, bigEndian, signed, exact }: Run,
  into: number,
  spare: number,
): void {
  const first = at >> 3;
  const end = (at + bits + 7) >> 3;
  // The lowest part comes first: for big-endian bits it is the last in memory.
  const below = bigEndian ? end * 8 - at - bits : at - first * 8;
  // Bytes, counted from the least significant one, widest loads first.
  for (let done = 0; done < end - first; ) {
    const size = largestSize(end - first - done);
    const register = done === 0 ? into : spare;
    fetchWord(asm, size, bigEndian ? end - done - size : first + done, register);
    if (bigEndian) turnRound(asm, size, register);
    const left = done * 8 - below;
    if (left > 0) asm.immediate('lsh64.imm', register, left);
    else if (left < 0) asm.immediate('rsh64.imm', register, -left);
    if (done > 0) asm.register('or64.reg', into, spare);
    done += size;
  }
  if (signed) extractSigned(asm, into, bits, bits);
  else if (exact && bits < 64)
    asm.immediate('lsh64.imm', into, 64 - bits).immediate('rsh64.imm', into, 64 - bits);
}
