// On-disk structures lie anywhere in a buffer; their numbers are little-endian.

export const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
