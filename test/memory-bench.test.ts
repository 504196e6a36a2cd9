// The benchmark of executable memory, in small: what it measures is there, and is what it says.

import { describe, expect, it } from 'vitest';

// bench/ is JavaScript without types, and runs on dist/.
const load = (file: string) => import(new URL(`../bench/${file}.mjs`, import.meta.url).href);
const [{ measure, report }, { population }, { Pages }, { callsInRandomOrder }, { seeded, realFormats }] =
  await Promise.all(['memory', 'memory/population', 'memory/pages', 'memory/calls', 'work'].map(load));
const { emitNative } = await import(new URL('../dist/index.js', import.meta.url).href);

it('every way across from JavaScript takes some time, and a function of koffi’s is made in some', async () => {
  const { crossing } = await load('crossing');
  const { one, many, making } = await crossing({ rounds: 1, random: seeded(1) });
  expect([one.length, many.length]).toEqual([14, 1]);
  for (const { ns, median } of [...one, ...many]) expect(median).toBeGreaterThanOrEqual(ns);
  expect(making).toBeGreaterThan(0);
});

describe('the benchmark of executable memory', () => {
  it('has a row for each way and number, and a report of them', () => {
    const sizes = { routines: [300], called: [64], churn: 2, rounds: 2, linuxPrograms: 2 };
    const run = measure({ ...sizes, seed: 1, say: () => {} });
    const ways = ['packed, 16 bytes', 'packed, 64 bytes', 'a page each'];
    expect(run.results.map(({ how }: { how: string }) => how)).toEqual(ways);
    expect(run.calls.map(({ how }: { how: string }) => how)).toEqual(ways);
    for (const { us, full, churned } of run.results) {
      for (const time of Object.values(us)) expect(time).toBeGreaterThan(0);
      expect(full.codeBytes).toBeGreaterThan(300 * 20);
      expect(full.usedBytes).toBeGreaterThanOrEqual(full.codeBytes);
      expect(full.mappedBytes).toBeGreaterThanOrEqual(full.usedBytes);
      if (churned) expect(churned.codeBytes).toBeGreaterThan(0);
    }
    for (const { ns, median } of run.calls) {
      expect(ns).toBeGreaterThan(0);
      expect(median).toBeGreaterThanOrEqual(ns);
    }
    if (!run.linux.missing) expect(run.linux.taken).toBeGreaterThanOrEqual(run.linux.code + 8);
    const text = report(run);
    for (const words of [...ways, 'Linux', 'uBPF', 'DPDK', 'Calls in random order'])
      expect(text).toContain(words);
  });

  it('is of routines that differ, of the sizes that code of real formats has', () => {
    const { formats } = population(2000, seeded(2));
    const lengths: number[] = formats
      .map((format: object) => emitNative(format).length)
      .sort((a: number, b: number) => a - b);
    const codes = new Set(
      formats.map((format: object) => Buffer.from(emitNative(format).bytes).toString('hex')),
    );
    expect(codes.size).toBe(2000);
    const real: number[] = realFormats()
      .map((format: object) => emitNative(format).length)
      .sort((a: number, b: number) => a - b);
    const median = (sorted: number[]) => sorted[sorted.length >> 1]!;
    expect(Math.abs(median(lengths) - median(real))).toBeLessThan(8);
  });

  it('runs the code that is a page each, and gives the pages back', () => {
    const { formats } = population(20, seeded(3));
    const codes = formats.map((format: object) => emitNative(format));
    const pages = new Pages(codes);
    expect(new Set(pages.addresses.map((address: bigint) => address % 4096n))).toEqual(new Set([0n]));
    pages.dispose();
    const rows = callsInRandomOrder(codes, [20], { rounds: 1, random: seeded(4) });
    expect(rows).toHaveLength(3);
  });
});
