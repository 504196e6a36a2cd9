// What a program under construction knows of its registers: enough that everything it goes on to do is valid.

/** A pointer to byte `at` of `bytes` bytes that start at a multiple of 8. */
export interface Pointer {
  readonly kind: 'pointer';
  readonly bytes: number;
  readonly at: number;
}

/** Nothing may read an empty register. */
export type Held = 'empty' | 'number' | Pointer;

export class State {
  readonly #held: Held[] = new Array<Held>(10).fill('empty');
  /** Registers that may not change at present: counters of loops, and pointers that a block found. */
  readonly #pinned = new Set<number>();

  get(register: number): Held {
    return this.#held[register]!;
  }

  set(register: number, held: Held): void {
    if (this.#pinned.has(register)) throw new Error(`r${register} is pinned`);
    this.#held[register] = held;
  }

  numbers(): number[] {
    return this.#those((held) => held === 'number');
  }

  pointers(): number[] {
    return this.#those((held) => typeof held === 'object');
  }

  /** Registers that may be changed. */
  free(): number[] {
    return this.#those(() => true).filter((register) => !this.#pinned.has(register));
  }

  /** Whether r0 to r5 may be lost. */
  get mayCall(): boolean {
    return ![0, 1, 2, 3, 4, 5].some((register) => this.#pinned.has(register));
  }

  /**
   * Runs `body` with pointers and `counter` pinned. Afterwards `mend` is called for every register that held a number
   * and holds none any more; registers that held nothing are empty again.
   */
  block(counter: number | undefined, body: () => void, mend: (register: number) => void): void {
    const before = [...this.#held];
    const pinned = [...this.pointers(), ...(counter === undefined ? [] : [counter])].filter(
      (register) => !this.#pinned.has(register),
    );
    for (const register of pinned) this.#pinned.add(register);
    body();
    before.forEach((held, register) => {
      if (held === 'number' && this.#held[register] !== 'number') mend(register);
    });
    for (const register of pinned) this.#pinned.delete(register);
    before.forEach((held, register) => {
      if (held === 'empty') this.#held[register] = 'empty';
    });
  }

  #those(wanted: (held: Held) => boolean): number[] {
    return [...this.#held.keys()].filter((register) => wanted(this.#held[register]!));
  }
}
