// The key of an encrypted file system: it can only be had where it was stored in the clear.

import type { ChaChaKey } from './crypt.js';
import { damage, SECTOR_BYTES } from './damage.js';
import type { Superblock } from './superblock.js';

const CLEAR_KEY_MAGIC = 'bch**key';

/**
 * Undefined if the file system is not encrypted.
 * @throws ImageError 'passphrase' if the key is itself encrypted, 'no_key' if there is none
 */
export function encryptionKey(superblock: Superblock): ChaChaKey | undefined {
  const { encryptionType, encryptedKey, device, sector } = superblock;
  if (encryptionType === 0) return undefined;
  const where = { file: device.name, byte: sector * SECTOR_BYTES };
  if (!encryptedKey)
    throw damage('no_key', 'the file system is encrypted, and its key is not in the superblock', where);
  if (Buffer.from(encryptedKey.subarray(0, 8)).toString('latin1') !== CLEAR_KEY_MAGIC) {
    throw damage(
      'passphrase',
      'the file system is encrypted with a passphrase; only one with its key in the clear is read',
      where,
    );
  }
  return encryptedKey.slice(8);
}
