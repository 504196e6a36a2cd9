// The way that the walk took to an instruction, for those who want to know it afterwards.

import type { State } from './states.js';
import { topOf } from './states.js';
import type { Value } from './values.js';

/** Sees the walk go on. It may look at states while it is called, and change nothing. */
export interface Observer {
  /** Before the next instruction of `state` is checked and walked over. */
  step(state: State): void;
  /** `state` is one way out of the branch that was walked over last; it is walked on from later. */
  later?(state: State): void;
  /** `state` is not walked on from: the rest was proven before. */
  proven?(state: State): void;
}

/** One instruction walked over, and what the registers of its frame held before. */
export interface Step {
  readonly index: number;
  /** Frames on the stack: 1 in the function that is called first. */
  readonly depth: number;
  readonly registers: readonly (Value | undefined)[];
}

interface Node extends Step {
  parent: Node | undefined;
  /** Steps from the beginning. */
  readonly length: number;
}

/** Steps of a path that are remembered at least; about 1 KB each. */
const REMEMBERED = 10_000;

/** Remembers the path that is being walked. */
export class PathRecorder implements Observer {
  /** The state that was checked last. */
  last: State | undefined;
  #node: Node | undefined;
  readonly #origins = new WeakMap<State, Node>();

  step(state: State): void {
    const parent = this.#origins.get(state) ?? (this.last === state ? this.#node : undefined);
    this.#origins.delete(state);
    const length = parent ? parent.length + 1 : 0;
    const registers = topOf(state).registers.slice();
    this.#node = { index: state.index, depth: state.frames.length, registers, parent, length };
    this.last = state;
    if (length > 0 && length % REMEMBERED === 0) this.#forget();
  }

  later(state: State): void {
    if (this.#node) this.#origins.set(state, this.#node);
  }

  /** The steps up to the last one, first to last. */
  steps(): Step[] {
    const steps: Step[] = [];
    for (let node = this.#node; node; node = node.parent) steps.push(node);
    return steps.reverse();
  }

  #forget(): void {
    let node = this.#node;
    for (let i = 0; node && i < REMEMBERED; i++) node = node.parent;
    if (node) node.parent = undefined;
  }
}
