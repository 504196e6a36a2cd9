// Memory that a program brings along: tables, strings and variables of the C that it was compiled from.

export interface DataSpec {
  readonly name: string;
  /** What is there when the program starts. */
  readonly bytes: Uint8Array;
  readonly writable: boolean;
  /** A power of two; the section starts at a multiple of it. Default, and least: 8. */
  readonly alignment?: number;
}

/** A data section of a program. Nothing that runs changes it: engines work on copies. */
export class DataSection {
  /** As in the object: `.rodata`, `.data`, `.bss`, … */
  readonly name: string;
  /** Length in bytes. */
  readonly size: number;
  readonly writable: boolean;
  /** A power of two from 8 on: the section starts at a multiple of it. */
  readonly alignment: number;
  readonly #bytes: Uint8Array;

  /** @internal */
  constructor({ name, bytes, writable, alignment = 8 }: DataSpec) {
    this.#bytes = new Uint8Array(bytes);
    this.name = name;
    this.size = bytes.length;
    this.writable = writable;
    this.alignment = Math.max(8, alignment);
    Object.freeze(this);
  }

  /** A copy of what is there when the program starts. */
  get bytes(): Uint8Array {
    return this.#bytes.slice();
  }
}
