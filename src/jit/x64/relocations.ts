// Immediates that are known only where the code is placed.

import type { Relocation } from '../target.js';
import type { Assembler, Assembly, Label } from './assemble.js';
import { register } from './operands.js';

/** Stand in for what is not known yet; the address is one that faults. */
const ADDRESS = 0xcccc_cccc_cccc_ccccn;
const NUMBER = 0x7fff_ffff;

type Symbol = Relocation['symbol'];

export class Relocations {
  readonly #asm: Assembler;
  readonly #places: { readonly end: Label; readonly bytes: number; readonly symbol: Symbol }[] = [];

  constructor(asm: Assembler) {
    this.#asm = asm;
  }

  /** Puts an address into a register of the machine. */
  loadAddress(to: number, symbol: Symbol): void {
    this.#asm.emit('mov', register(to), ADDRESS);
    this.#note(8, symbol);
  }

  /** Puts a number of 32 bits into a register of the machine. */
  loadNumber(to: number, symbol: Symbol): void {
    this.#asm.emit('mov', register(to, 32), NUMBER);
    this.#note(4, symbol);
  }

  resolve(assembly: Assembly): Relocation[] {
    return this.#places.map(({ end, bytes, symbol }) => ({ offset: assembly.offsetOf(end) - bytes, symbol }));
  }

  /** The last `bytes` bytes emitted are to be filled in. */
  #note(bytes: number, symbol: Symbol): void {
    const end = this.#asm.label();
    this.#asm.bind(end);
    this.#places.push({ end, bytes, symbol });
  }
}
