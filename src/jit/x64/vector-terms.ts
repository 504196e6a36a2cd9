// The slices of a chunk by AVX2. Each term brings bytes of the input to their lanes, shifts the lanes, and masks:
//
//   vpshufb    any bytes of a window of 16, in each half of the register; a byte without one is 0
//   vpsrlvq    each lane by 0 to 7 to the right, or
//   vpsllvq    to the left: a slice that ends in a ninth byte of the input needs one term of each kind
//   vpand      where bits came along that are not wanted
//
// The terms of a chunk share no bit: their or is the chunk.

import type { Slice } from '../lift.js';
import { type Chunk, LANE_BITS, orBits } from './vector-plan.js';

const LANE_BYTES = LANE_BITS / 8;
/** vpshufb works in halves of this many bytes. */
const HALF_BYTES = 16;
const NOTHING = 0x80;

/** The bytes of the input that a load brings to each half of a register. */
export interface Load {
  /** First byte for each half; the second is undefined where it is not used. */
  readonly from: readonly [number, number | undefined];
  readonly bytes: 8 | 16;
}

export interface Term {
  readonly load: Load;
  readonly shuffle: Uint8Array;
  /** Counts of each lane, where one is not 0. */
  readonly right: Uint8Array | undefined;
  readonly left: Uint8Array | undefined;
  readonly mask: Uint8Array | undefined;
}

/** A term while slices are added to it. */
interface Draft {
  /** The byte of the input that goes to each byte. */
  readonly bytes: (number | undefined)[];
  /** Of each lane: to the right, or if negative to the left. */
  readonly shifts: (number | undefined)[];
  readonly wanted: Uint8Array;
}

/** A slice's demands on a term. */
interface Shape {
  readonly slice: Slice;
  readonly lane: number;
  readonly shift: number;
  /** The first byte of the chunk that it takes before shifting, the first byte of the input, and how many. */
  readonly at: number;
  readonly from: number;
  readonly count: number;
}

/** The terms of a chunk. `inputBytes`: length of the record, which loads stay inside of where they can. */
export function termsOf({ slices, bytes }: Chunk, inputBytes: number): Term[] {
  const drafts: Draft[] = [];
  for (const slice of slices.flatMap(splitStraddling)) {
    const shapes = shapesOf(slice);
    const fits = (draft: Draft) => shapes.find((shape) => accepts(draft, shape));
    const draft = drafts.find(fits) ?? newDraft(drafts, bytes);
    addShape(draft, fits(draft)!);
  }
  return drafts.map((draft) => finish(draft, bytes, inputBytes));
}

function newDraft(drafts: Draft[], bytes: number): Draft {
  const lanes = Math.ceil(bytes / LANE_BYTES);
  const draft = {
    bytes: new Array(lanes * LANE_BYTES).fill(undefined),
    shifts: new Array(lanes).fill(undefined),
    wanted: new Uint8Array(lanes * LANE_BYTES),
  };
  drafts.push(draft);
  return draft;
}

/** A slice that no single shift brings to its place, as the two that do. */
function splitStraddling(slice: Slice): Slice[] {
  if (shapesOf(slice).length > 0) return [slice];
  const { from, bits, to } = slice;
  const low = LANE_BITS - (to % LANE_BITS) - rightShift(slice);
  return [
    { from, bits: low, to },
    { from: from + low, bits: bits - low, to: to + low },
  ];
}

const rightShift = ({ from, to }: Slice): number => (((from - to) % 8) + 8) % 8;

/** By a shift to the right, which clears the lane's highest bits, and to the left, which clears its lowest. */
function shapesOf(slice: Slice): Shape[] {
  const right = rightShift(slice);
  return right === 0
    ? [shapeOf(slice, 0)]
    : [right, right - 8].map((shift) => shapeOf(slice, shift)).filter(isInLane);
}

function shapeOf(slice: Slice, shift: number): Shape {
  const { from, bits, to } = slice;
  const start = to + shift;
  return {
    slice,
    lane: Math.floor(to / LANE_BITS),
    shift,
    at: Math.floor(start / 8),
    from: from >> 3,
    count: Math.floor((start + bits - 1) / 8) - Math.floor(start / 8) + 1,
  };
}

