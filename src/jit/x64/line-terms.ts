// The slices of a register of output, 64 bytes or fewer, by AVX-512 VBMI. Each term is
//
//   vpermb           up to eight bytes for each lane, of windows of the input as wide as that, one instruction a window
//   vpmultishiftqb   any eight neighbouring bits of the lane for each byte; not where all are whole bytes already
//   vpandq           where bits came along that are not wanted; otherwise vpermb leaves the rest 0
//
// The terms of a line share no bit: their or is the line.

import type { Slice } from '../lift.js';
import { type Chunk, LANE_BITS, orBits } from './vector-plan.js';

export const LINE_BYTES = 64;
const LANE_BYTES = LANE_BITS / 8;

/** Bytes of the input, and the bytes of the register that come from there. */
export interface Window {
  readonly from: number;
  /** One bit for each byte. */
  readonly takes: Uint8Array;
}

export interface LineTerm {
  readonly windows: readonly Window[];
  /** For each byte its place in the window that it is taken from. */
  readonly permute: Uint8Array;
  /** For each byte the first bit of its lane; undefined where the bytes are in place. */
  readonly multishift: Uint8Array | undefined;
  /** The bits that are wanted; undefined where the others are 0. */
  readonly mask: Uint8Array | undefined;
}

interface Draft {
  /** The byte of the input at each place before the shifts. */
  readonly bytes: (number | undefined)[];
  /** The first bit, in its lane, of each byte after them. */
  readonly controls: (number | undefined)[];
  readonly wanted: Uint8Array;
}

/** The terms of a register of `width` bytes. `end`: bytes of the input, which windows stay inside of where they can. */
export function lineTerms({ slices }: Chunk, end: number, width = LINE_BYTES): LineTerm[] {
  const drafts: Draft[] = [];
  for (const slice of slices.flatMap(splitLong)) {
    if (drafts.some((draft) => place(draft, slice))) continue;
    const draft: Draft = {
      bytes: new Array(width).fill(undefined),
      controls: new Array(width).fill(undefined),
      wanted: new Uint8Array(width),
    };
    place(draft, slice);
    drafts.push(draft);
  }
  return drafts.map((draft) => finish(draft, end));
}

const firstByte = ({ from }: Slice): number => from >> 3;
const byteCount = ({ from, bits }: Slice): number => ((from + bits - 1) >> 3) - (from >> 3) + 1;

/** A slice of nine bytes, as two that fill whole bytes of the output. */
function splitLong(slice: Slice): Slice[] {
  if (byteCount(slice) <= LANE_BYTES) return [slice];
  const { from, bits, to } = slice;
  const low = LANE_BITS / 2 - (to % 8);
  return [
    { from, bits: low, to },
    { from: from + low, bits: bits - low, to: to + low },
  ];
}

/** Adds a slice to a term, if there is room in its lane and no byte needs bits from two places. */
function place(draft: Draft, slice: Slice): boolean {
  const lane = Math.floor(slice.to / LANE_BITS) * LANE_BYTES;
  const inPlace = (slice.to >> 3) - lane;
  for (const first of [inPlace, 0, 1, 2, 3, 4, 5, 6, 7]) {
    if (first + byteCount(slice) > LANE_BYTES || !hasRoom(draft, slice, lane + first)) continue;
    for (let i = 0; i < byteCount(slice); i++) draft.bytes[lane + first + i] = firstByte(slice) + i;
    for (const [byte, control] of controlsOf(slice, first)) draft.controls[byte] = control;
    orBits(draft.wanted, (1n << BigInt(slice.bits)) - 1n, slice.to);
    return true;
  }
  return false;
}

function hasRoom({ bytes, controls }: Draft, slice: Slice, at: number): boolean {
  for (let i = 0; i < byteCount(slice); i++) {
    const there = bytes[at + i];
    if (there !== undefined && there !== firstByte(slice) + i) return false;
  }
  return controlsOf(slice, at % LANE_BYTES).every(
    ([byte, control]) => controls[byte] === undefined || controls[byte] === control,
  );
}

/** For each byte of the output, the bit of the lane that its lowest bit comes from; the slice's bytes begin at `first`. */
function controlsOf({ from, bits, to }: Slice, first: number): [byte: number, control: number][] {
  const last = (to + bits - 1) >> 3;
  const controls: [number, number][] = [];
  for (let byte = to >> 3; byte <= last; byte++) {
    const bit = first * 8 + (from % 8) + byte * 8 - to;
    controls.push([byte, (bit + LANE_BITS) % LANE_BITS]);
  }
  return controls;
}

function finish(draft: Draft, end: number): LineTerm {
  const { bytes, controls, wanted } = draft;
  const shifts = controls.some((control, i) => control !== undefined && control !== (i % LANE_BYTES) * 8);
  const multishift = Uint8Array.from(controls, (control, i) => control ?? nothing(draft, i));
  const exact = Buffer.compare(arriving(draft, shifts ? multishift : undefined), wanted) === 0;
  const windows = windowsFor(bytes, end);
  const permute = Uint8Array.from(bytes, (byte, i) => {
    const window = windows.find(({ takes }) => (takes[i >> 3]! >> (i % 8)) & 1);
    return byte === undefined || !window ? 0 : byte - window.from;
  });
  return { windows, permute, multishift: shifts ? multishift : undefined, mask: exact ? undefined : wanted };
}

/** A byte of the lane of byte `i` that stays 0, in bits; 0 where there is none. */
function nothing({ bytes }: Draft, i: number): number {
  const lane = i - (i % LANE_BYTES);
  const free = bytes.slice(lane, lane + LANE_BYTES).indexOf(undefined);
  return free === -1 ? 0 : free * 8;
}

/** Which bits may be set where bytes that nothing is taken for are 0. */
function arriving({ bytes }: Draft, multishift: Uint8Array | undefined): Uint8Array {
  const taken = bytes.map((byte) => (byte === undefined ? 0 : 0xff));
  if (!multishift) return Uint8Array.from(taken);
  return Uint8Array.from(multishift, (control, i) => {
    const lane = i - (i % LANE_BYTES);
    const low = taken[lane + (control >> 3)]!;
    const high = taken[lane + (((control >> 3) + 1) % LANE_BYTES)]!;
    return ((low | (high << 8)) >> (control % 8)) & 0xff;
  });
}

/** Windows for all bytes, from the first byte on. */
function windowsFor(bytes: Draft['bytes'], end: number): Window[] {
  const width = bytes.length;
  const needed = bytes.filter((byte) => byte !== undefined).sort((a, b) => a - b);
  const windows: Window[] = [];
  for (let i = 0; i < needed.length; ) {
    const from = Math.max(0, Math.min(needed[i]!, end - width));
    const takes = new Uint8Array(width / 8);
    bytes.forEach((byte, at) => {
      if (byte !== undefined && byte >= needed[i]! && byte < from + width) orBits(takes, 1n, at);
    });
    windows.push({ from, takes });
    while (i < needed.length && needed[i]! < from + width) i++;
  }
  return windows;
}
