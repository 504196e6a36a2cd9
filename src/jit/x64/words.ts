// What a lifted program stores, cut into words anew: pieces whose slices lie in the input as they lie in the output, and
// constants, are stored together; the header of a bcachefs key is one word.

import { SIZES, type Size, sizeFor } from '../../format/model.js';
import {
  type Halves,
  halvesOf,
  isZero,
  onesAt,
  or,
  overlaps,
  shiftLeft,
  signedImmediate,
  sumFits,
  truncate,
  ZERO,
} from '../../halves.js';
import type { Lifted, Piece, Slice } from '../lift.js';

/** Bytes to store, as in Piece, but for `low`. */
export interface Word {
  readonly byte: number;
  readonly size: Size;
  readonly slices: readonly Slice[];
  readonly signed: boolean;
  readonly plus: Halves;
  /** Added to the lowest byte alone, modulo 256. */
  readonly low: number;
  /** Whether the sum, without `low`, is below 2^32 or is only wanted modulo 2^32. */
  readonly narrow: boolean;
}

/** A piece with what decides whether it can share a word. */
interface Part {
  readonly byte: number;
  readonly end: number;
  readonly size: Size;
  readonly slices: readonly Slice[];
  readonly signed: boolean;
  readonly plus: Halves;
  /** By how many bits all its slices move; undefined if they differ. */
  readonly distance: number | undefined;
  /** Whether the sum cannot exceed the piece. */
  readonly contained: boolean;
  /** Whether each bit is a bit of a slice or of the constant, so that the piece can be cut. */
  readonly bitwise: boolean;
}

/** Words in the order of bytes, wide ones first, but naturally aligned where that takes no more of them. */
export function wordsOf({ pieces, input }: Lifted): Word[] {
  const parts: Part[] = [];
  for (const piece of pieces) appendParts(parts, piece);
  const words: Word[] = [];
  for (let i = 0, byte = 0; i < parts.length; ) {
    byte = Math.max(byte, parts[i]!.byte);
    const word = bestWord(parts, i, byte, input.bytes);
    words.push(word);
    byte += word.size;
    while (i < parts.length && parts[i]!.end <= byte) i++;
  }
  return words;
}

/** The bits that slices lie in. */
export function maskOf(slices: readonly Slice[]): Halves {
  if (slices.length === 1) return onesAt(slices[0]!.bits, slices[0]!.to);
  let mask = ZERO;
  for (const { bits, to } of slices) mask = or(mask, onesAt(bits, to));
  return mask;
}

function appendParts(parts: Part[], piece: Piece): void {
  const { byte, size, slices, signed } = piece;
  const plus = halvesOf(piece.plus);
  const low = { low: plus.low, high: 0 };
  // A constant of 64 bits is long; as two halves it is not, if the slices and carries keep to the lower one.
  if (size === 8 && slices.length > 0 && plus.high !== 0 && !signed && sumFits(maskOf(slices), low, 32)) {
    parts.push(partOf(byte, 4, slices, false, low));
    parts.push(partOf(byte + 4, 4, [], false, { low: plus.high, high: 0 }));
  } else {
    parts.push(partOf(byte, size, slices, signed, plus));
  }
}

function partOf(byte: number, size: Size, slices: readonly Slice[], signed: boolean, plus: Halves): Part {
  const [first] = slices;
  const move = first ? first.to - first.from : 0;
  const together = slices.length < 2 || slices.every(({ from, to }) => to - from === move);
  const distance = together ? move + byte * 8 : undefined;
  const end = byte + size;
  if (signed || slices.length === 0 || isZero(plus))
    return { byte, end, size, slices, signed, plus, distance, contained: !signed, bitwise: !signed };
  const mask = maskOf(slices);
  const contained = sumFits(mask, plus, size * 8);
  return { byte, end, size, slices, signed, plus, distance, contained, bitwise: !overlaps(mask, plus) };
}

/** The word that begins at a byte. */
function bestWord(parts: readonly Part[], first: number, byte: number, inputBytes: number): Word {
  const wide = widestWord(parts, first, byte, inputBytes);
  const size = alignmentOf(byte);
  if (size >= wide.size || !aligningIsFree(parts, first, byte, size)) return wide;
  let next = first;
  while (parts[next]!.end <= byte + size) next++;
  const aligned = wordIf(parts, first, byte, size, inputBytes);
  return aligned && wordIf(parts, next, byte + size, wide.size, inputBytes) ? aligned : wide;
}

function widestWord(parts: readonly Part[], first: number, byte: number, inputBytes: number): Word {
  for (let i = SIZES.length - 1; i > 0; i--) {
    const word = wordIf(parts, first, byte, SIZES[i]!, inputBytes);
    if (word) return word;
  }
  return wordAt(parts, first, byte, SIZES[0]!);
}

const alignmentOf = (byte: number): Size =>
  byte % 8 === 0 ? 8 : byte % 4 === 0 ? 4 : byte % 2 === 0 ? 2 : 1;

// Long enough to tell how a run is cut best.
const MAX_RUN_BYTES = 64;

/** Whether the run of copied, or of constant, bytes from here on takes no more words if the first has `size` bytes. */
function aligningIsFree(parts: readonly Part[], first: number, byte: number, size: Size): boolean {
  const { distance, slices } = parts[first]!;
  let end = byte;
  for (let i = first; end < byte + MAX_RUN_BYTES; i++) {
    const part = parts[i];
    if (!part?.bitwise || part.byte > end || part.slices.length > 0 !== slices.length > 0) break;
    if (part.distance === undefined || part.distance % 8 !== 0) break;
    if (slices.length > 0 && part.distance !== distance) break;
    end = part.end;
  }
  const length = end - byte;
  return size < length && 1 + wordCount(length - size) <= wordCount(length);
}

