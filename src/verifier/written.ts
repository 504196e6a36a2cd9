// Which bytes of an output region have certainly been written: disjoint intervals in ascending order, immutable.

/** start, end (exclusive), start, end, … */
export type Written = readonly number[];

export const NOTHING: Written = [];

// Beyond this the smallest addition is forgotten, which can only make a proof fail.
const MAX_NUMBERS = 8192;

export function add(written: Written, start: number, end: number): Written {
  if (start >= end) return written;
  if (written.length === 0) return [start, end];
  if (written.length === 2 && written[1] === start) return [written[0]!, end];
  // Intervals that touch [start, end) lie from index `first` to before `last`.
  const first = countBelow(written, (i) => written[i + 1]! < start);
  const last = countBelow(written, (i) => written[i]! <= end);
  const from = first < last ? Math.min(start, written[first]!) : start;
  const to = first < last ? Math.max(end, written[last - 1]!) : end;
  if (last - first === 2 && from === written[first] && to === written[last - 1]) return written;
  if (written.length - (last - first) >= MAX_NUMBERS) return written;
  return [...written.slice(0, first), from, to, ...written.slice(last)];
}

/** Index of the first interval for which `holds` no longer does, by bisection. */
function countBelow(written: Written, holds: (index: number) => boolean): number {
  let low = 0;
  let high = written.length / 2;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(2 * middle)) low = middle + 1;
    else high = middle;
  }
  return 2 * low;
}

export function includes(written: Written, others: Written): boolean {
  let at = 0;
  for (let i = 0; i < others.length; i += 2) {
    while (at < written.length && written[at + 1]! < others[i + 1]!) at += 2;
    if (at >= written.length || written[at]! > others[i]!) return false;
  }
  return true;
}

/** The first byte of `bytes` that is missing, or -1. */
export function firstMissing(written: Written, bytes: number): number {
  if (bytes === 0) return -1;
  if (written.length === 0 || written[0]! > 0) return 0;
  return written[1]! >= bytes ? -1 : written[1]!;
}
