// JavaScript can be cut off at any call: by the end of the stack, by node:vm's timeout, by process.exit. Each runs in a process of its
// own, because what it looks for is a fault.

import { describe, expect, it } from 'vitest';
import { inChild } from './children.js';

/** Threads that end in an unusual way, and what the process says afterwards. */
const ends = (worker: string) => `
  const code = "import(" + JSON.stringify(${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)}) + ").then((unpack) => {" +
    "const { CodeArena, assemble, compileX64, verify } = unpack;" + ${JSON.stringify(worker)} + "})";
  for (let i = 0; i < 3; i++) {
    const ended = new Worker(code, { eval: true });
    say(await new Promise((done) => ended.once('exit', done)));
  }`;

describe('a worker', () => {
  it('may call its routines, and unpack, when it exits', () => {
    const worker = `
      const routine = new CodeArena().place(compileX64(verify(assemble('r0 = 42\\nexit'), { args: [] })));
      const unpacker = unpack.createUnpacker(unpack.bkeyFormat({ keyU64s: 1, bitsPerField: [8, 0, 0, 0, 0, 0], fieldOffset: [0n, 0n, 0n, 0n, 0n, 0n] }));
      process.on('exit', () => {
        const sum = Number(routine.call([])) + unpacker.unpack(new Uint8Array(8)).length;
        process.exitCode = sum;
      });`;
    expect(inChild(ends(worker))).toEqual([82, 82, 82]);
  });

  it('may exit out of a helper function', () => {
    const worker = `
      const helpers = { 1: { args: [] } };
      const code = compileX64(verify(assemble('call 1\\nexit'), { args: [], helpers }));
      const exit = { args: [], call: () => process.exit(7) };
      new CodeArena().place(code, { helpers: { 1: exit } }).call([]);`;
    expect(inChild(ends(worker))).toEqual([7, 7, 7]);
  });
});

it('code that was not placed because the stack ended is placed when it is given again', () => {
  const script = `
    const arena = new CodeArena();
    const codes = Array.from({ length: 2000 }, (_, i) => returns(i));
    const deep = (tried) => {
      try {
        deep(tried);
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        tried.push(tried.length);
        arena.place(codes[tried.at(-1)]);
      }
    };
    let overflows = 0;
    const tried = [];
    for (let round = 0; round < 40; round++) {
      try { deep(tried); } catch (error) { if (error instanceof RangeError) overflows++; }
      if (tried.length > 1900) break;
    }
    const results = tried.map((i) => Number(arena.place(codes[i]).call([])));
    say([tried.length > 0, results.every((result, i) => result === i)]);`;
  expect(inChild(script)).toEqual([[true, true]]);
});

it('placing that node:vm cuts off again and again leaves what was placed as it was', () => {
  const script = `
    import vm from 'node:vm';
    const codes = Array.from({ length: 20000 }, (_, i) => returns(i));
    let [cuts, wrong] = [0, 0];
    const end = Date.now() + 3000;
    while (Date.now() < end) {
      const arena = new CodeArena();
      const live = [];
      let next = 0;
      globalThis.go = () => {
        while (next < codes.length) {
          const first = next;
          next += 5;
          arena.placeAll(codes.slice(first, next)).forEach((routine, i) => live.push([BigInt(first + i), routine]));
        }
      };
      while (next < codes.length) {
        try {
          vm.runInThisContext('go()', { timeout: 1 });
        } catch (error) {
          if (error.code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error;
          cuts++;
        }
      }
      for (const [value, routine] of live) if (routine.call([]) !== value) wrong++;
      arena.dispose();
    }
    say([cuts > 10, wrong]);`;
  expect(inChild(script)).toEqual([[true, 0]]);
});

it('a dispose that was cut off leaves routines that are refused, and another one finishes it', () => {
  const script = `
    import vm from 'node:vm';
    const codes = Array.from({ length: 5000 }, (_, i) => returns(i));
    const refused = new Set();
    for (let round = 0; round < 40; round++) {
      const arena = new CodeArena({ name: 'cut-off' });
      const routines = arena.placeAll(codes);
      globalThis.go = () => {
        const begun = performance.now() + 0.9 + Math.random() / 5;
        while (performance.now() < begun);
        arena.dispose();
      };
      try { vm.runInThisContext('go()', { timeout: 1 }); } catch {}
      for (const routine of [routines[0], routines.at(-1)]) refused.add(tryTo(() => routine.call([])).slice(0, 7));
      arena.dispose();
      refused.add(tryTo(() => routines[1].call([])).slice(0, 7));
    }
    say([[...refused].filter((what) => !/^\\d+$/.test(what)), files('cut-off').length]);`;
  expect(inChild(script)).toEqual([[['A-FREED'], 0]]);
});
