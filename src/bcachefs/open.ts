// Opening a device image, whichever way it is stored.

import { compressionOf, readCompressed, type UnpackLimits } from './compressed.js';
import { type Device, FileDevice } from './device.js';

/**
 * Opens an image: a file or block device as it is, or a file compressed with gzip or zstd.
 * @param limits where unpacking a compressed image stops; see UnpackLimits
 * @throws ImageError 'open' if it cannot be opened, 'io' if it cannot be read, 'bad_gzip', 'bad_zstd' or 'unpack_limit'
 *   if it cannot be unpacked
 */
export async function openDevice(path: string, limits: Partial<UnpackLimits> = {}): Promise<Device> {
  const file = new FileDevice(path);
  try {
    const compression = compressionOf(file);
    if (compression === undefined) return file;
    const unpacked = await readCompressed(file, compression, limits);
    file.close();
    return unpacked;
  } catch (error) {
    file.close();
    throw error;
  }
}