/** Words of 8, 4, 2 and 1 bytes that so many bytes take. */
const wordCount = (bytes: number): number =>
  (bytes >> 3) + ((bytes >> 2) & 1) + ((bytes >> 1) & 1) + (bytes & 1);

/** The `size` bytes from `byte`, which lies in the first part, if they can be one word. */
function wordIf(
  parts: readonly Part[],
  first: number,
  byte: number,
  size: Size,
  inputBytes: number,
): Word | undefined {
  const leader = parts[first]!;
  const isCuttable = leader.bitwise && leader.distance !== undefined;
  if (size === leader.size && !isCuttable) return wordAt(parts, first, byte, size);
  if (isAlone(leader)) return isExtended(parts, first, byte, size) ? wordOf(leader, size, 0) : undefined;
  if (!isJoined(parts, first, byte, size)) return undefined;
  const word = wordAt(parts, first, byte, size);
  return isCheap(word, inputBytes) ? word : undefined;
}

/** Whether a part cannot be stored together with others but zeros above. */
const isAlone = ({ distance, contained, size }: Part): boolean =>
  distance === undefined || (!contained && size > 1);

/** Whether a part and zeros above it make up a word. */
function isExtended(parts: readonly Part[], first: number, byte: number, size: Size): boolean {
  const part = parts[first]!;
  if (part.size >= size || !(part.contained || (part.size === 4 && !part.signed))) return false;
  let next = part.end;
  for (let i = first + 1; next < byte + size; i++) {
    const zero = parts[i];
    if (zero?.byte !== next || zero.slices.length > 0) return false;
    if (!isZero(truncate(zero.plus, (byte + size - next) * 8))) return false;
    next = zero.end;
  }
  return true;
}

/** Whether parts, the outer ones perhaps cut, make up a word that is copied over one distance. */
function isJoined(parts: readonly Part[], first: number, byte: number, size: Size): boolean {
  const end = byte + size;
  let distance: number | undefined;
  for (let i = first, next = byte; next < end; i++) {
    const part = parts[i];
    if (!part || part.byte > next || part.distance === undefined) return false;
    if (part.slices.length > 0) distance ??= part.distance;
    if (part.slices.length > 0 && part.distance !== distance) return false;
    const whole = part.byte >= byte && part.end <= end;
    if (!whole && !part.bitwise) return false;
    if (!part.contained && (part.byte !== byte || part.size > 1 || part.signed)) return false;
    next = part.end;
  }
  return true;
}

/** Whether the word is a short constant; or begins with a slice, takes one load, and has short masks and constants. */
function isCheap({ size, slices, plus }: Word, inputBytes: number): boolean {
  const isShort = size < 8 || signedImmediate(plus) !== undefined;
  const [bottom, top] = [slices[0], slices.at(-1)];
  if (!bottom || !top) return isShort;
  const loaded = Math.ceil((top.from + top.bits) / 8) - Math.floor(bottom.from / 8);
  const isLoad = size === 1 || (loaded <= 8 && sizeFor(loaded * 8) <= inputBytes);
  const fewBits = size < 8 || slices.length === 1 || top.to + top.bits <= 32;
  return bottom.to < 8 && isLoad && isShort && fewBits;
}

/** What `size` bytes from `byte`, which lies in the first part, hold. */
function wordAt(parts: readonly Part[], first: number, byte: number, size: Size): Word {
  const leader = parts[first]!;
  if (leader.byte === byte && (size === leader.size || isAlone(leader))) return wordOf(leader, size, 0);
  const slices: Slice[] = [];
  let plus = ZERO;
  let low = 0;
  for (let i = first; i < parts.length && parts[i]!.byte < byte + size; i++) {
    const part = parts[i]!;
    appendSlices(slices, part, byte, size);
    if (part.contained) plus = or(plus, shiftLeft(part.plus, (part.byte - byte) * 8));
    else low = part.plus.low;
  }
  return wordOf({ byte, size, slices, signed: false, plus: truncate(plus, size * 8) }, size, low);
}

function wordOf(
  { byte, size: modulus, slices, signed, plus }: Pick<Part, 'byte' | 'size' | 'slices' | 'signed' | 'plus'>,
  size: Size,
  low: number,
): Word {
  const narrow = modulus <= 4 || (!signed && plus.high === 0 && sumFits(maskOf(slices), plus, 32));
  return { byte, size, slices, signed, plus, low, narrow };
}

/** Appends the slices of a part as far as they lie in the word, joining those that continue each other. */
function appendSlices(slices: Slice[], part: Part, byte: number, size: Size): void {
  const move = (part.byte - byte) * 8;
  for (const { from, bits, to } of part.slices) {
    const low = Math.max(0, to + move);
    const high = Math.min(size * 8, to + move + bits);
    if (low >= high) continue;
    const start = from + low - to - move;
    const last = slices.at(-1);
    if (last && last.to + last.bits === low && last.from + last.bits === start)
      slices[slices.length - 1] = { from: last.from, to: last.to, bits: last.bits + high - low };
    else slices.push({ from: start, bits: high - low, to: low });
  }
}
