// Sequence numbers of the journal that never counted: after a crash, those that were in flight are ruled out.

/** `start` … `end - 1`. */
interface SeqRange {
  readonly start: bigint;
  readonly end: bigint;
}

export class Blacklist {
  readonly #ranges: SeqRange[] = [];

  /** Ranges in any order; they may touch and overlap. */
  constructor(ranges: readonly SeqRange[]) {
    const sorted = ranges
      .filter(({ start, end }) => start < end)
      .sort((a, b) => (a.start < b.start ? -1 : 1));
    for (const range of sorted) {
      const last = this.#ranges.at(-1);
      if (!last || range.start > last.end) this.#ranges.push(range);
      else if (range.end > last.end)
        this.#ranges[this.#ranges.length - 1] = { start: last.start, end: range.end };
    }
  }

  has(seq: bigint): boolean {
    return this.skip(seq) !== seq;
  }

  /** The first sequence number from `seq` on that is not ruled out. */
  skip(seq: bigint): bigint {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#ranges[middle]!.end <= seq) low = middle + 1;
      else high = middle;
    }
    const range = this.#ranges[low];
    return range && range.start <= seq ? range.end : seq;
  }
}
