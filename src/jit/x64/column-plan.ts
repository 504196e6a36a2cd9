// A column out of the slice form of a record: what of the input its elements are made of,
//
//   ((runs of the input, each at its place) ^ flip) + plus, of that the bits of `mask`, ^ sign, - sign
//
// and how vectors bring it there. A plane has, for each record, the eight bytes from one place on, perhaps turned round;
// a term shifts a plane and masks it. As all elements of a column are alike, one shift serves all.

import type { ColumnSpec } from '../../format/column.js';
import { firstBit, type Size } from '../../format/model.js';
import type { Lifted, Piece, Slice } from '../lift.js';
import { clip, cut, isWhole, LANE_BITS, maskOf, ones } from './vector-plan.js';

/** Bits of the input that go to bits `to` … `to + bits - 1`. Big-endian ones are numbered from the lowest bit of the input's last byte. */
export interface ColumnRun {
  readonly bigEndian: boolean;
  readonly from: number;
  readonly bits: number;
  readonly to: number;
}

export interface ColumnPlan {
  /** Of an element. */
  readonly bytes: Size;
  /** None for a constant, which is `plus`. */
  readonly runs: readonly ColumnRun[];
  readonly flip: bigint;
  readonly plus: bigint;
  /** Undefined where the sum has no bits but those. */
  readonly mask: bigint | undefined;
  /** The bit that is copied into those above; 0 where there is none. */
  readonly sign: bigint;
}

/** undefined for a column whose bits are not sums of their own. */
export function planColumn(lifted: Lifted, { to, signed, bytes }: ColumnSpec): ColumnPlan | undefined {
  if (!isWhole(lifted)) return undefined;
  const { pieces, input } = lifted;
  const [low, high] = [firstBit(to), firstBit(to) + to.bits];
  const slices: Slice[] = [];
  let [flip, plus] = [0n, 0n];
  let exceeds = false;
  for (const piece of pieces) {
    const at = piece.byte * 8;
    const [start, end] = [Math.max(0, low - at), Math.min(piece.size * 8, high - at)];
    if (start >= end) continue;
    const part: Part | undefined = exceeds ? undefined : partOf(piece, start, end);
    if (!part) return undefined;
    const distance = at + start - low;
    slices.push(...part.slices.map((slice) => ({ ...slice, to: slice.to + distance })));
    flip |= part.flip << BigInt(distance);
    plus |= part.plus << BigInt(distance);
    exceeds = part.exceeds;
  }
  const width = bytes * 8;
  const mask = exceeds && to.bits < width ? ones(to.bits) : undefined;
  const sign = signed && to.bits < width ? 1n << BigInt(to.bits - 1) : 0n;
  if (slices.length === 0) return constantPlan(bytes, BigInt.asUintN(width, plus - 2n * (plus & sign)));
  const runs = runsOf(slices, input.bytes);
  if (sign === 0n || mask !== undefined || flip !== 0n || plus !== 0n)
    return { bytes, runs, flip, plus, mask, sign };
  return { bytes, runs, flip: sign, plus: BigInt.asUintN(width, -sign), mask, sign: 0n };
}

const constantPlan = (bytes: Size, plus: bigint): ColumnPlan => ({
  bytes,
  runs: [],
  flip: 0n,
  plus,
  mask: undefined,
  sign: 0n,
});

interface Part extends Pick<ColumnPlan, 'flip' | 'plus'> {
  readonly slices: readonly Slice[];
  /** Whether a carry may leave it. */
  readonly exceeds: boolean;
}

/** Bits start … end - 1 of a piece as a sum of their own; undefined where a carry comes in from below. */
function partOf({ slices, signed, plus, size }: Piece, start: number, end: number): Part | undefined {
  const top = slices.at(-1);
  const flip = signed && top ? 1n << BigInt(top.to + top.bits - 1) : 0n;
  const added = BigInt.asUintN(size * 8, plus - flip);
  const mask = maskOf(slices);
  if (cut(mask, 0, start) + cut(added, 0, start) > ones(start)) return undefined;
  return {
    slices: slices.flatMap((slice) => clip(slice, start, end)),
    flip: cut(flip, start, end),
    plus: cut(added, start, end),
    exceeds: cut(mask, start, end) + cut(added, start, end) > ones(end - start),
  };
}

