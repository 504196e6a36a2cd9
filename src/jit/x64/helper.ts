// Calls of helper functions. JavaScript answers all of them through one function, which takes r1 to r5 and, in r9, which
// helper is meant. Native code runs on after a JavaScript exception; so the code raises a flag before each call, the
// function lowers it once it has answered, and if it is still up the program is left at once, from any depth.
//
// A helper function may call code that calls helper functions. The code counts how deep that goes, since JavaScript that
// is cut off counts nothing; each depth has a flag of its own. CALL_STATE has the layout.

import { type Frame, popFrame, pushedBy } from './abi.js';
import type { Assembler, Label } from './assemble.js';
import { indexed, memory, R9, R10, R11, R12, RAX, RBP, RSP, register } from './operands.js';
import type { Relocations } from './relocations.js';

export class HelperCalls {
  readonly #asm: Assembler;
  readonly #call: Label;
  readonly #relocations: Relocations;

  constructor(asm: Assembler, relocations: Relocations) {
    this.#asm = asm;
    this.#relocations = relocations;
    this.#call = asm.label();
  }

  /** Before the program's first frame: r12 remembers rsp, so that the program can be left from any depth. */
  enter(): void {
    this.#asm.emit('push', register(R12));
    this.#asm.emit('mov', register(R12), register(RSP));
    this.#relocations.loadAddress(R11, 'call state');
    this.#asm.emit('add', memory(32, R11), 1);
  }

  leave(): void {
    this.#relocations.loadAddress(R11, 'call state');
    this.#asm.emit('sub', memory(32, R11), 1);
    this.#asm.emit('pop', register(R12));
  }

  call(helper: number): void {
    this.#relocations.loadNumber(R9, { helper });
    this.#asm.jump('call', this.#call);
  }

  /** What all calls share, behind the program. `frame` is that of its outermost function. */
  finish(frame: Frame): void {
    const asm = this.#asm;
    const left = asm.label();
    asm.bind(this.#call);
    this.#loadFlag();
    asm.emit('mov', indexed(32, R11, R10, 4), 1);
    this.#relocations.loadAddress(RAX, 'helper dispatch');
    asm.emit('push', register(RBP));
    asm.emit('mov', register(RBP), register(RSP));
    asm.emit('and', register(RSP), -16);
    asm.emit('call', register(RAX));
    asm.emit('leave');
    this.#loadFlag();
    asm.emit('cmp', indexed(32, R11, R10, 4), 0);
    asm.jump('jne', left);
    asm.emit('ret');
    asm.bind(left);
    asm.emit('lea', register(RSP), memory(64, R12, -8 * pushedBy(frame)));
    popFrame(asm, frame);
    this.leave();
    asm.emit('ret');
  }

  /** The flag of this depth is then at r11 + r10 * 4. */
  #loadFlag(): void {
    this.#relocations.loadAddress(R11, 'call state');
    this.#asm.emit('mov', register(R10, 32), memory(32, R11));
  }
}
