// Random legal formats of every kind, from a seed.

import { bkeyFormat } from '../src/format/bkey.js';
import { defineFormat, type FieldSpec, type FormatSpec } from '../src/format/define.js';
import { type Format, SIZES } from '../src/format/model.js';

/** A number from 0 to below `end`; whole. */
export type Random = (end: number) => number;

/** A generator of its own for each seed (mulberry32). */
export function seeded(seed: number): Random {
  let state = seed | 0;
  return (end) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * end);
  };
}

export function randomBits(random: Random, bits: number): bigint {
  let value = 0n;
  for (let i = 0; i < bits; i += 16) value = (value << 16n) | BigInt(random(2 ** 16));
  return BigInt.asUintN(bits, value);
}

export function randomBytes(random: Random, length: number): Uint8Array {
  return Uint8Array.from({ length }, () => random(256));
}

const pick = <T>(random: Random, choices: readonly T[]): T => choices[random(choices.length)]!;

const BKEY_WIDTHS = [64, 64, 32, 32, 32, 64];
// All fields at their full width; a key of five words has eight bits to spare.
const MAX_BKEY_BITS = 288;

/** What real nodes have (byte-aligned, mostly narrow), what fills the key to the last bit, the widest, and the narrowest. */
export function randomBkeyFormat(random: Random): Format {
  const kind = pick(random, ['aligned', 'tight', 'wide', 'narrow', 'any'] as const);
  const bits = BKEY_WIDTHS.map((width) => bkeyBits(random, width, kind));
  const keyU64s = Math.ceil((24 + sum(bits)) / 64);
  if (kind === 'tight') fill(random, bits, Math.min(MAX_BKEY_BITS, keyU64s * 64 - 24));
  const fieldOffset = bits.map((count, i) => bkeyOffset(random, BKEY_WIDTHS[i]!, count));
  return bkeyFormat({ keyU64s, bitsPerField: bits, fieldOffset });
}

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);

function bkeyBits(
  random: Random,
  width: number,
  kind: 'aligned' | 'tight' | 'wide' | 'narrow' | 'any',
): number {
  if (random(4) === 0) return 0;
  if (kind === 'aligned') return 8 * random(width / 8 + 1);
  if (kind === 'wide') return random(3) === 0 ? width - 1 - random(4) : width;
  return random((kind === 'narrow' ? 12 : width) + 1);
}

/** Widens fields until the key is full. */
function fill(random: Random, bits: number[], total: number): void {
  for (let spare = total - sum(bits); spare > 0; spare = total - sum(bits)) {
    const i = random(6);
    bits[i] = Math.min(BKEY_WIDTHS[i]!, bits[i]! + spare);
  }
}

function bkeyOffset(random: Random, width: number, bits: number): bigint {
  const most = (1n << BigInt(width)) - (1n << BigInt(bits));
  const offset = pick(random, [0n, most, randomBits(random, random(width + 1)), randomBits(random, width)]);
  return offset < most ? offset : most;
}

/**
 * Any kind of format: records shorter than a word and longer ones, both bit orders, fields from 0 to 64 bits, signed
 * and with offsets, destinations that are whole members or share them with others.
 */
export function randomFormat(random: Random): Format {
  const packedBytes = pick(random, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10 + random(30), 200 + random(400)]);
  const unpackedBytes = pick(random, [1, 2 + random(7), 8 + random(20), 30 + random(100)]);
  const order = pick(random, ['lsb0', 'msb0'] as const);
  const fields: FieldSpec[] = [];
  const constants: { value: bigint; to: FieldSpec['to'] }[] = [];
  const shared = random(2) === 0;
  for (let bit = 0; bit < unpackedBytes * 8; ) {
    const to = shared ? sharedMember(random, bit, unpackedBytes) : wholeMember(random, bit, unpackedBytes);
    const bits = to.bits ?? to.size * 8;
    bit = to.byte * 8 + (to.bit ?? 0) + bits;
    if (random(5) === 0) constants.push({ value: random(2) ? 0n : randomBits(random, bits), to });
    else
      fields.push({ name: `f${fields.length}`, ...randomSource(random, packedBytes * 8, order, bits), to });
  }
  const spec: FormatSpec = { packedBytes, unpackedBytes, order, fields, constants };
  return defineFormat(spec);
}

function wholeMember(random: Random, bit: number, unpackedBytes: number): FieldSpec['to'] {
  const byte = bit / 8;
  return {
    byte,
    size: pick(
      random,
      SIZES.filter((size) => byte + size <= unpackedBytes),
    ),
  };
}

/** Some bits of a member that holds the next free bit; sometimes bits of the same byte are left out. */
function sharedMember(random: Random, bit: number, unpackedBytes: number): FieldSpec['to'] {
  const gap = random(8) === 0 && bit % 8 !== 0 ? random(8 - (bit % 8)) : 0;
  const first = bit + gap;
  const size = pick(
    random,
    SIZES.filter((size) => size <= unpackedBytes),
  );
  const byte = Math.min(Math.max(0, (first >> 3) - random(size)), unpackedBytes - size);
  const inside = first - byte * 8;
  return { byte, size, bit: inside, bits: 1 + random(size * 8 - inside) };
}

function randomSource(
  random: Random,
  recordBits: number,
  order: 'lsb0' | 'msb0',
  toBits: number,
): Pick<FieldSpec, 'bits' | 'at' | 'order' | 'signed' | 'offset'> {
  const most = Math.min(64, recordBits);
  const bits = Math.min(most, pick(random, [0, 1, toBits, 8 * random(9), random(65), random(65), 64]));
  const at = pick(random, [
    0,
    recordBits - bits,
    random(recordBits - bits + 1),
    8 * random(((recordBits - bits) >> 3) + 1),
  ]);
  const other = order === 'lsb0' ? 'msb0' : 'lsb0';
  const offset = pick(random, [0n, 0n, randomBits(random, random(65)), -randomBits(random, 63), -1n]);
  return { bits, at, order: random(6) === 0 ? other : order, signed: random(3) === 0, offset };
}
