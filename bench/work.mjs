// What the benchmarks have in common: formats to measure with, records of them, and how times are told.

import { existsSync, readFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { gunzipSync } from 'node:zlib';
import { libc } from '../dist/exec/libc.js';
import { bkeyFormat, bkeyFormatFromBytes, bkeyU64s, defineFormat, referenceUnpack } from '../dist/index.js';

const bkey = (bits, offsets) =>
  bkeyFormat({
    keyU64s: bkeyU64s(bits),
    bitsPerField: bits,
    fieldOffset: offsets.map((offset) => BigInt(offset)),
  });

/** Byte-aligned; not aligned; wide, laid out like the unpacked key; one word; full to the last bit, over nine bytes. */
export const FORMATS = {
  F1: bkey([40, 40, 8, 16, 0, 0], [0x1003, 0x1a2b38, 0xffffff00, 0, 0, 0]),
  F2: bkey([27, 43, 0, 13, 0, 0], [0x10000000, 0x5000, 0xffffffff, 0, 0, 0]),
  F3: bkey([64, 64, 32, 32, 32, 64], [0, 0, 0, 0, 0, 0]),
  F4: bkey([0, 29, 0, 11, 0, 0], ['0x123456789abcdef0', 0x40000000, 0xffffffff, 0, 0, 0]),
  F5: bkey([63, 61, 31, 29, 0, 48], [5, 7, 0x7fffff00, 0, 0, 0x1000]),
};

const member = (byte, size) => ({ byte, size });

/** What is not a bcachefs key: a frame of a sensor, lsb0 with signed fields, and the header of IPv4, msb0. */
export const OTHER_FORMATS = {
  telemetry: defineFormat({
    name: 'telemetry',
    packedBytes: 16,
    unpackedBytes: 40,
    fields: [
      { name: 'time', bits: 42, at: 0, offset: 1_600_000_000_000n, to: member(0, 8) },
      { name: 'sensor', bits: 11, at: 42, to: member(8, 4) },
      { name: 'temperature', bits: 13, at: 53, signed: true, to: member(12, 4) },
      { name: 'pressure', bits: 18, at: 66, offset: 30_000n, to: member(16, 4) },
      { name: 'x', bits: 12, at: 84, signed: true, to: member(20, 4) },
      { name: 'y', bits: 12, at: 96, signed: true, to: member(24, 4) },
      { name: 'z', bits: 12, at: 108, signed: true, to: member(28, 4) },
      { name: 'battery', bits: 7, at: 120, to: member(32, 4) },
      { name: 'alarm', bits: 1, at: 127, to: member(36, 4) },
    ],
  }),
  'IPv4 header': defineFormat({
    name: 'ipv4',
    packedBytes: 20,
    unpackedBytes: 28,
    order: 'msb0',
    fields: [
      ['version', 4, 0, member(0, 1)],
      ['ihl', 4, 4, member(1, 1)],
      ['dscp', 6, 8, member(2, 1)],
      ['ecn', 2, 14, member(3, 1)],
      ['length', 16, 16, member(4, 2)],
      ['identification', 16, 32, member(6, 2)],
      ['flags', 3, 48, member(8, 2)],
      ['fragment', 13, 51, member(10, 2)],
      ['ttl', 8, 64, member(12, 1)],
      ['protocol', 8, 72, member(13, 1)],
      ['checksum', 16, 80, member(14, 2)],
      ['source', 32, 96, member(16, 4)],
      ['destination', 32, 128, member(20, 4)],
    ].map(([name, bits, at, to]) => ({ name, bits, at, to })),
    constants: [{ value: 0n, to: member(24, 4) }],
  }),
};

const MEMBER_BITS = [64, 64, 32, 32, 32, 64];

/** A legal key format: widths and offsets at random, whole bytes as bcachefs prefers them or any number of bits. */
export function randomFormat(random, aligned) {
  const wide = random(3) === 0;
  const bits = MEMBER_BITS.map((most) => {
    if (random(wide ? 6 : 4) === 0) return 0;
    const step = aligned ? 8 : 1;
    return wide ? most - step * random(2 + 6 / step) : step * random(most / step + 1);
  });
  const offsets = bits.map((width, i) => {
    const room = (1n << BigInt(MEMBER_BITS[i])) - (1n << BigInt(width)) + (width === 0 ? 1n : 0n);
    if (random(3) === 0 || room <= 0n) return 0n;
    const any = (BigInt(random(2 ** 31)) << 33n) | (BigInt(random(2 ** 31)) << 2n);
    return (any >> BigInt(random(64))) % room;
  });
  return bkey(bits, offsets);
}

/** A header as networks have them: fields of some bits, the highest first, each to a member of its own. */
export function randomHeader(random) {
  const widths = [1, 2, 3, 4, 4, 6, 8, 8, 12, 13, 16, 16, 20, 24, 32, 32, 48];
  return recordOf(random, 'header', (i) => ({ name: `field ${i}`, bits: widths[random(widths.length)] }));
}

/** A frame of sensors: the lowest bits first, some of them signed, some with an offset. */
export function randomFrame(random) {
  return recordOf(random, 'frame', (i) => {
    const bits = 1 + random(random(4) === 0 ? 48 : 18);
    const signed = bits > 1 && random(2) === 0;
    return { name: `field ${i}`, bits, signed, offset: random(3) === 0 ? BigInt(random(10_000)) : 0n };
  });
}

const MEMBER_BYTES = [1, 2, 4, 8];

/** Fields back to back up to whole words of 32 bits; each member the smallest that holds its values, at a multiple of its size. */
function recordOf(random, name, makeField) {
  const wanted = 64 + 32 * random(8);
  const fields = [];
  const constants = [];
  let [at, byte] = [0, 0];
  const pad = (to) => {
    for (; byte < to; byte++) constants.push({ value: 0n, to: member(byte, 1) });
  };
  for (let i = 0; at < wanted; i++) {
    const field = makeField(i);
    const offset = field.offset ?? 0n;
    const size =
      MEMBER_BYTES.find((bytes) => (1n << BigInt(field.bits)) + offset <= 1n << BigInt(bytes * 8 - 1)) ?? 8;
    pad(Math.ceil(byte / size) * size);
    fields.push({ ...field, at, to: member(byte, size) });
    at += field.bits;
    byte += size;
  }
  pad(Math.ceil(byte / 4) * 4);
  return defineFormat({
    name,
    packedBytes: Math.ceil(at / 32) * 4,
    unpackedBytes: byte,
    order: name === 'header' ? 'msb0' : 'lsb0',
    fields,
    constants,
  });
}

/** Whether a field lies in nine bytes, so that no load has it. */
export const straddles = ({ fields }) => fields.some(({ at, bits }) => (at % 8) + bits > 64);

/** Formats found in real btree nodes; none in the installed package, which is without the tests' data. */
export function realFormats() {
  const path = new URL('../test/vectors/bcachefs/real_formats.jsonl.gz', import.meta.url);
  if (!existsSync(path)) return [];
  const lines = gunzipSync(readFileSync(path)).toString().trim().split('\n');
  return lines.map((line) => bkeyFormatFromBytes(Buffer.from(JSON.parse(line).format.raw, 'hex')));
}

/** A generator of whole numbers below `end`, its own for each seed (xorshift32). */
export function seeded(seed) {
  let state = seed || 1;
  return (end) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % end;
  };
}

