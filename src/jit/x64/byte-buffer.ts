// A growing run of bytes.

const NONE = new Uint8Array(0);
const FIRST_BYTES = 512;
/** Memory that a buffer has left behind: to get some anew takes half a microsecond. */
let spare: Uint8Array | undefined;
const MAX_SPARE_BYTES = 2 ** 16;

export class ByteBuffer {
  #bytes: Uint8Array = NONE;
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

  /** A copy of the bytes; the buffer is empty then. */
  take(): Uint8Array {
    const taken = this.#bytes.slice(0, this.length);
    if (this.length > 0 && this.#bytes.length <= MAX_SPARE_BYTES) spare = this.#bytes;
    this.#bytes = NONE;
    this.length = 0;
    return taken;
  }

  #grow(): void {
    const bytes = this.length === 0 ? firstBytes() : new Uint8Array(this.length * 2);
    bytes.set(this.#bytes);
    this.#bytes = bytes;
  }
}

function firstBytes(): Uint8Array {
  const bytes = spare ?? new Uint8Array(FIRST_BYTES);
  spare = undefined;
  return bytes;
}
