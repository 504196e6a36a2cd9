// A bcachefs key stream: keys back to back, packed with the node's format or unpacked, each with its value.
//
//   byte 0  u64s: length of key and value in 8-byte words, so the next key starts 8*u64s bytes further
//   byte 1  bits 0-6 format: 0 packed with the node's format, 1 unpacked (struct bkey); bit 7 needs_whiteout
//
// This is the plain twin of the loop that each back end has in machine code, and its oracle.

import { BKEY_BYTES, BKEY_U64S, FORMAT_CURRENT } from './bkey.js';

/** Why a walk ended. The numbers are the machine-code loop's. */
export const STREAM_END = { end: 0, count: 1, short: 2, past: 3, format: 4 } as const;
export type StreamEnd = (typeof STREAM_END)[keyof typeof STREAM_END];

const FORMAT_PACKED = 0;

export interface StreamWalk {
  /** Byte offset behind the last key decoded: of the malformed key, if there is one. */
  readonly position: number;
  readonly count: number;
  readonly ended: StreamEnd;
}

/**
 * Decodes keys from `start` until `end`, a malformed key, or `offsets` is full.
 * @param unpack decodes one packed key into 40 bytes
 * @param out 40 bytes for each entry of `offsets`
 * @param offsets receives the byte offset of each key
 */
export function walkKeys(
  keys: Uint8Array,
  start: number,
  end: number,
  keyU64s: number,
  unpack: (packed: Uint8Array, out: Uint8Array) => void,
  out: Uint8Array,
  offsets: Uint32Array,
): StreamWalk {
  let position = start;
  let count = 0;
  while (position !== end) {
    if (count === offsets.length) return { position, count, ended: STREAM_END.count };
    const malformed = checkKey(keys, position, end, keyU64s);
    if (malformed) return { position, count, ended: malformed };
    const record = out.subarray(count * BKEY_BYTES, (count + 1) * BKEY_BYTES);
    if ((keys[position + 1]! & 0x7f) === FORMAT_CURRENT)
      record.set(keys.subarray(position, position + BKEY_BYTES));
    else unpack(keys.subarray(position, position + keyU64s * 8), record);
    offsets[count++] = position;
    position += keys[position]! * 8;
  }
  return { position, count, ended: STREAM_END.end };
}

/** What is wrong with the key at `position`; 0 if nothing is. */
function checkKey(keys: Uint8Array, position: number, end: number, keyU64s: number): StreamEnd {
  if (end - position < 8) return STREAM_END.past;
  const u64s = keys[position]!;
  const format = keys[position + 1]! & 0x7f;
  if (format !== FORMAT_PACKED && format !== FORMAT_CURRENT) return STREAM_END.format;
  if (u64s < (format === FORMAT_PACKED ? keyU64s : BKEY_U64S)) return STREAM_END.short;
  return position + u64s * 8 > end ? STREAM_END.past : 0;
}

/** What stopped a walk at a malformed key, as a sentence. */
export function streamReason(
  keys: Uint8Array,
  position: number,
  end: number,
  keyU64s: number,
  ended: StreamEnd,
): string {
  const u64s = keys[position] ?? 0;
  const format = (keys[position + 1] ?? 0) & 0x7f;
  switch (ended) {
    case STREAM_END.format:
      return `key format ${format} is neither 0 (packed) nor 1 (unpacked)`;
    case STREAM_END.short:
      return format === FORMAT_PACKED
        ? `u64s is ${u64s}, but a packed key of this format has ${keyU64s} words`
        : `u64s is ${u64s}, but an unpacked key has ${BKEY_U64S} words`;
    default:
      return end - position < 8
        ? `only ${end - position} bytes are left, less than any key has`
        : `u64s is ${u64s}, but only ${end - position} bytes are left`;
  }
}