const isInLane = ({ lane, at, count }: Shape): boolean =>
  at >= lane * LANE_BYTES && at + count <= (lane + 1) * LANE_BYTES;

function accepts(draft: Draft, shape: Shape): boolean {
  const { lane, shift, at, from, count } = shape;
  if (draft.shifts[lane] !== undefined && draft.shifts[lane] !== shift) return false;
  for (let i = 0; i < count; i++) {
    const there = draft.bytes[at + i];
    if (there !== undefined && there !== from + i) return false;
  }
  const half = Math.floor(at / HALF_BYTES) * HALF_BYTES;
  const others = draft.bytes.slice(half, half + HALF_BYTES).filter((byte) => byte !== undefined);
  const all = [...others, from, from + count - 1];
  return Math.max(...all) - Math.min(...all) < HALF_BYTES;
}

function addShape(draft: Draft, { slice, lane, shift, at, from, count }: Shape): void {
  draft.shifts[lane] = shift;
  for (let i = 0; i < count; i++) draft.bytes[at + i] = from + i;
  orBits(draft.wanted, (1n << BigInt(slice.bits)) - 1n, slice.to);
}

function finish(draft: Draft, chunkBytes: number, inputBytes: number): Term {
  const load = loadFor(draft, inputBytes);
  const shuffle = Uint8Array.from(draft.bytes, (byte, i) =>
    byte === undefined ? NOTHING : byte - load.from[i < HALF_BYTES ? 0 : 1]!,
  );
  const counts = (count: (shift: number) => number) => {
    const values = new Uint8Array(draft.shifts.length * LANE_BYTES);
    draft.shifts.forEach((shift, lane) => {
      values[lane * LANE_BYTES] = Math.max(0, count(shift ?? 0));
    });
    return values.some((value) => value !== 0) ? values : undefined;
  };
  return {
    load,
    shuffle,
    right: counts((shift) => shift),
    left: counts((shift) => -shift),
    mask: arriving(draft).some((bits, i) => i < chunkBytes && bits !== draft.wanted[i])
      ? draft.wanted
      : undefined,
  };
}

/** Which bits may be set after the shifts. */
function arriving({ bytes, shifts }: Draft): Uint8Array {
  const bits = new Uint8Array(bytes.length);
  shifts.forEach((shift = 0, lane) => {
    let value = 0n;
    for (let i = 0; i < LANE_BYTES; i++)
      if (bytes[lane * LANE_BYTES + i] !== undefined) value |= 0xffn << BigInt(i * 8);
    const shifted = shift >= 0 ? value >> BigInt(shift) : value << BigInt(-shift);
    orBits(bits, BigInt.asUintN(LANE_BITS, shifted), lane * LANE_BITS);
  });
  return bits;
}

/** The same window for both halves where one holds all, since one load then serves both; inside of the record where it can be. */
function loadFor({ bytes }: Draft, inputBytes: number): Load {
  const halves = [bytes.slice(0, HALF_BYTES), bytes.slice(HALF_BYTES)].map((half) =>
    half.filter((byte) => byte !== undefined),
  );
  const [low, high] = halves as [number[], number[]];
  const all = [...low, ...high];
  const span = Math.max(...all) - Math.min(...all) + 1;
  if (inputBytes < HALF_BYTES && span <= 8) return same(windowFor(all, 8, inputBytes), 8, high.length > 0);
  if (span <= HALF_BYTES) return same(windowFor(all, HALF_BYTES, inputBytes), HALF_BYTES, high.length > 0);
  const from = [low, high].map((half) => windowFor(half, HALF_BYTES, inputBytes));
  return { from: [from[0]!, from[1]!], bytes: HALF_BYTES };
}

const same = (from: number, bytes: 8 | 16, both: boolean): Load => ({
  from: [from, both ? from : undefined],
  bytes,
});

/** Where a load of `length` bytes starts that brings all of `bytes`; few different places, so that loads are shared. */
function windowFor(bytes: readonly number[], length: number, inputBytes: number): number {
  const first = Math.min(...bytes);
  if (bytes.length === 0 || Math.max(...bytes) < length) return 0;
  return Math.min(first, Math.max(0, inputBytes - length));
}
