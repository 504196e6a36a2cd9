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

  /** The bytes, which are nobody else's from now on; the buffer is empty then. */
  take(): Uint8Array {
    const taken = copyOf(this.#bytes, this.length);
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

// Routines have some ninety bytes. They share buffers, because one of its own takes half a microsecond to get, and more to collect.
const SHARED_BYTES = 8192;
const MAX_SHARING_BYTES = 1024;
let shared = new Uint8Array(0);
let used = 0;

function copyOf(bytes: Uint8Array, length: number): Uint8Array {
  if (length > MAX_SHARING_BYTES) return bytes.slice(0, length);
  if (used + length > shared.length) {
    shared = new Uint8Array(SHARED_BYTES);
    used = 0;
  }
  const copy = new Uint8Array(shared.buffer, used, length);
  for (let i = 0; i < length; i++) copy[i] = bytes[i]!;
  used += length;
  return copy;
}
