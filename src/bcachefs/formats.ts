// Key formats of a file system. Many nodes have the same one; they share one unpacker.

import {
  bkeyFormatFromBytes,
  createUnpacker,
  type Format,
  type Unpacker,
  type UnpackerOptions,
} from '../index.js';

interface KnownFormat {
  readonly format: Format;
  readonly unpacker: Unpacker;
}

export class FormatCache {
  readonly #known = new Map<string, KnownFormat>();

  constructor(private readonly engine: NonNullable<UnpackerOptions['engine']>) {}

  /** Number of different formats met so far. */
  get size(): number {
    return this.#known.size;
  }

  /**
   * @param raw struct bkey_format, 56 bytes
   * @throws FormatError if bcachefs would not accept it
   */
  get(raw: Uint8Array): KnownFormat {
    const name = Buffer.from(raw).toString('latin1');
    let known = this.#known.get(name);
    if (!known) {
      const format = bkeyFormatFromBytes(raw);
      known = { format, unpacker: createUnpacker(format, { engine: this.engine }) };
      this.#known.set(name, known);
    }
    return known;
  }

  dispose(): void {
    for (const { unpacker } of this.#known.values()) unpacker.dispose();
    this.#known.clear();
  }
}
