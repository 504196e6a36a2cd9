// Why a loop ends of which no test tells how often it comes round: some number only rises, or only falls, and never
// comes round the end of its range.

import { stepOf } from './hypothesis.js';
import { numberOf, type Place } from './places.js';
import type { State } from './states.js';
import type { Lazy, Value } from './values.js';
import type { Word } from './words.js';
import * as words from './words.js';

/** Whether some place does so on every path from `head` back to it. */
export function hasRanking(places: readonly Place[], head: State, backs: readonly State[]): boolean {
  return places.some((place) => {
    const before = place.get(head);
    const after = backs.map((back) => place.get(back));
    return before !== undefined && after.every((value) => value) && ranks(place, before, after as Value[]);
  });
}

function ranks({ bytes }: Place, before: Value, after: readonly Value[]): boolean {
  const moves: Move[] = [];
  for (const value of after) {
    const number = numberOf(value);
    const step = stepOf(numberOf(before), number, bytes);
    if (!step || step.by === 0) return false;
    const word = step.bits === 64 ? number.known.whole : number.known.low;
    if (moves[0] && moves[0].word.bits !== word.bits) return false;
    moves.push({ by: BigInt(step.by), word, number });
  }
  const ends = MEASURES.some((measure) => moves.every(measure));
  if (ends) for (const { number } of moves) number.need();
  return ends;
}

/** A step, and the number after it. */
interface Move {
  readonly by: bigint;
  readonly word: Word;
  readonly number: Lazy;
}

/** Where a number cannot have come round an end of its range, it is greater, or smaller, than before. */
const MEASURES: readonly ((move: Move) => boolean)[] = (['u', 's'] as const).flatMap((reading) => [
  ({ by, word }: Move) => by > 0n && word[reading].min >= words.unknown(word.bits)[reading].min + by,
  ({ by, word }: Move) => by < 0n && word[reading].max <= words.unknown(word.bits)[reading].max + by,
]);
