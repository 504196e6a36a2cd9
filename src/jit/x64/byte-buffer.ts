// A growing run of bytes.

const NONE = new Uint8Array(0);
const FIRST_BYTES = 256;

export class ByteBuffer {
  #bytes = NONE;
  length = 0;

  byte(value: number): void {
    if (this.length === this.#bytes.length) this.#grow();
    this.#bytes[this.length++] = value;
  }

  /** The low `size` bytes of a number, lowest first; more than 4 of a bigint only. */
  little(value: number | bigint, size: number): void {
    if (typeof value === 'bigint') {
      for (let i = 0; i < size; i++) this.byte(Number((value >> BigInt(8 * i)) & 0xffn));
    } else {
      for (let i = 0; i < size; i++) this.byte((value >> (8 * i)) & 0xff);
    }
  }

  bytes(): Uint8Array {
    return this.#bytes.slice(0, this.length);
  }

  #grow(): void {
    const bytes = new Uint8Array(Math.max(FIRST_BYTES, this.#bytes.length * 2));
    bytes.set(this.#bytes);
    this.#bytes = bytes;
  }
}
