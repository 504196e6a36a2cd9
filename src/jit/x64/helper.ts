// Calls of helper functions. JavaScript answers all of them through one function, which takes r1 to r5 and, in r9, which
// helper is meant. Native code runs on after a JavaScript exception; so the code raises a flag before each call, the
// function lowers it once it has answered, and if it is still up the program is left at once, from any depth.

import type { Relocation } from '../target.js';
import { type Frame, popFrame, pushedBy } from './abi.js';
import type { Assembler, Assembly, Label } from './assemble.js';
import { memory, R9, R11, R12, RAX, RBP, RSP, register } from './operands.js';

/** Stand in for what is not known yet; the address is one that faults. */
const ADDRESS = 0xcccc_cccc_cccc_ccccn;
const NUMBER = 0x7fff_ffff;

export class HelperCalls {
  readonly #asm: Assembler;
  readonly #call: Label;
  readonly #places: { readonly end: Label; readonly bytes: number; readonly symbol: Relocation['symbol'] }[] =
    [];

  constructor(asm: Assembler) {
    this.#asm = asm;
    this.#call = asm.label();
  }

  /** Before the program's first frame: r12 remembers rsp, so that the program can be left from any depth. */
  enter(): void {
    this.#asm.emit('push', register(R12));
    this.#asm.emit('mov', register(R12), register(RSP));
  }

  leave(): void {
    this.#asm.emit('pop', register(R12));
  }

  call(helper: number): void {
    this.#asm.emit('mov', register(R9, 32), NUMBER);
    this.#relocate(4, { helper });
    this.#asm.jump('call', this.#call);
  }

  /** What all calls share, behind the program. `frame` is that of its outermost function. */
  finish(frame: Frame): void {
    const asm = this.#asm;
    const left = asm.label();
    asm.bind(this.#call);
    this.#flag();
    asm.emit('mov', memory(32, R11), 1);
    asm.emit('mov', register(RAX), ADDRESS);
    this.#relocate(8, 'helper dispatch');
    asm.emit('push', register(RBP));
    asm.emit('mov', register(RBP), register(RSP));
    asm.emit('and', register(RSP), -16);
    asm.emit('call', register(RAX));
    asm.emit('leave');
    this.#flag();
    asm.emit('cmp', memory(32, R11), 0);
    asm.jump('jne', left);
    asm.emit('ret');
    asm.bind(left);
    asm.emit('lea', register(RSP), memory(64, R12, -8 * pushedBy(frame)));
    popFrame(asm, frame);
    this.leave();
    asm.emit('ret');
  }

  relocations(assembly: Assembly): Relocation[] {
    return this.#places.map(({ end, bytes, symbol }) => ({ offset: assembly.offsetOf(end) - bytes, symbol }));
  }

  #flag(): void {
    this.#asm.emit('mov', register(R11), ADDRESS);
    this.#relocate(8, 'abort flag');
  }

  /** The last `bytes` bytes emitted are for the arena to fill in. */
  #relocate(bytes: number, symbol: Relocation['symbol']): void {
    const end = this.#asm.label();
    this.#asm.bind(end);
    this.#places.push({ end, bytes, symbol });
  }
}
