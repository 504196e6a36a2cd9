// What the benchmarks have in common: formats to measure with, keys of them, and how times are told.

import { readFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { gunzipSync } from 'node:zlib';
import { bkeyFormat, bkeyFormatFromBytes } from '../dist/index.js';

const u64s = (bits) => Math.ceil((24 + bits.reduce((sum, one) => sum + one, 0)) / 64);
const bkey = (bits, offsets) =>
  bkeyFormat({
    keyU64s: u64s(bits),
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

/** Formats found in real btree nodes. */
export function realFormats() {
  const path = new URL('../test/vectors/bcachefs/real_formats.jsonl.gz', import.meta.url);
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

export const minimum = (times) => Math.min(...times);
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
