// What is left when arenas, workers and processes end: no descriptor, no mapping, and no way to call what is gone.

import { readdirSync, readlinkSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { readMaps } from '../src/exec/maps.js';
import { type ArenaOptions, assemble, CodeArena, compileX64, createUnpacker, verify } from '../src/index.js';
import { inChild } from './children.js';
import { randomBkeyFormat, seeded } from './random-formats.js';

const returns = (value: number) => compileX64(verify(assemble(`r0 = ${value}\nexit`), { args: [] }));
const descriptors = () => readdirSync('/proc/self/fd').length;
/** Mappings of code by their memfd's name, and addresses reserved for it: nothing else reserves so many without access. */
const mappings = (name: string) =>
  readMaps().filter(
    ({ path, permissions, bytes }) => path.includes(name) || (permissions === '---p' && bytes > 2 ** 28),
  ).length;

const WAYS: Record<string, ArenaOptions> = {
  'placed by memfd': { name: 'leak-test' },
  'placed by mprotect': { strategy: 'mprotect' },
  'with lines of their own': { name: 'leak-test', granule: 64 },
};

describe('arenas that were disposed of leave nothing:', () => {
  it.each(Object.keys(WAYS))('%s', (way) => {
    const before = [descriptors(), mappings('leak-test')];
    for (let i = 0; i < 50; i++) {
      const arena = new CodeArena(WAYS[way]);
      const routine = arena.place(returns(i));
      expect(routine.call([])).toBe(BigInt(i));
      if (i % 2) routine.free();
      arena.dispose();
      arena.dispose();
    }
    expect([descriptors(), mappings('leak-test')]).toEqual(before);
  });

  it('an arena whose making fails', () => {
    const before = [descriptors(), mappings('leak-test')];
    for (const wrong of [{ granule: 32 }, { symbols: '/' }, { name: '' }, { check: 'no' }])
      expect(() => new CodeArena({ name: 'leak-test', ...wrong } as never)).toThrow();
    expect([descriptors(), mappings('leak-test')]).toEqual(before);
  });
});

describe('what is gone is an error, and no fault:', () => {
  it('a routine after free, after dispose, and after both', () => {
    const arena = new CodeArena();
    const [freed, kept] = [arena.place(returns(1)), arena.place(returns(2))];
    freed.call([]);
    freed.free();
    freed.free();
    expect(() => freed.call([])).toThrow(expect.objectContaining({ code: 'A-FREED' }));
    expect(() => arena.replace(freed, returns(3))).toThrow(expect.objectContaining({ code: 'A-FREED' }));
    arena.dispose();
    arena.dispose();
    for (const routine of [freed, kept]) {
      expect(() => routine.call([])).toThrow(expect.objectContaining({ code: 'A-FREED' }));
      expect(() => routine.address).toThrow(expect.objectContaining({ code: 'A-FREED' }));
      routine.free();
    }
  });

  it('an unpacker after dispose, and one whose arena is gone', () => {
    const format = randomBkeyFormat(seeded(4));
    const packed = new Uint8Array(format.packedBytes);
    const arena = new CodeArena();
    const [disposed, orphan] = [createUnpacker(format, { arena }), createUnpacker(format, { arena })];
    disposed.unpack(packed);
    disposed.dispose();
    disposed.dispose();
    arena.dispose();
    expect(() => disposed.unpack(packed)).toThrow(expect.objectContaining({ code: 'A-DISPOSED' }));
    for (const call of [() => orphan.unpack(packed), () => orphan.unpackMany(packed, 1)])
      expect(call).toThrow(expect.objectContaining({ code: 'A-FREED' }));
    orphan.dispose();
  });
});

const SCRIPT = new URL('./arena-worker.mjs', import.meta.url);

/** Runs a worker that makes arenas and then ends that way. */
async function runWorker(end: string, terminated: boolean): Promise<void> {
  const worker = new Worker(SCRIPT, { workerData: end, stderr: true });
  const failures: Error[] = [];
  worker.on('error', (error) => failures.push(error));
  const gone = new Promise((resolve) => worker.once('exit', resolve));
  await new Promise((resolve) => worker.once('message', resolve).once('exit', resolve));
  if (terminated) await worker.terminate();
  await gone;
  expect(failures.map(({ message }) => message)).toEqual(end === 'throw' ? ['on purpose'] : []);
}

describe('a worker leaves nothing of its arenas', () => {
  const ends: [string, string, boolean][] = [
    ['when it comes to its end', 'return', false],
    ['when it calls process.exit', 'exit', false],
    ['when it throws', 'throw', false],
    ['when it is terminated', 'wait', true],
    ['when it is terminated while it places and calls', 'work', true],
  ];
  it.each(ends)('%s', async (_, end, terminated) => {
    await runWorker(end, terminated);
    const before = [codeFiles(), mappings('of-worker')];
    for (let i = 0; i < 5; i++) await runWorker(end, terminated);
    expect([codeFiles(), mappings('of-worker')]).toEqual(before);
    expect(codeFiles()).toBe(0);
  });
});

/** Descriptors of workers' arenas. */
function codeFiles(): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes('of-worker');
    } catch {
      return false; // the one that lists them
    }
  }).length;
}

describe('garbage collection', () => {
  it('gives back what forgotten arenas held, their files of names included', () => {
    const script = `
      const state = () => [files('forgotten').length, files('names.map').length, maps('forgotten').length];
      const folder = fs.mkdtempSync('/tmp/leaks-');
      const make = () => { for (let i = 0; i < 30; i++) {
        const arena = new CodeArena({ name: 'forgotten', symbols: folder + '/names.map' });
        arena.place(returns(i)).call([]);
      } };
      make();
      const made = state();
      const wait = () => new Promise((resolve) => setTimeout(resolve, 20));
      for (let i = 0; i < 100 && state().some((count) => count > 0); i++) { gc(); await wait(); }
      fs.rmSync(folder, { recursive: true });
      say([made, state()]);`;
    expect(inChild(script)).toEqual([
      [
        [60, 30, 30],
        [0, 0, 0],
      ],
    ]);
  });

  it('keeps what a routine or an unpacker needs, for as long as it can be called', () => {
    const script = `
      const made = Array.from({ length: 20 }, (_, i) => new CodeArena({ name: 'kept' }).place(returns(i)));
      const wait = () => new Promise((resolve) => setTimeout(resolve, 5));
      for (let i = 0; i < 10; i++) { gc(); await wait(); }
      say([maps('kept').length, made.map((routine) => routine.call([])).join()]);`;
    expect(inChild(script)).toEqual([[20, Array.from({ length: 20 }, (_, i) => i).join()]]);
  });
});
