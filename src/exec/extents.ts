// Free granules of an arena: runs kept in order, joined with their neighbours when they come back.

interface Extent {
  start: number;
  length: number;
}

export class Extents {
  readonly #runs: Extent[] = [];

  /** Takes `length` granules, from a multiple of `multiple` on, from the first run that has them; undefined if none has. */
  take(length: number, multiple = 1): number | undefined {
    const aligned = (run: Extent) => Math.ceil(run.start / multiple) * multiple;
    const index = this.#runs.findIndex((run) => aligned(run) + length <= run.start + run.length);
    if (index === -1) return undefined;
    const run = this.#runs[index]!;
    const start = aligned(run);
    const end = run.start + run.length;
    const around = [
      { start: run.start, length: start - run.start },
      { start: start + length, length: end - start - length },
    ];
    this.#runs.splice(index, 1, ...around.filter((rest) => rest.length > 0));
    return start;
  }

  /** Gives granules back. They must not be free already. */
  give(start: number, length: number): void {
    const index = this.#after(start);
    const before = this.#runs[index - 1];
    const after = this.#runs[index];
    const joinsBefore = before !== undefined && before.start + before.length === start;
    const joinsAfter = after !== undefined && start + length === after.start;
    if (joinsBefore && joinsAfter) {
      before.length += length + after.length;
      this.#runs.splice(index, 1);
    } else if (joinsBefore) {
      before.length += length;
    } else if (joinsAfter) {
      after.start = start;
      after.length += length;
    } else {
      this.#runs.splice(index, 0, { start, length });
    }
  }

  /** Index of the first run that starts behind `start`. */
  #after(start: number): number {
    let low = 0;
    let high = this.#runs.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#runs[middle]!.start > start) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
