// How often a loop can come round, from the tests that each of its rounds passes.
//
// In round k = 0, 1, 2, … a number that moves by a constant step with every round is start + step * k, modulo 2^64 or
// 2^32. A test that every round passes compares it with something; so the first round in which the test must fail,
// computed with exact integers, is the last that there can be.

import type { Range } from './ranges.js';
import type { Scalar } from './scalars.js';
import * as scalars from './scalars.js';
import * as tnum from './tnum.js';
import type { Lazy } from './values.js';
import type { Word } from './words.js';
import * as words from './words.js';

/** A number that is start + step * k in round k: all 64 bits of it, or its low half with the others 0. */
export interface Line {
  readonly start: Lazy;
  readonly step: bigint;
  readonly bits: 32 | 64;
}

/** The lines of a loop and the numbers that stay as they are in it, by their origins. */
export type Lines = ReadonlyMap<Lazy, Line>;

/** A comparison that came out true. */
export interface Passed {
  readonly op: string;
  readonly bits: number;
  readonly a: Lazy;
  readonly b: Lazy;
}

/** What a passed comparison says: which test it was, and the last round that can pass it if all before did. */
export interface Bound {
  readonly key: string;
  readonly line: Lazy;
  readonly last: bigint;
}

/** What a line holds in rounds 0 to `last`. */
export function during(line: Line, last: bigint): Scalar {
  const found = computed.get(line);
  if (found?.last === last) return found.known;
  const known = computeDuring(line, last);
  computed.set(line, { last, known });
  return known;
}

/** Asked for once for every number on the line, mostly about the same rounds. */
const computed = new WeakMap<Line, { readonly last: bigint; readonly known: Scalar }>();

function computeDuring({ start, step, bits }: Line, last: bigint): Scalar {
  if (step === 0n) return start.known;
  const operate = bits === 64 ? scalars.aluWhole : scalars.aluLow;
  const end = tnum.ones(bits);
  const rounds = scalars.between(0n, last < end ? last : end);
  const distance = step === 1n ? rounds : operate('mul', rounds, scalars.constant(step));
  const moved = operate('add', start.known, distance);
  return bits === 64 ? moved : scalars.union(start.known, moved);
}

/** The bounds that a passed comparison gives; it may be read from either side. */
export function boundsOf(passed: Passed, lines: Lines): Bound[] {
  const { op, bits, a, b } = passed;
  const mirrored = MIRRORED[op];
  if (!mirrored) return [];
  const found = [boundOf(passed, lines), boundOf({ op: mirrored, bits, a: b, b: a }, lines)];
  return found.filter((bound) => bound !== undefined);
}

const MIRRORED: Readonly<Record<string, string>> = {
  jne: 'jne',
  jlt: 'jgt',
  jgt: 'jlt',
  jle: 'jge',
  jge: 'jle',
  jslt: 'jsgt',
  jsgt: 'jslt',
  jsle: 'jsge',
  jsge: 'jsle',
};

function boundOf({ op, bits, a, b }: Passed, lines: Lines): Bound | undefined {
  const place = placeOn(a, bits, lines);
  if (!place || place.line.step === 0n) return undefined;
  const last = op === 'jne' ? lastUnequal(place, a, b, bits, lines) : lastOrdered(op, place, b, bits);
  if (last === undefined) return undefined;
  place.line.start.need();
  a.need();
  b.need();
  // All 64 bits and a low half move in lines of their own, even where the same instruction compares them.
  const key = `${op} ${bits} ${place.bits} ${place.id} ${op === 'jne' ? fixedKey(b, bits, lines) : ''}`;
  return { key, line: place.origin, last: last < 0n ? 0n : last };
}

interface Place {
  readonly origin: Lazy;
  readonly line: Line;
  readonly plus: number;
  /** The width at which it moves in a straight line. */
  readonly bits: 32 | 64;
  readonly id: string;
}

/** Where a number lies beside a line, as a comparison of `bits` bits sees it. */
function placeOn(number: Lazy, bits: number, lines: Lines): Place | undefined {
  const { origin, plus } = number.link;
  const whole = lines.get(origin);
  if (whole?.bits === 64) return { origin, line: whole, plus, bits: bits as 32 | 64, id: idOf(whole, plus) };
  const { origin: lowOrigin, plus: lowPlus } = number.lowLink;
  const low = lines.get(lowOrigin);
  if (!low || (bits === 64 && !isLow(number))) return undefined;
  return { origin: lowOrigin, line: low, plus: lowPlus, bits: 32, id: idOf(low, lowPlus) };
}

