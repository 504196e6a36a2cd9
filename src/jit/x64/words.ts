// What a lifted program stores, cut into words anew: pieces whose slices lie in the input as they lie in the output, and
// constants, are stored together; the header of a bcachefs key is one word.

import { SIZES, type Size } from '../../format/model.js';
import type { Lifted, Piece, Slice } from '../lift.js';

/** Bytes to store, as in Piece, but for `low`. */
export interface Word extends Piece {
  /** Added to the lowest byte alone, modulo 256. */
  readonly low: number;
  /** Whether the sum, without `low`, is below 2^32 or is only wanted modulo 2^32. */
  readonly narrow: boolean;
}

/** A piece with what decides whether it can share a word. */
interface Part extends Piece {
  readonly end: number;
  /** By how many bits all its slices move; undefined if they differ. */
  readonly distance: number | undefined;
  /** Whether the sum cannot exceed the piece. */
  readonly contained: boolean;
  /** Whether each bit is a bit of a slice or of the constant, so that the piece can be cut. */
  readonly bitwise: boolean;
}

/** Words in the order of bytes, wide ones first, but naturally aligned where that takes no more of them. */
export function wordsOf({ pieces, input }: Lifted): Word[] {
  const parts = pieces.flatMap(halves).map(partOf);
  const words: Word[] = [];
  for (let i = 0, byte = 0; i < parts.length; ) {
    byte = Math.max(byte, parts[i]!.byte);
    const word = widestWord(parts, i, byte, input.bytes);
    words.push(word);
    byte += word.size;
    while (i < parts.length && parts[i]!.end <= byte) i++;
  }
  return words;
}

const ones = (bits: number): bigint => (1n << BigInt(bits)) - 1n;

/** The bits that slices lie in. */
export function maskOf(slices: readonly Slice[]): bigint {
  let mask = 0n;
  for (const { bits, to } of slices) mask |= ones(bits) << BigInt(to);
  return mask;
}

/** A sum of 8 bytes whose slices and carries keep to the lower 4, and whose constant does not, as these and a constant. */
function halves(piece: Piece): Piece[] {
  const { byte, size, slices, signed, plus } = piece;
  const low = BigInt.asUintN(32, plus);
  const keepsLow = !signed && plus !== low && slices.length > 0 && maskOf(slices) + low <= ones(32);
  if (size < 8 || !keepsLow) return [piece];
  const high = { byte: byte + 4, size: 4 as const, slices: [], signed, plus: plus >> 32n };
  return [{ byte, size: 4, slices, signed, plus: low }, high];
}

function partOf(piece: Piece): Part {
  const { byte, size, slices, signed, plus } = piece;
  const [first] = slices;
  const distance = first ? first.to - first.from : 0;
  const together = slices.every(({ from, to }) => to - from === distance);
  const mask = plus === 0n ? 0n : maskOf(slices);
  return {
    ...piece,
    end: byte + size,
    distance: together ? distance + byte * 8 : undefined,
    contained: !signed && (plus === 0n || (mask + plus) >> BigInt(size * 8) === 0n),
    bitwise: !signed && (plus & mask) === 0n,
  };
}

function widestWord(parts: readonly Part[], first: number, byte: number, inputBytes: number): Word {
  let wide: Word | undefined;
  for (let i = SIZES.length - 1; !wide; i--) wide = wordAt(parts, first, byte, SIZES[i]!, inputBytes);
  const size = SIZES.findLast((size) => byte % size === 0)!;
  if (size >= wide.size || !aligningIsFree(parts, first, byte, size)) return wide;
  const narrow = wordAt(parts, first, byte, size, inputBytes);
  const next = parts.findIndex(({ end }) => end > byte + size);
  return narrow && wordAt(parts, next, byte + size, wide.size, inputBytes) ? narrow : wide;
}

// Long enough to tell how a run is cut best.
const MAX_RUN_BYTES = 64;

/** Whether the bytes that are copied as they are, or constant, from here on take no more words if the first has `size` bytes. */
function aligningIsFree(parts: readonly Part[], first: number, byte: number, size: Size): boolean {
  let end = byte;
  let distance: number | undefined;
  for (let i = first; end < byte + MAX_RUN_BYTES; i++) {
    const part = parts[i];
    if (!part?.bitwise || part.byte > end || part.distance === undefined || part.distance % 8 !== 0) break;
    if (part.slices.length > 0) distance ??= part.distance;
    if (part.slices.length > 0 && part.distance !== distance) break;
    end = part.end;
  }
  const length = end - byte;
  return size < length && 1 + wordCount(length - size) <= wordCount(length);
}

