// RECORD_VERDICTS=1 npx vitest run test/recorded.test.ts records anew what is meant to have changed; the diff tells what.

import { writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { GROUPS, lineOf, RECORDED, recordedLines } from './recorded.js';

if (process.env.RECORD_VERDICTS === '1') {
  const groups = GROUPS.map(([title, results]) => [`== ${title}`, ...[...results()].map(lineOf)].join('\n'));
  writeFileSync(RECORDED, `${groups.join('\n\n')}\n`);
}

describe('as it was recorded', () => {
  const recorded = recordedLines();
  it.each(GROUPS)('%s', (title, results) => {
    expect([...results()].map(lineOf)).toEqual(recorded.get(title));
  });
});
