// What a packed record looks like.
//
// A record of `packedBytes` bytes becomes one of `unpackedBytes` bytes. Each field takes up to 64 bits of the
// packed record, sign-extends them if asked to, adds an offset, and puts the low bits of the sum into a bit
// range of a little-endian member of the unpacked record:
//
//   lsb0  bit i of the record is bit i%8 of byte i/8; `at` is the field's lowest bit and it grows upwards
//   msb0  bit i of the record is bit 7-i%8 of byte i/8; `at` is the field's highest bit and it grows downwards
//
// Because members are little-endian, a destination is nothing but a run of bits of the unpacked record in
// lsb0 numbering, starting at 8*byte+bit; the member's size says how far the run may reach.

import { requireKey } from '../bytes.js';

/** 'lsb0': bkeys, Intel CAN signals. 'msb0': network headers, Motorola CAN signals. */
export type BitOrder = 'lsb0' | 'msb0';

/** Bytes of a member, and of a load or store. */
export type Size = 1 | 2 | 4 | 8;
export const SIZES: readonly Size[] = [1, 2, 4, 8];

/** The largest of no more than `bytes`, which is at least 1. */
export const largestSize = (bytes: number): Size => (bytes >= 8 ? 8 : bytes >= 4 ? 4 : bytes >= 2 ? 2 : 1);

/** The smallest that holds `bits` bits, of which there are at most 64. */
export const sizeFor = (bits: number): Size => (bits > 32 ? 8 : bits > 16 ? 4 : bits > 8 ? 2 : 1);

/** Bits `bit` … `bit + bits - 1` of the little-endian member of `size` bytes at byte `byte`. */
export interface Destination {
  readonly byte: number;
  readonly size: Size;
  readonly bit: number;
  readonly bits: number;
}

/** Number of a destination's lowest bit in the unpacked record, lsb0. */
export const firstBit = ({ byte, bit }: Destination): number => byte * 8 + bit;

export interface Field {
  readonly name: string;
  /** Width in the packed record, 0 to 64. A field of no bits has the constant value `offset`. */
  readonly bits: number;
  /** First bit in the packed record: the lowest for lsb0, the highest for msb0. */
  readonly at: number;
  readonly order: BitOrder;
  readonly signed: boolean;
  /** Added modulo 2^64 after sign extension; 0 … 2^64 - 1. */
  readonly offset: bigint;
  readonly to: Destination;
}

/** How far right a field's lowest bit is in the packed record read as one number, in the field's own byte order. */
export const sourceShift = ({ order, at, bits }: Field, packedBytes: number): number =>
  order === 'lsb0' ? at : packedBytes * 8 - at - bits;

export interface Constant {
  /** 0 … 2^to.bits - 1. */
  readonly value: bigint;
  readonly to: Destination;
}

/** Nobody outside of this file can name it, so the constructor of an object at hand makes no other. */
const CHECKED = Symbol('checked');

/** A legal format: immutable, and every byte of the unpacked record is produced by some field or constant. */
export class Format {
  readonly #legal = true;

  /** @internal */
  constructor(
    key: symbol,
    readonly name: string,
    readonly packedBytes: number,
    readonly unpackedBytes: number,
    readonly fields: readonly Field[],
    readonly constants: readonly Constant[],
    /** Set for a bcachefs key format: the number of 8-byte words of its packed keys. */
    readonly keyU64s?: number,
  ) {
    requireKey(key, CHECKED, 'a format', 'defineFormat and bkeyFormat');
    for (const part of [...fields, ...constants]) {
      Object.freeze(part.to);
      Object.freeze(part);
    }
    Object.freeze(fields);
    Object.freeze(constants);
    Object.freeze(this);
  }

  /** Whether `value` was made by this module, and so is legal. */
  static is(value: unknown): value is Format {
    return typeof value === 'object' && value !== null && #legal in value && value.#legal;
  }
}

/** For `defineFormat` and `bkeyFormat`, which check what they pass here. */
export function makeFormat(
  name: string,
  packedBytes: number,
  unpackedBytes: number,
  fields: readonly Field[],
  constants: readonly Constant[],
  keyU64s?: number,
): Format {
  return new Format(CHECKED, name, packedBytes, unpackedBytes, fields, constants, keyU64s);
}
