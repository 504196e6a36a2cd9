import { expect, it } from 'vitest';
import { add, firstMissing, includes, NOTHING, type Written } from '../src/verifier/written.js';
import { seeded } from './random-formats.js';

const BYTES = 24;
const bytesOf = (written: Written): number[] =>
  Array.from({ length: BYTES }, (_, byte) => byte).filter((byte) =>
    written.some((start, i) => i % 2 === 0 && start <= byte && byte < written[i + 1]!),
  );

it('bytes written are those of a set, in disjoint ascending intervals', () => {
  const random = seeded(1);
  let other: Written = NOTHING;
  for (let round = 0; round < 3000; round++) {
    let written = NOTHING;
    const set = new Set<number>();
    for (let stores = random(8); stores > 0; stores--) {
      const start = random(BYTES);
      const end = Math.min(BYTES, start + random(9) - 1);
      written = add(written, start, end);
      for (let byte = start; byte < end; byte++) set.add(byte);
    }
    const bytes = [...set].sort((a, b) => a - b);
    expect(bytesOf(written)).toEqual(bytes);
    expect(written.every((end, i) => i === 0 || end > written[i - 1]!)).toBe(true);
    const missing = Array.from({ length: BYTES }, (_, byte) => byte).find((byte) => !set.has(byte)) ?? -1;
    expect(firstMissing(written, BYTES)).toBe(missing);
    expect(includes(written, other)).toBe(bytesOf(other).every((byte) => set.has(byte)));
    other = written;
  }
});

it('stores one after the other make one interval', () => {
  let written = NOTHING;
  for (let byte = 0; byte < 100_000; byte += 8) written = add(written, byte, byte + 8);
  expect(written).toEqual([0, 100_000]);
});

it('forgets new bytes rather than growing without bound', () => {
  let written = NOTHING;
  for (let byte = 0; byte < 20_000; byte += 2) written = add(written, byte, byte + 1);
  expect(written.length).toBeLessThanOrEqual(8192);
  expect(firstMissing(written, 20_000)).toBe(1);
});
