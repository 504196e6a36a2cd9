// A position in a btree, struct bpos: 0 snapshot:32 | 4 offset:64 | 12 inode:64, ordered by inode, offset, snapshot.
//
// Its 20 bytes last to first are inode, offset, snapshot, each with its top byte first. As a string of 20 characters of
// one byte each, positions compare with <, > and === and can be keys of a Map.

export type Position = string;

export const POSITION_BYTES = 20;
export const POSITION_MIN: Position = '\0'.repeat(POSITION_BYTES);
export const POSITION_MAX: Position = '\xff'.repeat(POSITION_BYTES);

/** The struct bpos at byte `at` of `bytes`. */
export function positionAt(bytes: Uint8Array, at: number): Position {
  return Buffer.from(bytes.subarray(at, at + POSITION_BYTES))
    .reverse()
    .toString('latin1');
}

/** The next position; that of POSITION_MAX is POSITION_MIN. */
export function successor(position: Position): Position {
  const bytes = Buffer.from(position, 'latin1');
  for (let i = bytes.length - 1; i >= 0; i--) {
    bytes[i] = bytes[i]! + 1;
    if (bytes[i] !== 0) break;
  }
  return bytes.toString('latin1');
}

/** inode:offset:snapshot. */
export function positionText(position: Position): string {
  const bytes = Buffer.from(position, 'latin1');
  return `${bytes.readBigUInt64BE(0)}:${bytes.readBigUInt64BE(8)}:${bytes.readUInt32BE(16)}`;
}
