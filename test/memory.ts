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
/** Garbage from before would hide as much; collecting it takes too long to do it every time. */
const MAX_GARBAGE_BYTES = 32 * 2 ** 20;
let clean = 0;

/** @returns what to call later for the bytes by which the memory grew, at its peak; 0 where it cannot be measured */
export function watchMemory(): () => number {
  if (!canMeasure) return () => 0;
  if (process.memoryUsage.rss() > clean + MAX_GARBAGE_BYTES) {
    collectGarbage();
    clean = process.memoryUsage.rss();
  }
  writeFileSync(RESET, '5');
  const before = peakBytes();
  return () => peakBytes() - before;
}

const peakBytes = (): number => process.resourceUsage().maxRSS * 1024;
