// The slice form of a record, cut into vectors. A chunk of the output is
//
//   ((slices of the input, each at its place) ^ flip) + add + add …
//
// where one addition serves each width of element in which carries run. A signed value is a sum, too: with its sign
// bit s flipped it is 2^s too much, and no bit needs to be copied.

import type { Lifted, Piece, Slice } from '../lift.js';

export const LANE_BITS = 64;
const ELEMENT_BITS = [64, 32, 16, 8] as const;
type ElementBits = (typeof ELEMENT_BITS)[number];

export interface Chunk {
  /** In the output, where the chunk is stored. */
  readonly byte: number;
  readonly bytes: number;
  /** At bits of the chunk; none crosses a lane of 64 bits. */
  readonly slices: readonly Slice[];
  /** Bits to flip before the additions; undefined where there are none. */
  readonly flip: Uint8Array | undefined;
  readonly adds: readonly { readonly bits: ElementBits; readonly value: Uint8Array }[];
}

/** Some bits of a piece, all in one lane of a chunk. */
interface Part {
  /** First bit in the chunk, and width. */
  readonly at: number;
  readonly bits: number;
  readonly slices: readonly Slice[];
  readonly flip: bigint;
  readonly plus: bigint;
}

const ONES = Array.from({ length: LANE_BITS + 1 }, (_, bits) => (1n << BigInt(bits)) - 1n);
export const ones = (bits: number): bigint => ONES[bits]!;

/** Bits start … end - 1. */
export const cut = (value: bigint, start: number, end: number): bigint =>
  (value >> BigInt(start)) & ones(end - start);

export function maskOf(slices: readonly Slice[]): bigint {
  let mask = 0n;
  for (const { bits, to } of slices) mask |= ones(bits) << BigInt(to);
  return mask;
}

/** Whether the pieces are every byte of the record that starts at byte 0 of the output. */
export function isWhole({ pieces, output }: Lifted): boolean {
  let end = 0;
  for (const { byte, size } of pieces) {
    if (byte !== end) return false;
    end += size;
  }
  return end === output.bytes;
}

/** `count` records, `stride` bytes apart in the input and back to back in the output, as the pieces of one. */
export function repeated({ pieces, output }: Lifted, count: number, stride: number): Piece[] {
  return Array.from({ length: count }, (_, i) =>
    pieces.map((piece) => ({
      ...piece,
      byte: piece.byte + i * output.bytes,
      slices: piece.slices.map((slice) => ({ ...slice, from: slice.from + i * stride * 8 })),
    })),
  ).flat();
}

/** Bytes of the output that are stored together. */
export interface Span {
  readonly byte: number;
  readonly bytes: number;
}

/** Whether a piece can be stored in these spans, or needs one of its own because its carries would have to leave an element. */
export const fitsInto = (piece: Piece, spans: readonly Span[]): boolean =>
  (piece.plus === 0n && !piece.signed) ||
  spans.every((span) => partsOf(piece, span)?.every((part) => elementOf(part) !== undefined));

/** The bytes of a span, of pieces that fit into it. */
export function chunkOf(pieces: readonly Piece[], span: Span): Chunk {
  const { byte, bytes } = span;
  const parts = pieces.flatMap((piece) => partsOf(piece, span)!);
  const adds = additions(parts, bytes);
  const flip = new Uint8Array(bytes);
  for (const part of parts) if (part.flip !== 0n) orBits(flip, part.flip, part.at);
  return {
    byte,
    bytes,
    slices: parts.flatMap(({ slices, at }) => slices.map((slice) => ({ ...slice, to: slice.to + at }))),
    flip: flip.some((value) => value !== 0) ? flip : undefined,
    adds,
  };
}

/** What of a piece lies in a span, cut at the ends of its lanes; undefined where a carry could cross a cut. */
function partsOf(piece: Piece, { byte, bytes }: Span): Part[] | undefined {
  if (piece.byte + piece.size <= byte || piece.byte >= byte + bytes) return [];
  const { slices, signed } = piece;
  const [chunkBit, chunkBits] = [byte * 8, bytes * 8];
  const width = piece.size * 8;
  const top = slices.at(-1);
  const flip = signed && top ? 1n << BigInt(top.to + top.bits - 1) : 0n;
  const plus = BigInt.asUintN(width, piece.plus - flip);
  const mask = plus === 0n ? 0n : maskOf(slices);
  const parts: Part[] = [];
  const first = piece.byte * 8 - chunkBit;
  for (let start = 0, end = 0; start < width; start = end) {
    const at = first + start;
    end = Math.min(width, start + LANE_BITS - (((at % LANE_BITS) + LANE_BITS) % LANE_BITS));
    if (at < 0) end = Math.min(end, -first);
    else if (at < chunkBits) end = Math.min(end, chunkBits - first);
    if (at + end - start <= 0 || at >= chunkBits) continue;
    const carried = start > 0 && plus !== 0n && cut(mask, 0, start) + cut(plus, 0, start) > ones(start);
    if (carried) return undefined;
    parts.push({
      at,
      bits: end - start,
      slices: slices.flatMap((slice) => clip(slice, start, end)),
      flip: flip === 0n ? 0n : cut(flip, start, end),
      plus: plus === 0n ? 0n : cut(plus, start, end),
    });
  }
  return parts;
}

/** What of a slice lies in bits start … end - 1 of its value, with `to` counted from start. */
export function clip({ from, bits, to }: Slice, start: number, end: number): Slice[] {
  const low = Math.max(to, start);
  const high = Math.min(to + bits, end);
  return low < high ? [{ from: from + low - to, bits: high - low, to: low - start }] : [];
}

/** The width of the additions that a part may take part in; undefined where a carry has no element to end in. */
function elementOf(part: Part): ElementBits | undefined {
  if (staysInside(part, part.bits)) return LANE_BITS;
  return ELEMENT_BITS.find((bits) => bits === part.bits && part.at % bits === 0);
}

/** One addition for each width that is needed. */
function additions(parts: readonly Part[], bytes: number): Chunk['adds'] {
  const sums = new Map<ElementBits, Uint8Array>();
  const addTo = (bits: ElementBits, { plus, at }: Part) => {
    if (!sums.has(bits)) sums.set(bits, new Uint8Array(bytes));
    orBits(sums.get(bits)!, plus, at);
  };
  const added = parts.filter(({ plus }) => plus !== 0n);
  for (const part of added.filter((part) => !staysInside(part, part.bits))) addTo(elementOf(part)!, part);
  for (const part of added.filter((part) => staysInside(part, part.bits))) {
    const shared = ELEMENT_BITS.find((bits) => sums.has(bits) && staysInside(part, bits));
    addTo(shared ?? LANE_BITS, part);
  }
  return [...sums].map(([bits, value]) => ({ bits, value }));
}

/** Whether no carry of the part's sum leaves an element of `bits` bits, nor the part. */
function staysInside(part: Part, bits: number): boolean {
  const mask = maskOf(part.slices);
  for (let start = 0, end = 0; start < part.bits; start = end) {
    end = Math.min(part.bits, start + bits - ((part.at + start) % bits));
    if (cut(mask, start, end) + cut(part.plus, start, end) > ones(end - start)) return false;
  }
  return true;
}

/** Ors a number into bytes, at a bit. */
export function orBits(bytes: Uint8Array, value: bigint, at: number): void {
  let rest = value << BigInt(at % 8);
  for (let byte = at >> 3; rest !== 0n; byte++, rest >>= 8n) bytes[byte]! |= Number(rest & 0xffn);
}
