// ChaCha20 as bcachefs uses it: a nonce is state words 12 to 15, the first of which is the block counter.

import { createCipheriv } from 'node:crypto';
import type { Where } from '../errors.js';
import { damage } from './damage.js';

/** 32 bytes. */
export type ChaChaKey = Uint8Array;
/** Four 32-bit words. */
export type Nonce = readonly [number, number, number, number];

const NONCE_BTREE_NODE = 0x20000000;
const NONCE_JOURNAL = 0x30000000;
const NONCE_POLY = 0x80000000;
const CHACHA_BLOCK_BYTES = 64;
const POLY_KEY_BYTES = 32;
const CLEAR_KEY_MAGIC = 'bch**key';

/**
 * The key of an encrypted file system, which can only be had where it was stored in the clear.
 * @param stored 8 bytes of magic, then the key
 * @param where of the superblock
 * @throws ImageError 'passphrase' if the key is itself encrypted, 'no_key' if there is none
 */
export function clearKey(stored: Uint8Array | undefined, where: Where): ChaChaKey {
  if (!stored)
    throw damage('no_key', 'the file system is encrypted, and its key is not in the superblock', where);
  if (Buffer.from(stored.subarray(0, 8)).toString('latin1') !== CLEAR_KEY_MAGIC) {
    throw damage(
      'passphrase',
      'the file system is encrypted with a passphrase; only one with its key in the clear is read',
      where,
    );
  }
  return stored.slice(8);
}

/** The nonce of the bset at byte `offset` of its node. */
export function bsetNonce(offset: number, seq: bigint, journalSeq: bigint): Nonce {
  return [offset, low(seq), high(seq), low(journalSeq) ^ NONCE_BTREE_NODE];
}

export function journalNonce(seq: bigint): Nonce {
  return [0, low(seq), high(seq), NONCE_JOURNAL];
}

/** The nonce of what follows `bytes` bytes that were encrypted with `nonce`; a part of a block is used up whole. */
export function advance(nonce: Nonce, bytes: number): Nonce {
  return [nonce[0] + Math.ceil(bytes / CHACHA_BLOCK_BYTES), nonce[1], nonce[2], nonce[3]];
}

/** Encrypts or decrypts in place. */
export function chacha20(key: ChaChaKey, nonce: Nonce, data: Uint8Array): void {
  const cipher = createCipheriv('chacha20', key, new Uint8Array(nonceBytes(nonce)));
  data.set(cipher.update(data));
}

/** The one-time key of the MAC over what is encrypted with `nonce`. */
export function polyKey(key: ChaChaKey, nonce: Nonce): Uint8Array {
  const polyNonce: Nonce = [nonce[0], nonce[1], nonce[2], nonce[3] ^ NONCE_POLY];
  const stream = new Uint8Array(POLY_KEY_BYTES);
  chacha20(key, polyNonce, stream);
  return stream;
}

function nonceBytes(nonce: Nonce): ArrayBuffer {
  const view = new DataView(new ArrayBuffer(16));
  nonce.forEach((word, i) => {
    view.setUint32(i * 4, word, true);
  });
  return view.buffer;
}

const low = (value: bigint): number => Number(BigInt.asUintN(32, value));
const high = (value: bigint): number => Number(BigInt.asUintN(32, value >> 32n));
