// Scalar code by way of BPF beside the native emitter's, a call for each record in the same loop, in cache, over random
// legal key formats: `node bench/scalar.mjs [--formats N] [--rounds N]`.
//
// Where a routine lies can cost more than what it does. So each is placed PLACES times, among others; all take turns in
// random order, and the figure is the least over rounds and places. A format that comes out slower by more than 5 % is
// measured again.

import { parseArgs } from 'node:util';
import { callStride, loopsIn } from '../dist/exec/run.js';
import { bkeyFormat, CodeArena, compileX64, contractFor, emitNative, lower, verify } from '../dist/index.js';
import { FORMATS, keyStream, machine, percentile, seeded, shuffle } from './work.mjs';

const { values } = parseArgs({
  options: { formats: { type: 'string', default: '1000' }, rounds: { type: 'string', default: '15' } },
});
const PLACES = 8;
const KEYS = 384; // 15 KiB of records
const CALLS = 4;
const SLOWER = 1.05;
const WIDTHS = [64, 64, 32, 32, 32, 64];
const MAX_BITS = 288; // of a key of five words, eight are to spare
const random = seeded(7);
const arena = new CodeArena();
const out = new Uint8Array(KEYS * 40);

const randomBits = (bits) =>
  BigInt.asUintN(
    bits,
    (BigInt(random(2 ** 31)) << 33n) ^ (BigInt(random(2 ** 31)) << 16n) ^ BigInt(random(2 ** 16)),
  );

/** Byte-aligned, narrow, of any width, or filled to the last bit; each field may be absent. */
function randomKeyFormat() {
  const kind = ['aligned', 'narrow', 'any', 'tight'][random(4)];
  const width = (most) =>
    kind === 'aligned' ? 8 * random(most / 8 + 1) : random((kind === 'narrow' ? 12 : most) + 1);
  const bits = WIDTHS.map((most) => (random(4) === 0 ? 0 : width(most)));
  const total = () => bits.reduce((sum, one) => sum + one, 0);
  if (total() > MAX_BITS) return randomKeyFormat();
  const keyU64s = Math.ceil((24 + total()) / 64);
  const room = kind === 'tight' ? Math.min(MAX_BITS, keyU64s * 64 - 24) : 0;
  for (let spare = room - total(); spare > 0; spare = room - total()) {
    const i = random(6);
    bits[i] = Math.min(WIDTHS[i], bits[i] + spare);
  }
  const fieldOffset = bits.map((count, i) => {
    const most = (1n << BigInt(WIDTHS[i])) - (1n << BigInt(count));
    const offset = random(3) === 0 ? 0n : randomBits(1 + random(WIDTHS[i]));
    return offset < most ? offset : most;
  });
  return bkeyFormat({ keyU64s, bitsPerField: bits, fieldOffset });
}

/** ns a key of each lane, the least. */
function measure(format, codes, rounds) {
  const packed = keyStream(format, KEYS, 0, random);
  const run = { out, packed, count: KEYS, stride: format.packedBytes, outStride: 40 };
  const routines = [];
  for (let place = 0; place < PLACES; place++) {
    for (const lane of shuffle(Object.keys(codes), random)) {
      routines.push({ lane, routine: arena.place(codes[lane]), least: Number.POSITIVE_INFINITY });
    }
  }
  for (let round = 0; round < rounds; round++) {
    for (const one of shuffle(routines, random)) {
      const begun = process.hrtime.bigint();
      for (let i = 0; i < CALLS; i++) callStride(arena, loopsIn(arena).stride, one.routine, run);
      one.least = Math.min(one.least, Number(process.hrtime.bigint() - begun) / CALLS / KEYS);
    }
  }
  for (const { routine } of routines) routine.free();
  return Object.fromEntries(
    Object.keys(codes).map((lane) => [
      lane,
      Math.min(...routines.filter((one) => one.lane === lane).map(({ least }) => least)),
    ]),
  );
}

function compare(format, rounds) {
  const verified = verify(lower(format), contractFor(format));
  const codes = { bpf: compileX64(verified), native: emitNative(format) };
  let times = measure(format, codes, rounds);
  for (let again = 0; again < 3 && times.bpf / times.native > SLOWER; again++) {
    const more = measure(format, codes, rounds * 3);
    times = { bpf: Math.min(times.bpf, more.bpf), native: Math.min(times.native, more.native) };
  }
  return {
    ...times,
    ratio: times.bpf / times.native,
    bpfBytes: codes.bpf.length,
    nativeBytes: codes.native.length,
  };
}

const rounds = Number(values.rounds);
console.log(`${machine()}; ns a key, code bytes\n`);
for (const [name, format] of Object.entries(FORMATS)) {
  const { bpf, native, ratio, bpfBytes, nativeBytes } = compare(format, rounds * 4);
  console.log(
    `${name}  bpf ${bpf.toFixed(2)} (${bpfBytes} B)  native ${native.toFixed(2)} (${nativeBytes} B)  ratio ${ratio.toFixed(2)}`,
  );
}
const results = Array.from({ length: Number(values.formats) }, () => compare(randomKeyFormat(), rounds));
const row = (title, pick) => {
  const [p5, p50, p95, worst] = [5, 50, 95, 100].map((percent) =>
    percentile(results.map(pick), percent).toFixed(3).padStart(8),
  );
  console.log(`${title.padEnd(28)} ${p5} ${p50} ${p95} ${worst}`);
};
console.log(`\n${results.length} random formats, bpf / native   p5      p50      p95    worst`);
row('time', ({ ratio }) => ratio);
row('code bytes', ({ bpfBytes, nativeBytes }) => bpfBytes / nativeBytes);
row('bytes of bpf', ({ bpfBytes }) => bpfBytes);
row('bytes of native', ({ nativeBytes }) => nativeBytes);
arena.dispose();
