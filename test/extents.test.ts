import { expect, test } from 'vitest';
import { Extents } from '../src/exec/extents.js';
import { seeded } from './random-formats.js';

/** A byte for each granule: 1 if it is in use. */
class Model {
  readonly used: Uint8Array;

  constructor(granules: number) {
    this.used = new Uint8Array(granules);
  }

  runs(): number[] {
    return String.fromCharCode(...this.used)
      .split('\x01')
      .map((run) => run.length)
      .filter((length) => length > 0);
  }

  isFree(start: number, length: number): boolean {
    return this.used.subarray(start, start + length).every((granule) => granule === 0);
  }

  longest(): number {
    return Math.max(0, ...this.runs());
  }

  hasRoom(length: number, multiple: number): boolean {
    for (let start = 0; start + length <= this.used.length; start += multiple)
      if (this.isFree(start, length)) return true;
    return false;
  }
}

test.each([
  { granules: 256, longest: 30, steps: 5000, seed: 1 },
  { granules: 256, longest: 3, steps: 5000, seed: 2 },
  { granules: 6000, longest: 500, steps: 3000, seed: 3 },
  { granules: 6000, longest: 2000, steps: 3000, seed: 4 },
])(
  'in $granules granules, up to $longest at once: they are taken where they are free, at the multiples asked for, and join when they come back',
  ({ granules, longest, steps, seed }) => {
    const random = seeded(seed);
    const free = new Extents();
    const model = new Model(granules);
    free.give(0, granules);
    const taken: { start: number; length: number }[] = [];
    for (let i = 0; i < steps; i++) {
      const runs = model.runs();
      expect({ runs: free.runs, granules: free.granules }).toEqual({
        runs: runs.length,
        granules: runs.reduce((sum, length) => sum + length, 0),
      });
      if (random(2) && taken.length > 0) {
        const [back] = taken.splice(random(taken.length), 1);
        model.used.fill(0, back!.start, back!.start + back!.length);
        free.give(back!.start, back!.length);
        continue;
      }
      const [length, multiple] = [1 + random(longest), 2 ** random(9)];
      const start = free.take(length, multiple);
      if (start === undefined) {
        expect(model.longest()).toBeLessThan(Math.ceil((length * 9) / 8) + multiple);
        if (multiple === 1 && length < 64) expect(model.hasRoom(length, 1)).toBe(false);
        continue;
      }
      expect(start % multiple).toBe(0);
      expect(model.isFree(start, length)).toBe(true);
      model.used.fill(1, start, start + length);
      taken.push({ start, length });
    }
    for (const { start, length } of taken) free.give(start, length);
    expect(free.runs).toBe(1);
    expect(free.take(granules)).toBe(0);
  },
);

test('the best fit of small sizes is taken, and what is left of it stays free', () => {
  const free = new Extents();
  for (const [start, length] of [
    [0, 40],
    [50, 7],
    [60, 9],
    [70, 60],
  ] as const)
    free.give(start, length);
  expect([free.take(8), free.take(7), free.take(1), free.take(41), free.take(41)]).toEqual([
    60,
    50,
    68,
    70,
    undefined,
  ]);
  expect({ runs: free.runs, granules: free.granules }).toEqual({ runs: 2, granules: 40 + 19 });
});

test('granules in the middle of a free run can be taken', () => {
  const free = new Extents();
  free.give(100, 1000);
  expect([free.takeAt(500, 100), free.takeAt(100, 1), free.takeAt(1099, 1)]).toEqual([true, true, true]);
  for (const [start, length] of [
    [550, 10],
    [100, 1],
    [499, 2],
    [1099, 2],
    [0, 10],
  ] as const)
    expect(free.takeAt(start, length)).toBe(false);
  expect({ runs: free.runs, granules: free.granules }).toEqual({ runs: 2, granules: 898 });
  free.give(500, 100);
  expect(free.take(998)).toBe(101);
});

test('a hundred thousand runs of two sizes with holes between them are found and joined again', () => {
  const free = new Extents();
  const COUNT = 100_000;
  free.give(0, 3 * COUNT);
  const starts = Array.from({ length: COUNT }, () => free.take(3)!);
  expect(free.granules).toBe(0);
  for (let i = 0; i < COUNT; i += 2) free.give(starts[i]!, 3);
  expect(free.runs).toBe(COUNT / 2);
  expect(free.take(4)).toBeUndefined();
  const small = Array.from({ length: COUNT / 2 }, () => free.take(2)!);
  expect(free.runs).toBe(COUNT / 2);
  for (const start of small) free.give(start, 2);
  for (let i = 1; i < COUNT; i += 2) free.give(starts[i]!, 3);
  expect({ runs: free.runs, granules: free.granules }).toEqual({ runs: 1, granules: 3 * COUNT });
});
