// The checksums of on-disk structures: 16 bytes, of which all but the MACs use the first 8, little-endian.

import { poly1305 } from '@noble/ciphers/_poly1305';
import { createCRC32, createCRC64, createXXHash64, type IHasher } from 'hash-wasm';
import type { Where } from '../errors.js';
import { type ChaChaKey, type Nonce, polyKey } from './crypt.js';
import { damage } from './damage.js';

/** enum bch_csum_type. */
const CHECKSUM = {
  none: 0,
  crc32c: 1,
  crc64: 2,
  poly1305Short: 3,
  poly1305: 4,
  crc32cBare: 5,
  crc64Bare: 6,
  xxhash: 7,
} as const;

const CHECKSUM_BYTES = 16;
const SHORT_MAC_BYTES = 10;
const CRC32C_POLYNOMIAL = 0x82f63b78;
/** CRC-64 ECMA-182, bit-reversed: hash-wasm's is the reflected kind. */
const CRC64_POLYNOMIAL = 'c96c5795d7870f42';
const REVERSED_BITS = Uint8Array.from({ length: 256 }, (_, byte) => {
  let reversed = 0;
  for (let bit = 0; bit < 8; bit++) if (byte & (1 << bit)) reversed |= 0x80 >> bit;
  return reversed;
});

interface Mac {
  readonly key: ChaChaKey;
  readonly nonce: Nonce;
}

/** Whether a bset or journal entry with this checksum is encrypted. */
export function isMac(type: number): boolean {
  return type === CHECKSUM.poly1305 || type === CHECKSUM.poly1305Short;
}

/** The hash functions are WebAssembly, which is compiled asynchronously; used synchronously from then on. */
export class Checksums {
  private constructor(
    private readonly crc32c: IHasher,
    private readonly crc64: IHasher,
    private readonly xxhash: IHasher,
  ) {}

  static async load(): Promise<Checksums> {
    return new Checksums(
      await createCRC32(CRC32C_POLYNOMIAL),
      await createCRC64(CRC64_POLYNOMIAL),
      await createXXHash64(),
    );
  }

  /**
   * Checks a structure, of which the first 16 bytes are the checksum of the rest.
   * @param mac the key and nonce of the structure, if there is a key
   * @throws ImageError 'bad_checksum', 'unknown_checksum' or 'no_key'
   */
  require(type: number, bytes: Uint8Array, what: string, where: Where, mac?: Mac): void {
    if (isMac(type) && !mac) {
      throw damage('no_key', `${what}: it is encrypted, and the superblock says that nothing is`, where);
    }
    const checksum = this.of(type, bytes.subarray(CHECKSUM_BYTES), mac);
    if (!checksum) throw damage('unknown_checksum', `${what}: there is no checksum type ${type}`, where);
    if (Buffer.compare(checksum, bytes.subarray(0, CHECKSUM_BYTES)) === 0) return;
    throw damage('bad_checksum', `${what}: the checksum does not match`, where);
  }

  /**
   * The 16 bytes of the checksum field for `data`, or undefined for a type that does not exist.
   * @param mac needed for types 3 and 4
   */
  of(type: number, data: Uint8Array, mac?: Mac): Uint8Array | undefined {
    switch (type) {
      case CHECKSUM.none:
        return field([]);
      case CHECKSUM.crc32c:
        return field(digest(this.crc32c, data).reverse());
      case CHECKSUM.crc64:
        return field(this.#crc64(data));
      case CHECKSUM.crc32cBare:
        return field(withoutInversion((bytes) => digest(this.crc32c, bytes).reverse(), data));
      case CHECKSUM.crc64Bare:
        return field(withoutInversion((bytes) => this.#crc64(bytes), data));
      case CHECKSUM.xxhash:
        return field(digest(this.xxhash, data).reverse());
      case CHECKSUM.poly1305:
        return mac && field(poly1305(data, polyKey(mac.key, mac.nonce)));
      case CHECKSUM.poly1305Short:
        return mac && field(poly1305(data, polyKey(mac.key, mac.nonce)).subarray(0, SHORT_MAC_BYTES));
      default:
        return undefined;
    }
  }

  /** Top bit first: the reflected CRC of the data with the bits of each byte reversed, itself reversed. */
  #crc64(data: Uint8Array): Uint8Array {
    return digest(
      this.crc64,
      data.map((byte) => REVERSED_BITS[byte]!),
    ).map((byte) => REVERSED_BITS[byte]!);
  }
}

function digest(hasher: IHasher, data: Uint8Array): Uint8Array {
  return hasher.init().update(data).digest('binary');
}

/** A CRC is linear: the initial value and final inversion are what zeros of the same length give. */
function withoutInversion(crc: (data: Uint8Array) => Uint8Array, data: Uint8Array): Uint8Array {
  const ofZeros = crc(new Uint8Array(data.length));
  return crc(data).map((byte, i) => byte ^ ofZeros[i]!);
}

function field(bytes: ArrayLike<number>): Uint8Array {
  const padded = new Uint8Array(CHECKSUM_BYTES);
  padded.set(bytes);
  return padded;
}