/** A run while slices are added to it: where it begins in either order, as long as that is possible. */
interface Draft {
  little: number | undefined;
  big: number | undefined;
  bits: number;
  readonly to: number;
}

/** Slices, lowest first, as few runs. */
function runsOf(slices: readonly Slice[], inputBytes: number): ColumnRun[] {
  const drafts: Draft[] = [];
  for (const { from, bits, to } of slices) {
    const inByte = (from % 8) + bits <= 8;
    const big = inByte ? (inputBytes - 1 - (from >> 3)) * 8 + (from % 8) : undefined;
    const last = drafts.at(-1);
    const follows = last && last.to + last.bits === to;
    const little = follows && last.little !== undefined && last.little + last.bits === from;
    const turned = follows && last.big !== undefined && last.big + last.bits === big;
    if (!little && !turned) {
      drafts.push({ little: from, big, bits, to });
      continue;
    }
    if (!little) last!.little = undefined;
    if (!turned) last!.big = undefined;
    last!.bits += bits;
  }
  return drafts.map(({ little, big, bits, to }) => ({
    bigEndian: little === undefined,
    from: little ?? big!,
    bits,
    to,
  }));
}

export const PLANE_BYTES = 8;

export interface Plane {
  /** First byte of the record. */
  readonly byte: number;
  readonly turned: boolean;
}

export interface ColumnTerm {
  readonly plane: Plane;
  /** To the right, or if negative to the left. */
  readonly shift: number;
  /** The bits that are wanted, and whether no others come along. */
  readonly wanted: bigint;
  readonly exact: boolean;
}

/** The terms of columns, with as few planes as there can be. */
export function termsOf(columns: readonly ColumnPlan[], inputBytes: number): ColumnTerm[][] {
  const runs = columns.map((column) => column.runs.flatMap(splitLong));
  const planes = planesFor(runs.flat(), inputBytes);
  return columns.map(({ bytes }, i) =>
    runs[i]!.map((run): ColumnTerm => {
      const { plane } = planes.find(({ run: other }) => other === run)!;
      const first = plane.turned ? inputBytes - PLANE_BYTES - plane.byte : plane.byte;
      const shift = run.from - first * 8 - run.to;
      const wanted = ones(run.bits) << BigInt(run.to);
      return { plane, shift, wanted, exact: (moved(shift) & ones(bytes * 8)) === wanted };
    }),
  );
}

/** A run that lies in nine bytes, as two. */
function splitLong(run: ColumnRun): ColumnRun[] {
  const { from, bits, to } = run;
  const low = LANE_BITS - (from % 8);
  if (bits <= low) return [run];
  return [
    { ...run, bits: low },
    { ...run, from: from + low, bits: bits - low, to: to + low },
  ];
}

/** Which bits of a plane there are after a shift. */
const moved = (shift: number): bigint =>
  shift >= 0 ? ones(LANE_BITS) >> BigInt(shift) : ones(LANE_BITS) << BigInt(-shift);

interface Placed {
  readonly run: ColumnRun;
  readonly plane: Plane;
}

/** Planes that lie inside of the record where they can, at whole words where that costs nothing. */
function planesFor(runs: readonly ColumnRun[], inputBytes: number): Placed[] {
  const least = (run: ColumnRun) => Math.max(0, lastByte(run, inputBytes) + 1 - PLANE_BYTES);
  const most = (run: ColumnRun) =>
    Math.min(firstByte(run, inputBytes), Math.max(0, inputBytes - PLANE_BYTES));
  return [false, true].flatMap((turned) => {
    const placed: Placed[] = [];
    let byte = Number.NEGATIVE_INFINITY;
    const ordered = runs.filter((run) => run.bigEndian === turned).sort((a, b) => most(a) - most(b));
    for (const run of ordered) {
      if (byte < least(run)) {
        const word = most(run) - (most(run) % PLANE_BYTES);
        byte = word >= least(run) ? word : most(run);
      }
      placed.push({ run, plane: { byte, turned } });
    }
    return placed;
  });
}

function firstByte({ bigEndian, from, bits }: ColumnRun, inputBytes: number): number {
  return bigEndian ? inputBytes - 1 - ((from + bits - 1) >> 3) : from >> 3;
}

function lastByte({ bigEndian, from, bits }: ColumnRun, inputBytes: number): number {
  return bigEndian ? inputBytes - 1 - (from >> 3) : (from + bits - 1) >> 3;
}