const isLow = (number: Lazy): boolean => number.known.whole.u.max < 1n << 32n;

const ids = new WeakMap<object, number>();
let lastId = 0;

/** A name that is the same in each walk: a moving line is a thing of its own, what stands still has its start. */
function idOf(line: Line, plus: number): string {
  const thing = line.step === 0n ? line.start : line;
  const id = ids.get(thing) ?? ++lastId;
  ids.set(thing, id);
  return `${id}+${plus}`;
}

const startOf = ({ line, plus, bits }: Place): Word => {
  const at = scalars.constant(BigInt(plus));
  return bits === 64
    ? scalars.aluWhole('add', line.start.known, at).whole
    : scalars.aluLow('add', line.start.known, at).low;
};

/** The last round before the two sides are equal, if they must become so. */
function lastUnequal(place: Place, a: Lazy, b: Lazy, bits: number, lines: Lines): bigint | undefined {
  const other = placeOn(b, bits, lines);
  const width = other?.bits === 32 ? 32 : place.bits;
  if (!other && !scalars.isConstant(b.known)) return undefined;
  if (width === 32 && bits === 64 && !(isLow(a) && isLow(b))) return undefined;
  const approach = BigInt.asIntN(width, place.line.step - (other?.line.step ?? 0n));
  if (approach === 0n) return undefined;
  const end = other && other.line.step !== 0n ? extended(startOf(other), width) : wordOf(b, width);
  const begin = extended(startOf(place), width);
  const gap = approach > 0n ? words.alu('sub', end, begin) : words.alu('sub', begin, end);
  return lastBeforeMeeting(gap, approach > 0n ? approach : -approach);
}

const wordOf = (number: Lazy, bits: number): Word => (bits === 64 ? number.known.whole : number.known.low);
const extended = (word: Word, bits: number): Word => words.truncate(words.zeroExtend(word, 64), bits);

function lastBeforeMeeting(gap: Word, step: bigint): bigint | undefined {
  if (words.isConstant(gap) && gap.t.value % step === 0n) return gap.t.value / step - 1n;
  const isPower = (step & (step - 1n)) === 0n;
  if (isPower && ((gap.t.value | gap.t.mask) & (step - 1n)) === 0n) return gap.u.max / step - 1n;
  // An odd step comes by every number before it comes round.
  return step & 1n ? tnum.ones(gap.bits) - 1n : undefined;
}

function fixedKey(b: Lazy, bits: number, lines: Lines): string {
  const place = placeOn(b, bits, lines);
  return place ? `${place.bits} ${place.id}` : String(b.known.whole.t.value);
}

/** The last round in which a number on its way up is still below the other side, or above it on its way down. */
function lastOrdered(op: string, place: Place, b: Lazy, bits: number): bigint | undefined {
  const signed = op.startsWith('js');
  const other = bits === 64 ? b.known.whole : b.known.low;
  // A low half in a comparison of all bits is what it is unsigned.
  const reading = place.bits === bits && signed ? 's' : 'u';
  const range = startOf(place)[reading];
  const full = words.unknown(place.bits)[reading];
  const bound = other[signed ? 's' : 'u'];
  const step = BigInt.asIntN(place.bits, place.line.step);
  const inclusive = op.endsWith('e') ? 1n : 0n;
  const rising = op === 'jlt' || op === 'jle' || op === 'jslt' || op === 'jsle';
  if (rising) return step > 0n ? lastBelow(range, step, bound.max + inclusive, full) : undefined;
  const turned = (r: Range): Range => ({ min: -r.max, max: -r.min });
  return step < 0n ? lastBelow(turned(range), -step, -(bound.min - inclusive), turned(full)) : undefined;
}

/** The last k for which start + step * k < end, if no sum before leaves `full`. */
function lastBelow(start: Range, step: bigint, end: bigint, full: Range): bigint | undefined {
  if (end - 1n + step > full.max) return undefined;
  return start.min >= end ? 0n : (end - start.min + step - 1n) / step - 1n;
}
