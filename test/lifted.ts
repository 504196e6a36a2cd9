// What a lifted program does to memory, computed bit by bit.

import type { Lifted, Piece } from '../src/jit/lift.js';

/** The output after a run over `input`; bytes that no piece covers are those of `before`. */
export function evaluate(lifted: Lifted, input: Uint8Array, before: Uint8Array): Uint8Array {
  const out = before.slice();
  const bits = toNumber(input);
  for (const piece of lifted.pieces) {
    const value = pieceValue(piece, bits);
    for (let i = 0; i < piece.size; i++) out[piece.byte + i] = Number((value >> BigInt(8 * i)) & 0xffn);
  }
  return out;
}

/** The record as one number, little-endian. */
const toNumber = (bytes: Uint8Array): bigint =>
  BigInt(`0x0${Buffer.from(bytes.toReversed()).toString('hex')}`);

function pieceValue({ size, slices, signed, plus }: Piece, input: bigint): bigint {
  let value = plus;
  slices.forEach(({ from, bits, to }, i) => {
    const slice = BigInt.asUintN(bits, input >> BigInt(from));
    const top = signed && i === slices.length - 1;
    value += (top ? BigInt.asIntN(bits, slice) : slice) << BigInt(to);
  });
  return BigInt.asUintN(8 * size, value);
}