/** `count` keys of a format with values of 0 to `mostValue` words behind them. */
export function keyStream(format, count, mostValue, random) {
  const keys = [];
  for (let i = 0; i < count; i++) {
    const value = random(mostValue + 1);
    const key = Array.from({ length: format.packedBytes + value * 8 }, () => random(256));
    key[0] = format.keyU64s + value;
    key[1] = random(8) === 0 ? 0x80 : 0;
    keys.push(...key);
  }
  return Uint8Array.from(keys);
}

/** Where there are many, records repeat after so many. */
export const BLOCK = 4096;

/** `count` records of random bytes. */
export function records(format, count, random) {
  return format.keyU64s === undefined
    ? Uint8Array.from({ length: format.packedBytes * count }, () => random(256))
    : keyStream(format, count, 0, random);
}

/** What they unpack to. `nextOf` gives the distance to the next one. */
export function expected(format, packed, count, nextOf = () => format.packedBytes) {
  const out = new Uint8Array(count * format.unpackedBytes);
  for (let i = 0, at = 0; i < count; i++, at += nextOf(packed, at)) {
    out.set(referenceUnpack(format, packed.subarray(at, at + format.packedBytes)), i * format.unpackedBytes);
  }
  return out;
}

export const nextKey = (keys, at) => keys[at] * 8;

/** Bytes at an address that is `phase` modulo 4096. */
export function bytesAt(phase, length) {
  const all = new Uint8Array(length + 4096);
  const from = (phase - Number(libc().addressOf(all) % 4096n) + 4096) % 4096;
  return all.subarray(from, from + length);
}

export function median(values) {
  const sorted = Float64Array.from(values).sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}
export const minimum = (times) =>
  times.reduce((least, time) => Math.min(least, time), Number.POSITIVE_INFINITY);
export function percentile(times, percent) {
  const sorted = Float64Array.from(times).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))];
}

export function machine() {
  return `${cpus()[0].model.trim()}, ${cpus().length} cores, Linux ${release()}, Node ${process.version}`;
}

export function shuffle(items, random) {
  const copy = [...items];
  for (let i = copy.length - 1; i > 0; i--) {
    const j = random(i + 1);
    [copy[i], copy[j]] = [copy[j], copy[i]];
  }
  return copy;
}
