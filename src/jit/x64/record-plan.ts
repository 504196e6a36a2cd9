// How a record is unpacked by vectors: in which pieces it is stored, and which terms they have. Of several plans the one with the
// fewest instructions is taken.

import type { Lifted } from '../lift.js';
import type { Tier } from '../target.js';
import { type LineTerm, lineTerms } from './line-terms.js';
import { type Chunk, chunkOf, fitsInto, isWhole } from './vector-plan.js';
import { type Load, type Term, termsOf } from './vector-terms.js';

export interface Part {
  readonly chunk: Chunk;
  readonly terms: readonly (Term | LineTerm)[];
  readonly bits: 128 | 256;
}

export interface RecordPlan {
  readonly parts: readonly Part[];
  /** The loads, each once. */
  readonly loads: readonly Load[];
  readonly byVbmi: boolean;
  /** The bytes that terms by VBMI take from a window, each once. */
  readonly masks: readonly Uint8Array[];
  readonly outputBytes: number;
  /** Bytes from the start of a record that may be read. */
  readonly reach: number;
}

const SPAN_BYTES = [32, 16, 8, 4, 2, 1];
// A record that needs more is no faster than scalar code.
const MOST_TERMS = 12;
/** The longest record that one load brings, of which VBMI then takes bytes to any place. */
const LOAD_BYTES = 16;
/** What VBMI loads at a time of longer ones. */
export const VBMI_BYTES = 32;
const MASK_REGISTERS = 7;

/**
 * @param readable bytes from the start of a record that may be read, at least its own
 * @returns undefined for a record that does not lend itself to it
 */
export function planRecord(
  lifted: Lifted,
  tier: Tier = 'avx2',
  readable = lifted.input.bytes,
): RecordPlan | undefined {
  if (!isWhole(lifted)) return undefined;
  const sizes = spanSizes(lifted.output.bytes);
  const fits = readable >= VBMI_BYTES || lifted.input.bytes <= LOAD_BYTES;
  const tiers: Tier[] = tier === 'avx512' && fits ? ['avx2', 'avx512'] : ['avx2'];
  const plans = tiers.flatMap((tier) =>
    [sizes, sizes.toReversed()].map((order) => planChunks(lifted, order, tier)),
  );
  const possible = plans.filter(
    ({ parts, masks }) => termsIn(parts) <= MOST_TERMS && masks.length <= MASK_REGISTERS,
  );
  return possible.sort((a, b) => operations(a) - operations(b))[0];
}

const termsIn = (parts: readonly Part[]): number => parts.reduce((sum, { terms }) => sum + terms.length, 0);

function spanSizes(bytes: number): number[] {
  const sizes: number[] = [];
  for (let left = bytes; left > 0; left -= sizes.at(-1)!)
    sizes.push(SPAN_BYTES.find((size) => size <= left)!);
  return sizes;
}

function planChunks({ pieces, input, output }: Lifted, sizes: readonly number[], tier: Tier): RecordPlan {
  let byte = 0;
  const spans = sizes.map((bytes) => ({ byte: (byte += bytes) - bytes, bytes }));
  const fitting = pieces.filter((piece) => fitsInto(piece, spans));
  const own = pieces.filter((piece) => !fitsInto(piece, spans));
  // Stored over the others, so these come last.
  const ownChunks = own.map((piece) => chunkOf([piece], { byte: piece.byte, bytes: piece.size }));
  const chunks = [...spans.map((span) => chunkOf(fitting, span)), ...ownChunks];
  const byVbmi = tier === 'avx512';
  const isLoaded = byVbmi && input.bytes <= LOAD_BYTES;
  const parts = chunks.map((chunk): Part => {
    const bits = chunk.bytes > 16 ? 256 : 128;
    const width = bits / 8;
    const terms = byVbmi
      ? lineTerms(chunk, isLoaded ? width : input.bytes, width)
      : termsOf(chunk, input.bytes);
    return { chunk, terms, bits };
  });
  const terms = parts.flatMap((part) => part.terms);
  const whole: Load = { from: [0, undefined], bytes: input.bytes <= 8 ? 8 : 16 };
  const loads = isLoaded
    ? [whole]
    : distinctLoads(terms.flatMap((term) => ('load' in term ? [term.load] : [])));
  const masks = new Map(terms.flatMap(takenBy).map((mask) => [keyOf(mask, 64), mask]));
  const ends = [
    ...loads.flatMap(({ from, bytes }) => from.map((at) => (at ?? 0) + bytes)),
    ...(isLoaded ? [] : parts.flatMap(windowEnds)),
  ];
  return {
    parts,
    loads,
    byVbmi,
    masks: [...masks.values()],
    outputBytes: output.bytes,
    reach: Math.max(0, ...ends),
  };
}

const windowsOf = (term: Term | LineTerm) => ('load' in term ? [] : term.windows);

const windowEnds = ({ terms, bits }: Part): number[] =>
  terms.flatMap(windowsOf).map(({ from }) => from + bits / 8);

/** The first window of a term needs no mask where what it brings along is cleared later. */
const takenBy = (term: Term | LineTerm): Uint8Array[] =>
  windowsOf(term)
    .slice(term.mask ? 1 : 0)
    .map(({ takes }) => takes);

/** A load of both halves serves those who want its lower half only. */
function distinctLoads(loads: readonly Load[]): Load[] {
  const kept: Load[] = [];
  const wideFirst = loads.toSorted(
    (a, b) => Number(a.from[1] === undefined) - Number(b.from[1] === undefined),
  );
  for (const load of wideFirst) if (!kept.some((other) => serves(other, load))) kept.push(load);
  return kept;
}

export const serves = (load: Load, wanted: Load): boolean =>
  load.bytes === wanted.bytes &&
  load.from[0] === wanted.from[0] &&
  (wanted.from[1] === undefined || wanted.from[1] === load.from[1]);

/** How many instructions a record takes. */
function operations({ parts, loads }: RecordPlan): number {
  let count = 0;
  for (const { from } of loads) count += from[1] === undefined || from[1] === from[0] ? 1 : 2;
  for (const { chunk, terms } of parts) {
    count += 1 + chunk.adds.length + (chunk.flip ? 1 : 0) + Math.max(0, terms.length - 1);
    for (const term of terms) {
      const { mask } = term;
      const moves =
        'load' in term ? [term.shuffle, term.right, term.left] : [...term.windows, term.multishift];
      count += [...moves, mask].filter(Boolean).length;
    }
  }
  return count;
}

/** What tells constants and masks apart. */
export const keyOf = (value: Uint8Array, bits: number): string =>
  `${bits} ${Buffer.from(value).toString('hex')}`;