/** Words of 8, 4, 2 and 1 bytes that so many bytes take. */
const wordCount = (bytes: number): number =>
  (bytes >> 3) + ((bytes >> 2) & 1) + ((bytes >> 1) & 1) + (bytes & 1);

/** The parts that lie in a word, if they can be one. */
function wordAt(
  parts: readonly Part[],
  first: number,
  byte: number,
  size: Size,
  inputBytes: number,
): Word | undefined {
  const end = byte + size;
  const leader = parts[first]!;
  const cuttable = leader.bitwise && leader.distance !== undefined;
  if (size === leader.size && !cuttable) return wordOf(leader, size);
  if (isAlone(leader)) return extended(parts, first, byte, size);
  const slices: Slice[] = [];
  let plus = 0n;
  let low = 0;
  let distance: number | undefined;
  let next = byte;
  for (let i = first; next < end; i++) {
    const part = parts[i];
    if (!part || part.byte > next || part.distance === undefined) return undefined;
    if (part.slices.length > 0) {
      distance ??= part.distance;
      if (part.distance !== distance) return undefined;
    }
    const whole = part.byte >= byte && part.end <= end;
    if (!whole && !part.bitwise) return undefined;
    const wraps = !part.contained;
    if (wraps && (part.byte !== byte || part.size > 1 || part.signed)) return undefined;
    appendSlices(slices, part, byte, size);
    if (wraps) low = Number(part.plus);
    else plus |= shifted(part.plus, (part.byte - byte) * 8);
    next = part.end;
  }
  const whole = { byte, size, slices, signed: false, plus: BigInt.asUintN(size * 8, plus) };
  return isCheap(whole, inputBytes) ? { ...wordOf(whole, size), low } : undefined;
}

/** Whether a part cannot be stored together with others but zeros above. */
const isAlone = ({ distance, contained, size }: Part): boolean =>
  distance === undefined || (!contained && size > 1);

/** A part with zeros above. */
function extended(parts: readonly Part[], first: number, byte: number, size: Size): Word | undefined {
  const part = parts[first]!;
  const grows = part.contained || (part.size === 4 && !part.signed);
  if (part.byte !== byte || !grows) return undefined;
  let next = part.end;
  for (let i = first + 1; next < byte + size; i++) {
    const zero = parts[i];
    if (zero?.byte !== next || zero.slices.length > 0) return undefined;
    if (BigInt.asUintN((byte + size - next) * 8, zero.plus) !== 0n) return undefined;
    next = zero.end;
  }
  return next > part.end ? wordOf(part, size) : undefined;
}

function wordOf({ byte, size: modulus, slices, signed, plus }: Piece, size: Size): Word {
  const below = plus >> 32n === 0n && slices.every(({ bits, to }) => to + bits <= 32);
  const narrow = modulus <= 4 || (!signed && below && (plus === 0n || (maskOf(slices) + plus) >> 32n === 0n));
  return { byte, size, slices, signed, plus, low: 0, narrow };
}

const shifted = (value: bigint, left: number): bigint => {
  if (value === 0n || left === 0) return value;
  return left > 0 ? value << BigInt(left) : value >> BigInt(-left);
};

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
      slices[slices.length - 1] = { ...last, bits: last.bits + high - low };
    else slices.push({ from: start, bits: high - low, to: low });
  }
}

/** Whether the word is a short constant; or begins with a slice, takes one load, and has short masks and constants. */
function isCheap({ size, slices, plus }: Piece, inputBytes: number): boolean {
  const isShort = size < 8 || plus >> 31n === 0n || plus >> 31n === ones(33);
  const [bottom, top] = [slices[0], slices.at(-1)];
  if (!bottom || !top) return isShort;
  const loaded = Math.ceil((top.from + top.bits) / 8) - Math.floor(bottom.from / 8);
  const isLoad = size === 1 || SIZES.some((bytes) => bytes >= loaded && bytes <= inputBytes);
  const fewBits = size < 8 || slices.length === 1 || top.to + top.bits <= 32;
  return bottom.to < 8 && isLoad && isShort && fewBits;
}
