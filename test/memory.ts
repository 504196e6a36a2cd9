// The most memory that a stretch of a test has resident. The mark is the kernel's, so nothing slips by between samples;
// writing 5 to clear_refs starts it anew, so an earlier peak hides none.

import { existsSync, writeFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

const RESET = '/proc/self/clear_refs';
export const canMeasure = existsSync(RESET);
if (!canMeasure) console.warn(`NOT TESTED: limits of memory, because there is no ${RESET} here`);

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;
/** Garbage from before hides as much; but collecting it before each of thousands of runs would take too long. */
const MAX_GARBAGE_BYTES = 32 * 2 ** 20;
const COLLECT_EVERY_MS = 1000;
let collected = { bytes: 0, at: Number.NEGATIVE_INFINITY };

/** @returns what to call later for the bytes by which the memory grew, at its peak; 0 where it cannot be measured */
export function watchMemory(): () => number {
  if (!canMeasure) return () => 0;
  const grown = process.memoryUsage.rss() - collected.bytes;
  if (grown > MAX_GARBAGE_BYTES || performance.now() - collected.at > COLLECT_EVERY_MS) {
    collectGarbage();
    // Buffers are given back in the background; a second collection waits for that.
    collectGarbage();
    collected = { bytes: process.memoryUsage.rss(), at: performance.now() };
  }
  writeFileSync(RESET, '5');
  const before = peakBytes();
  return () => peakBytes() - before;
}

const peakBytes = (): number => process.resourceUsage().maxRSS * 1024;
