// Compares with what was recorded as fast as it can, and ends with 1 at the first difference: node recorded-check.js [GROUP]
// The groups named are looked at first.

import { GROUPS, lineOf, recordedLines } from './recorded.js';

const first = process.argv.slice(2);
const recorded = recordedLines();
const groups = [
  ...GROUPS.filter(([title]) => first.includes(title)),
  ...GROUPS.filter(([title]) => !first.includes(title)),
];
for (const [title, results] of groups) {
  const lines = recorded.get(title) ?? [];
  const start = process.cpuUsage().user;
  let at = 0;
  try {
    for (const result of results())
      if (lineOf(result) !== lines[at++]) fail(title, `${lineOf(result)}, not ${lines[at - 1]}`);
    if (at !== lines.length) fail(title, `${at} lines instead of ${lines.length}`);
  } catch (error) {
    fail(title, String(error));
  }
  if (process.env.TIMES === '1') console.log(`${title}: ${(process.cpuUsage().user - start) / 1000} ms`);
}

function fail(title: string, what: string): never {
  console.log(`${title}: ${what.slice(0, 300)}`);
  process.exit(1);
}
