// What a run has done, in a few lines.

import type { Tally } from './differential.js';
import type { Oracle } from './oracles.js';

export function report(tally: Tally, oracles: readonly Oracle[]): string {
  const lines = [...tally.engines].map(
    ([name, { programs, runs }]) => `${name}: ${programs} programs, ${runs} runs`,
  );
  lines.push(`${tally.instructions} instructions interpreted`);
  for (const { name, notes } of oracles) {
    const most = [...notes].sort(([, a], [, b]) => b - a).slice(0, 8);
    for (const [reason, programs] of most) lines.push(`${name}: ${programs} programs: ${reason}`);
  }
  const seen = [...tally.rows.values()].filter((programs) => programs > 0);
  const [rarest] = [...tally.rows].sort(([, a], [, b]) => a - b);
  lines.push(
    `${seen.length} of ${tally.rows.size} instruction forms; the rarest, ${rarest![0]}, in ${rarest![1]} programs`,
  );
  return lines.join('\n');
}
