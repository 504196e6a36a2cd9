// What is left when arenas, workers and processes end: no descriptor, no mapping, and no way to call what is gone.

import { readdirSync, readlinkSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { readMaps } from '../src/exec/maps.js';
import { type ArenaOptions, assemble, CodeArena, compileX64, createUnpacker, verify } from '../src/index.js';
import { inChild } from './children.js';
import { randomBkeyFormat, seeded } from './random-formats.js';
import { startWorker } from './threads.js';

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

const MAKE = `
  const { CodeArena, assemble, compileX64, verify } = unpack;
  const returns = (value) => compileX64(verify(assemble('r0 = ' + value + '\\nexit'), { args: [] }));
  const arenas = Array.from({ length: 5 }, (_, i) => {
    const arena = new CodeArena({ name: 'of-worker' });
    arena.place(returns(i)).call([]);
    return arena;
  });`;
const WAIT = "say('ready'); setInterval(() => {}, 1000);";
/** A list of what goes with a thread has room for 255. */
const MANY = `
  for (let i = 0; i < 300; i++) arenas.push(new CodeArena({ name: 'of-worker' }));
  for (let i = 0; i < 100; i++) arenas[i].dispose();
  ${WAIT}`;
const WORK = `
  say('ready');
  for (let i = 0; ; i++) {
    const routine = arenas[i % 5].place(returns(i));
    routine.call([]);
    routine.free();
  }`;

/** Runs a worker that makes arenas, and then ends. */
async function runWorker(end: string, terminated: boolean): Promise<void> {
  const worker = startWorker(MAKE + end);
  const failures: string[] = [];
  worker.on('error', ({ message }) => failures.push(message));
  const gone = new Promise((resolve) => worker.once('exit', resolve));
  // Not `said`, which fails if the worker does before it has said anything.
  await Promise.race([new Promise((resolve) => worker.once('message', resolve)), gone]);
  if (terminated) await worker.terminate();
  await gone;
  expect(failures).toEqual(end.startsWith('throw') ? ['on purpose'] : []);
}

describe('a worker leaves nothing of its arenas', () => {
  const ends: [string, string, boolean][] = [
    ['when it comes to its end', '', false],
    ['when it calls process.exit', 'process.exit(0);', false],
    ['when it throws', "throw new Error('on purpose');", false],
    ['when it is terminated while it waits', WAIT, true],
    ['when it is terminated while it places and calls', WORK, true],
    ['when it is terminated with more arenas than a list has room for', MANY, true],
  ];
  it.each(ends)('%s', async (_, end, terminated) => {
    await runWorker(end, terminated);
    const before = mappings('of-worker');
    for (let i = 0; i < 3; i++) await runWorker(end, terminated);
    expect([codeFiles(), mappings('of-worker')]).toEqual([0, before]);
  });

  it('but what others may be in, when it is terminated: a shared arena’s code', async () => {
    const before = mappings('of-worker');
    await runWorker(`arenas[0].share(); ${WAIT}`, true);
    expect(codeFiles()).toBe(0);
    expect(mappings('of-worker')).toBeGreaterThan(before);
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
      const folder = fs.mkdtempSync((await import('node:os')).tmpdir() + '/leaks-');
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

  it('leaves the descriptors of others alone, after an arena has been disposed of', () => {
    const script = `
      const folder = fs.mkdtempSync((await import('node:os')).tmpdir() + '/leaks-');
      const make = () => {
        const arena = new CodeArena({ symbols: folder + '/names.map' });
        arena.place(returns(1));
        arena.dispose();
      };
      for (let i = 0; i < 10; i++) make();
      const opened = Array.from({ length: 20 }, (_, i) => fs.openSync(folder + '/' + i, 'w'));
      for (let i = 0; i < 20; i++) { gc(); await new Promise((resolve) => setTimeout(resolve, 5)); }
      for (const fd of opened) fs.writeSync(fd, 'still open');
      fs.rmSync(folder, { recursive: true });
      say(opened.length);`;
    expect(inChild(script)).toEqual([20]);
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
