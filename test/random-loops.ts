// Random programs with loops, most of which end after a few rounds, and some of which do not end or leave their memory.

import type { ArgSpec } from '../src/bpf/contract.js';
import type { Random } from './random-formats.js';

export interface LoopProgram {
  text: string;
  args: ArgSpec[];
}

const MEMORY = 48;
const COUNTERS = ['3', '4', '5'];
const OPS = ['<', '<=', '>', '>=', '!=', 's<', 's<=', 's>', 's>=', '==', '&'];
const STARTS = [0, 0, 0, 1, 7, 16, 40, -1, -8, 0x7ffffff0, -0x7ffffff8];
const STEPS = [1, 1, 1, 1, 2, 3, 4, 8, -1, -1, -2, -8];
const ENDS = [0, 1, 8, 10, 16, 31, 32, 40, 48, -1, -4, 0x7fffffff];

/** r1 = memory to be read, r2 = a number of a few; r3 to r5 count, r6 points into the memory, r7 is read from it. */
export function randomLoopProgram(random: Random): LoopProgram {
  return new Writer(random).program();
}

class Writer {
  readonly #lines: string[] = [];
  #labels = 0;

  constructor(readonly random: Random) {}

  program(): LoopProgram {
    for (const counter of COUNTERS) this.#emit(`r${counter} = ${this.#pick(STARTS)}`);
    if (this.#chance(4)) this.#emit(`r${this.#pick(COUNTERS)} = r2`);
    if (this.#chance(4)) this.#emit(`w${this.#pick(COUNTERS)} = ${this.#pick(STARTS)}`);
    this.#emit('r6 = r1', 'r7 = 0', 'r0 = 0', '*(u64 *)(r10 - 8) = r3', '*(u64 *)(r10 - 16) = r4');
    this.#loop(2);
    if (this.#chance(4)) this.#loop(1);
    if (this.#chance(4)) this.#access();
    this.#emit('exit');
    const min = BigInt(this.random(3));
    return {
      text: this.#lines.join('\n'),
      args: [
        { kind: 'memory', bytes: MEMORY, access: 'read' },
        { kind: 'scalar', min, max: min + BigInt(this.random(45)) },
      ],
    };
  }

  #loop(depth: number): void {
    const [head, out] = [this.#label(), this.#label()];
    const testsFirst = this.#chance(2);
    const test = this.#condition();
    this.#emit(`${head}: r0 += 1`);
    if (testsFirst) this.#emit(`if ${test} goto ${out}`);
    for (let left = 1 + this.random(4); left > 0; left--) this.#statement(depth, head, out);
    this.#emit(testsFirst ? `goto ${head}` : `if ${test} goto ${head}`, `${out}: r0 += 2`);
  }

  #statement(depth: number, head: string, out: string): void {
    const counter = this.#pick(COUNTERS);
    switch (this.random(16)) {
      case 0:
      case 1:
        this.#emit(`r6 += ${this.#pick(STEPS)}`);
        return;
      case 2:
        this.#emit(`r7 = *(u8 *)(r1 + ${this.random(MEMORY)})`);
        return;
      case 3:
      case 4:
        this.#access();
        return;
      case 5: {
        const over = this.#label();
        this.#emit(`if ${this.#condition()} goto ${over}`);
        this.#statement(depth, head, out);
        this.#emit(`${over}: r0 += 1`);
        return;
      }
      case 6:
        this.#emit(`if ${this.#condition()} goto ${this.#chance(3) ? head : out}`);
        return;
      case 7:
        this.#emit(`r${counter} = ${this.#chance(2) ? `r${this.#pick(COUNTERS)}` : this.#pick(STARTS)}`);
        return;
      case 8:
        if (depth > 1) this.#loop(depth - 1);
        return;
      case 9:
        this.#emit(`r${counter} ${this.#pick(['+=', '-=', '&=', '>>='])} ${this.#chance(2) ? 'r7' : 'r2'}`);
        return;
      case 10:
        this.#emit('r8 = *(u64 *)(r10 - 8)', `r8 += ${this.#pick(STEPS)}`, '*(u64 *)(r10 - 8) = r8');
        return;
      case 11:
        this.#emit(`r${counter} = *(u64 *)(r10 - 8)`);
        return;
      case 12:
        this.#emit('w8 = *(u32 *)(r10 - 16)'.replace('w8', 'r8'), 'w8 += 1', '*(u32 *)(r10 - 16) = r8');
        return;
      default:
        this.#emit(`${this.#pick(['r', 'r', 'w'])}${counter} += ${this.#pick(STEPS)}`);
    }
  }

  #access(): void {
    if (this.#chance(2)) this.#emit('r8 = r6');
    else this.#emit('r8 = r1', `r8 += r${this.#pick(COUNTERS)}`);
    const size = this.#pick([8, 16, 32, 64]);
    this.#emit(`r7 = *(u${size} *)(r8 ${this.#pick(['+ 0', '+ 0', '+ 0', '+ 1', '+ 8', '- 1'])})`);
  }

  #condition(): string {
    const left = this.#pick([...COUNTERS, ...COUNTERS, '2', '7', '0']);
    const kind = this.#pick(['r', 'r', 'w']);
    const right = this.#pick([2, 3, 5].map(String));
    return `${kind}${left} ${this.#pick(OPS)} ${this.#chance(3) ? kind + right : this.#pick(ENDS)}`;
  }

  #label = (): string => `l${this.#labels++}`;
  #emit = (...lines: string[]): void => void this.#lines.push(...lines);
  #chance = (one: number): boolean => this.random(one) === 0;
  #pick = <T>(from: readonly T[]): T => from[this.random(from.length)]!;
}
