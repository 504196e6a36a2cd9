// Free granules of an arena, as runs in lists by size ("two-level segregated fit": M. Masmano and others, 2004): taking and giving
// look at a bounded number of runs, however many there are.
//
//   #length   5 . . . -5 0 0 0 1 0 0 2 -2    at the first granule of a free run its length, at the last (of several) that negated; else 0
//   #next, #previous                         at the first granule: the neighbours in the list of the run's class
//
// A run of fewer than 64 granules is in a class of its own length, so that the first one found fits best; longer ones are
// in eight classes for each power of two.

const EXACT = 64;
const EXACT_LOG = 6;
const STEPS_LOG = 3;
const CLASSES = 256;
const NONE = -1;
/** Runs of a class that are looked at before going on to the next: of those, some may be too short, or not reach a multiple. */
const TRIES = 8;

function classOf(length: number): number {
  if (length < EXACT) return length;
  const log = 31 - Math.clz32(length);
  const step = (length >> (log - STEPS_LOG)) & ((1 << STEPS_LOG) - 1);
  return EXACT + ((log - EXACT_LOG) << STEPS_LOG) + step;
}

export class Extents {
  #length = new Int32Array(0);
  #next = new Int32Array(0);
  #previous = new Int32Array(0);
  readonly #first = new Int32Array(CLASSES).fill(NONE);
  /** A bit for each class that has a run. */
  readonly #filled = new Int32Array(CLASSES / 32);
  #runs = 0;
  #granules = 0;

  /** How many free runs there are. */
  get runs(): number {
    return this.#runs;
  }

  /** How many granules are free. */
  get granules(): number {
    return this.#granules;
  }

  /**
   * Takes `length` granules, from a multiple of `multiple` on. Undefined if no run has them; or none of those looked at, which
   * takes that no run is longer by an eighth of `length` and `multiple` granules more.
   */
  take(length: number, multiple = 1): number | undefined {
    for (let list = this.#filledFrom(classOf(length)); list < CLASSES; list = this.#filledFrom(list + 1)) {
      let run = this.#first[list]!;
      for (let tries = 0; run !== NONE && tries < TRIES; tries++, run = this.#next[run]!) {
        const start = Math.ceil(run / multiple) * multiple;
        if (start + length > run + this.#length[run]!) continue;
        this.#cut(run, start, length);
        return start;
      }
    }
    return undefined;
  }

  /** Takes granules if all of them are free, and says whether. */
  takeAt(start: number, length: number): boolean {
    let run = start;
    while (run > 0 && this.#length[run] === 0) run--;
    if (this.#length[run]! < 0) run += this.#length[run]! + 1;
    if (run + this.#length[run]! < start + length) return false;
    this.#cut(run, start, length);
    return true;
  }

  /** Gives granules back. They must not be free already. */
  give(start: number, length: number): void {
    this.#reach(start + length);
    this.#granules += length;
    const before = start > 0 ? Math.abs(this.#length[start - 1]!) : 0;
    const after = this.#length[start + length]!;
    if (before > 0) this.#remove(start - before);
    if (after > 0) this.#remove(start + length);
    this.#add(start - before, before + length + after);
  }

  #cut(run: number, start: number, length: number): void {
    const end = run + this.#length[run]!;
    this.#remove(run);
    if (start > run) this.#add(run, start - run);
    if (end > start + length) this.#add(start + length, end - start - length);
    this.#granules -= length;
  }

  // Node:vm may cut JavaScript off where a function is called: so none is, from the first change to the last.
  #add(start: number, length: number): void {
    const list = classOf(length);
    this.#length[start + length - 1] = -length;
    this.#length[start] = length;
    const next = this.#first[list]!;
    this.#next[start] = next;
    this.#previous[start] = NONE;
    if (next === NONE) this.#filled[list >> 5]! |= 1 << (list & 31);
    else this.#previous[next] = start;
    this.#first[list] = start;
    this.#runs++;
  }

  #remove(start: number): void {
    const length = this.#length[start]!;
    const list = classOf(length);
    const previous = this.#previous[start]!;
    const next = this.#next[start]!;
    this.#length[start] = 0;
    this.#length[start + length - 1] = 0;
    if (next !== NONE) this.#previous[next] = previous;
    if (previous !== NONE) this.#next[previous] = next;
    else this.#first[list] = next;
    if (this.#first[list] === NONE) this.#filled[list >> 5]! &= ~(1 << (list & 31));
    this.#runs--;
  }

  /** The first class from `list` on that has a run; CLASSES if none has. */
  #filledFrom(list: number): number {
    if (list >= CLASSES) return CLASSES;
    let word = list >> 5;
    let bits = this.#filled[word]! & (-1 << (list & 31));
    while (bits === 0) {
      if (++word === this.#filled.length) return CLASSES;
      bits = this.#filled[word]!;
    }
    return word * 32 + 31 - Math.clz32(bits & -bits);
  }

  /** Makes room for granules up to `end`, which itself is looked at as the neighbour of the last one. */
  #reach(end: number): void {
    if (end < this.#length.length) return;
    const grown = (old: Int32Array) => {
      const made = new Int32Array(Math.max(end + 1, 2 * old.length));
      made.set(old);
      return made;
    };
    const [length, next, previous] = [grown(this.#length), grown(this.#next), grown(this.#previous)];
    // All of them or none: nothing is called in between.
    this.#length = length;
    this.#next = next;
    this.#previous = previous;
  }
}
