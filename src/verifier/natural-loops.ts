// The loops of a program: each has one head, which is its only way in, and to which its jumps back lead.

import type { Program } from '../bpf/program.js';
import { type Cfg, successors } from './cfg.js';

export interface Loop {
  readonly head: number;
  /** Its instructions, without those of functions that it calls. */
  readonly body: ReadonlySet<number>;
}

/** Finds loops when asked for. */
export class NaturalLoops {
  readonly #program: Program;
  readonly #cfg: Cfg;
  readonly #found = new Map<number, Loop | undefined>();
  #before: number[][] | undefined;

  constructor(program: Program, cfg: Cfg) {
    this.#program = program;
    this.#cfg = cfg;
  }

  /** The loop with this head; undefined where there is none, or where there is another way in. */
  at(head: number): Loop | undefined {
    if (!this.#cfg.heads[head]) return undefined;
    if (!this.#found.has(head)) this.#found.set(head, this.#find(head));
    return this.#found.get(head);
  }

  #find(head: number): Loop | undefined {
    const before = (this.#before ??= this.#predecessors());
    const entry = this.#cfg.functions[head]!;
    const body = new Set([head]);
    // Every way back from a jump to the head has to come by the head.
    const open = before[head]!.filter((index) => index >= head);
    for (let index = open.pop(); index !== undefined; index = open.pop()) {
      if (body.has(index)) continue;
      if (index === entry) return undefined;
      body.add(index);
      open.push(...before[index]!);
    }
    return { head, body };
  }

  #predecessors(): number[][] {
    const { instructions } = this.#program;
    const before: number[][] = instructions.map(() => []);
    instructions.forEach((_, index) => {
      for (const next of successors(this.#program, index)) before[next]?.push(index);
    });
    return before;
  }
}
