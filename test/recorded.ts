// All that is recorded of the verifier: verdicts, how sharp its domains are, how much it walks. A test compares it with
// vectors/verifier/recorded.txt, and so does each mutant of scripts/mutants.mjs.

import { readFileSync } from 'node:fs';
import { otherResults, partResults, scalarResults, wordResults } from './recorded-domains.js';
import { runResults } from './recorded-runs.js';
import { verdictGroups } from './recorded-verdicts.js';

export type Result = readonly [id: string, result: string | number];

export const RECORDED = new URL('vectors/verifier/recorded.txt', import.meta.url);

/** What there is to find out, by title, the quickest first. It throws where a result is not only other, but wrong. */
export const GROUPS: readonly [string, () => Iterable<Result>][] = [
  ['bytes and lines', otherResults],
  ['scalars', () => scalarResults(25)],
  ['words', () => wordResults(40)],
  ['parts of scalars', () => partResults(25)],
  ...verdictGroups(4),
  ['runs', () => runResults(400)],
];

export const lineOf = ([id, result]: Result): string => `${id}: ${result}`;

/** The lines of each group, as they were when they were recorded. */
export function recordedLines(): Map<string, string[]> {
  const groups = readFileSync(RECORDED, 'utf8').split(/^== /m).slice(1);
  return new Map(
    groups.map((group) => {
      const [title, ...lines] = group.trimEnd().split('\n');
      return [title!, lines] as const;
    }),
  );
}
