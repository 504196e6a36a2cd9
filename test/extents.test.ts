import { expect, test } from 'vitest';
import { Extents } from '../src/exec/extents.js';
import { seeded } from './random-formats.js';

test('granules are taken from where they are free, at the multiples asked for, and come back', () => {
  const GRANULES = 256;
  const random = seeded(1);
  const free = new Extents();
  free.give(0, GRANULES);
  const used = new Uint8Array(GRANULES);
  const taken: { start: number; length: number }[] = [];
  const hasRoom = (length: number, multiple: number) => {
    for (let start = 0; start + length <= GRANULES; start += multiple)
      if (used.subarray(start, start + length).every((granule) => granule === 0)) return true;
    return false;
  };
  for (let i = 0; i < 5000; i++) {
    if (random(2) && taken.length > 0) {
      const [back] = taken.splice(random(taken.length), 1);
      used.fill(0, back!.start, back!.start + back!.length);
      free.give(back!.start, back!.length);
      continue;
    }
    const [length, multiple] = [1 + random(30), 2 ** random(5)];
    const start = free.take(length, multiple);
    expect(start !== undefined).toBe(hasRoom(length, multiple));
    if (start === undefined) continue;
    expect(start % multiple).toBe(0);
    expect(used.subarray(start, start + length).every((granule) => granule === 0)).toBe(true);
    used.fill(1, start, start + length);
    taken.push({ start, length });
  }
  for (const { start, length } of taken) free.give(start, length);
  expect(free.take(GRANULES)).toBe(0);
});
