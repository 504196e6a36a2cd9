// Decompression of zstd streams (RFC 8878), for which Node 20 has nothing. The input is hostile: every length is checked
// before it is used, the window is bounded, and the content checksum is verified.

import { createXXHash64, type IHasher } from 'hash-wasm';
import { BlockDecoder, MAX_BLOCK_BYTES, type Source, Window } from './block.js';
import { littleEndian, ZstdFault } from './entropy.js';

/** What the zstd command takes, too, unless it is told to take more. */
const MAX_WINDOW_BYTES = 128 * 1024 * 1024;
const FRAME_MAGIC = 0xfd2fb528;
const SKIPPABLE_MAGIC = 0x184d2a50;

export { ZstdFault };

/**
 * The unpacked stream, piece by piece; a piece is valid until the next one is asked for.
 * @param source returns the next `length` bytes, fewer only at the end
 * @throws ZstdFault while it is read, if it is no zstd stream; errors of `source` pass through
 */
export async function unzstd(source: Source): Promise<Iterable<Uint8Array>> {
  const hash = await createXXHash64();
  return frames(source, hash);
}

function* frames(source: Source, hash: IHasher): Generator<Uint8Array> {
  const input: Source = (length) => {
    const bytes = source(length);
    if (bytes.length < length) throw new ZstdFault('it is cut off');
    return bytes;
  };
  for (let magic = source(4); magic.length > 0; magic = source(4)) {
    if (magic.length < 4) throw new ZstdFault('it is cut off');
    const word = littleEndian(magic);
    if (word === FRAME_MAGIC) yield* frame(input, hash);
    else if ((word & 0xfffffff0) >>> 0 === SKIPPABLE_MAGIC) skip(input);
    else throw new ZstdFault('what follows is no zstd frame');
  }
}

function skip(input: Source): void {
  for (let left = littleEndian(input(4)); left > 0; left -= MAX_BLOCK_BYTES)
    input(Math.min(left, MAX_BLOCK_BYTES));
}

function* frame(input: Source, hash: IHasher): Generator<Uint8Array> {
  const { windowBytes, contentBytes, hasChecksum } = frameHeader(input);
  const output = new Window(windowBytes);
  const decoder = new BlockDecoder(output);
  hash.init();
  for (let last = false; !last; ) {
    const header = littleEndian(input(3));
    last = (header & 1) === 1;
    output.startBlock();
    decoder.block((header >> 1) & 3, header >> 3, input);
    const piece = output.block();
    if (hasChecksum) hash.update(piece);
    yield piece;
  }
  if (contentBytes !== undefined && output.total !== contentBytes) {
    throw new ZstdFault(`it unpacks to ${output.total} bytes instead of ${contentBytes}`);
  }
  if (hasChecksum && littleEndian(input(4)) !== littleEndian(hash.digest('binary').subarray(4).reverse())) {
    throw new ZstdFault('its checksum does not match');
  }
}

/** Section 3.1.1.1. */
function frameHeader(input: Source): {
  windowBytes: number;
  contentBytes: number | undefined;
  hasChecksum: boolean;
} {
  const flags = input(1)[0]!;
  if (flags & 0b1000) throw new ZstdFault('a reserved bit of the frame header is set');
  const singleSegment = (flags & 0b100000) !== 0;
  const descriptor = singleSegment ? 0 : input(1)[0]!;
  if (littleEndian(input([0, 1, 2, 4][flags & 3]!)) !== 0) throw new ZstdFault('it needs a dictionary');
  const sizeBytes = [singleSegment ? 1 : 0, 2, 4, 8][flags >> 6]!;
  const size = sizeBytes === 0 ? undefined : littleEndian(input(sizeBytes)) + (sizeBytes === 2 ? 256 : 0);
  const windowBytes = singleSegment ? size! : 2 ** (10 + (descriptor >> 3)) * (1 + (descriptor & 7) / 8);
  if (windowBytes > MAX_WINDOW_BYTES) {
    throw new ZstdFault(
      `its window of ${windowBytes} bytes is larger than the ${MAX_WINDOW_BYTES} that are taken; unpack it to a file first`,
    );
  }
  return { windowBytes, contentBytes: size, hasChecksum: (flags & 0b100) !== 0 };
}
