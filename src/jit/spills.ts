// The stack of a program that is lifted: values are put there in parts and come back in others.

import { ZERO } from '../halves.js';
import { add, constant, type MaybeSum, shiftLeft, shiftRight, truncate } from './slices.js';

/** Byte `index` of a value that was stored. */
interface Spilled<Pointer> {
  readonly stored: { readonly value: MaybeSum | Pointer };
  readonly index: number;
}

export class Spills<Pointer extends object> {
  /** By offset; made when the stack is used, which lowered formats do not. */
  #bytes: Map<number, Spilled<Pointer>> | undefined;
  readonly #isPointer: (value: MaybeSum | Pointer) => value is Pointer;

  constructor(isPointer: (value: MaybeSum | Pointer) => value is Pointer) {
    this.#isPointer = isPointer;
  }

  store(offset: number, size: number, value: MaybeSum | Pointer): void {
    const stored = { value };
    this.#bytes ??= new Map();
    for (let index = 0; index < size; index++) this.#bytes.set(offset + index, { stored, index });
  }

  /** Undefined for what has no slice form. */
  load(offset: number, size: number): MaybeSum | Pointer {
    const first = this.#bytes?.get(offset);
    if (first && this.#isPointer(first.stored.value))
      return first.index === 0 && size === 8 && this.#run(offset, 8) === 8 ? first.stored.value : undefined;
    if (this.#run(offset, size) === size) return this.#part(offset, size);
    let value: MaybeSum = constant(ZERO);
    for (let done = 0; done < size; ) {
      const bytes = this.#run(offset + done, size - done);
      value = add(value, shiftLeft(this.#part(offset + done, bytes), done * 8), 64);
      done += bytes;
    }
    return value;
  }

  /** How many bytes, of at most `most` from an offset on, follow each other in one value; at least 1. */
  #run(offset: number, most: number): number {
    const first = this.#bytes?.get(offset);
    let length = 1;
    for (; length < most; length++) {
      const next = this.#bytes?.get(offset + length);
      if (!next || next.stored !== first?.stored || next.index !== first.index + length) break;
    }
    return length;
  }

  #part(offset: number, bytes: number): MaybeSum {
    const spilled = this.#bytes?.get(offset);
    if (!spilled || this.#isPointer(spilled.stored.value)) return undefined;
    return truncate(shiftRight(spilled.stored.value, spilled.index * 8), bytes * 8);
  }
}
