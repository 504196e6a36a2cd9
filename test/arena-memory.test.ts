// How an arena uses its memory: what is packed, shared, grown, given back, and told of.

import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import {
  type ArenaOptions,
  assemble,
  CodeArena,
  compileX64,
  emitNative,
  type MachineCode,
  verify,
} from '../src/index.js';
import { makeCode } from '../src/jit/target.js';
import { inChild } from './children.js';
import { randomBkeyFormat, randomBytes, seeded } from './random-formats.js';
import { hex } from './vectors.js';

const arenas: CodeArena[] = [];
function arena(options?: ArenaOptions): CodeArena {
  const made = new CodeArena(options);
  arenas.push(made);
  return made;
}
afterEach(() => {
  for (const one of arenas.splice(0)) one.dispose();
});

const returns = (value: number | bigint) =>
  compileX64(verify(assemble(`r0 = ${value} ll\nexit`), { args: [] }));
/** Code of so many bytes, behind `mov eax, value; ret`. */
function padded(value: number, length: number, alignment = 16): MachineCode {
  const bytes = new Uint8Array(length).fill(0x90);
  bytes.set([0xb8, value, value >> 8, value >> 16, 0, 0xc3]);
  return makeCode({ isa: 'x64', bytes, offsets: [], abi: { args: [] }, alignment, name: `padded ${value}` });
}
const memoryAt = (address: bigint, length: number): Uint8Array => {
  const bytes = new Uint8Array(length);
  const line = readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .find((each) => {
      const [start, end] = each
        .split(' ')[0]!
        .split('-')
        .map((word) => BigInt(`0x${word}`));
      return address >= start! && address < end!;
    })!;
  expect(line).toMatch(/r-x/);
  bytes.set(readMemory(address, length));
  return bytes;
};

function readMemory(address: bigint, length: number): Uint8Array {
  const fd = openSync('/proc/self/mem', 'r');
  const bytes = new Uint8Array(length);
  readSync(fd, bytes, 0, length, address);
  closeSync(fd);
  return bytes;
}

const TRAP = 0xcc;

describe('equal code', () => {
  it('is placed once, and goes when the last of its routines does', () => {
    const code = arena();
    const [one, two, three] = code.placeAll([returns(1), returns(2), returns(1)]);
    expect(one!.address).toBe(three!.address);
    expect(code.stats()).toMatchObject({ routines: 3, sharing: 1 });
    const { usedBytes } = code.stats();
    one!.free();
    expect([two!.call([]), three!.call([])]).toEqual([2n, 1n]);
    const { address } = three!;
    three!.free();
    expect([...readMemory(address, 16)]).toEqual(Array(16).fill(TRAP));
    expect(code.place(returns(1)).address).toBe(address);
    expect(code.stats().usedBytes).toBe(usedBytes);
  });

  it('keeps to each routine’s own contract', () => {
    const code = arena();
    const text = assemble('r0 = r1\nexit');
    const small = code.place(compileX64(verify(text, { args: [{ kind: 'scalar', max: 5n }] })));
    const any = code.place(compileX64(verify(text, { args: [{ kind: 'scalar' }] })));
    expect(any.address).toBe(small.address);
    expect(any.call([6n])).toBe(6n);
    expect(() => small.call([6n])).toThrow(/from 0 to 5, got 6/);
  });

  it('survives the replacement of one of its routines, also by itself', () => {
    const code = arena();
    const [one, two] = code.placeAll([returns(1), returns(1)]);
    code.replace(one!, returns(3));
    expect([one!.call([]), two!.call([])]).toEqual([3n, 1n]);
    code.replace(two!, returns(1));
    code.replace(one!, returns(1));
    expect([one!.call([]), two!.call([])]).toEqual([1n, 1n]);
    expect(one!.address).toBe(two!.address);
    expect(code.stats()).toMatchObject({ routines: 2, sharing: 1 });
  });

  it('that asks for more alignment than there is gets a copy of its own', () => {
    const code = arena();
    code.place(returns(0));
    const [near, aligned, again] = code.placeAll([padded(1, 8), padded(1, 8, 4096), padded(1, 8, 64)]);
    expect(near!.address % 4096n).toBe(16n);
    expect(aligned!.address % 4096n).toBe(0n);
    expect(again!.address).toBe(aligned!.address);
    aligned!.free();
    again!.free();
    expect([near!.call([]), code.place(padded(1, 8)).call([])]).toEqual([1n, 1n]);
  });

  it('that has data of its own, or calls helper functions, is not shared', () => {
    const code = arena();
    const helpers = (value: bigint) => ({ 1: { args: [], call: () => value } });
    const calling = compileX64(verify(assemble('call 1\nexit'), { args: [], helpers: helpers(0n) }));
    const [one, two] = [5n, 6n].map((value) => code.place(calling, { helpers: helpers(value) }));
    expect([one!.call([]), two!.call([])]).toEqual([5n, 6n]);
    expect(code.stats().sharing).toBe(0);
  });
});

describe('placing many', () => {
  it('is placing each: same results, packed one behind the other', () => {
    const random = seeded(3);
    const formats = Array.from({ length: 500 }, () => randomBkeyFormat(random));
    const codes = formats.map((format) => emitNative(format));
    const [together, apart] = [arena(), arena()];
    const routines = together.placeAll(codes);
    const single = codes.map((code) => apart.place(code));
    for (const [i, format] of formats.entries()) {
      const packed = randomBytes(random, format.packedBytes);
      const outs = [new Uint8Array(40), new Uint8Array(40)];
      routines[i]!.call([outs[0]!, packed]);
      single[i]!.call([outs[1]!, packed]);
      expect(hex(outs[0]!)).toBe(hex(outs[1]!));
    }
    expect(together.stats()).toEqual(apart.stats());
    expect(routines.map(({ address }) => address - routines[0]!.address)).toEqual(
      single.map(({ address }) => address - single[0]!.address),
    );
  });

  it('places all or none', () => {
    const code = arena();
    const kept = code.place(returns(1));
    kept.call([]);
    const before = code.stats();
    const calling = compileX64(verify(assemble('call 1\nexit'), { args: [], helpers: { 1: { args: [] } } }));
    const huge = { length: 2 ** 30 };
    expect(() => code.placeAll([returns(2), returns(1), calling])).toThrow(/helper function 1/);
    expect(() => code.placeAll([returns(2), null as never])).toThrow(/not machine code/);
    expect(() => code.placeAll(huge as never)).toThrow(/must be an array/);
    expect(code.stats()).toEqual(before);
    expect(code.placeAll([])).toEqual([]);
  });
});

describe('the memory', () => {
  it.each([16, 64] as const)(
    'has routines at multiples of %i bytes, traps behind and between them',
    (granule) => {
      const code = arena({ granule });
      const routines = [1, 15, 16, 17, 63, 64, 65].map((length, i) =>
        code.place(padded(i, Math.max(6, length))),
      );
      for (const { address } of routines) expect(address % BigInt(granule)).toBe(0n);
      const owners = code.layout()[0]!.extents;
      expect(owners.map(({ address }) => address)).toEqual(routines.map(({ address }) => address));
      for (const [i, { address, length }] of owners.entries()) {
        const end = owners[i + 1]?.address ?? address + 256n;
        const behind = readMemory(address + BigInt(length), Number(end - address) - length);
        expect(behind.every((byte) => byte === TRAP)).toBe(true);
      }
      expect(code.stats().wastedBytes).toBe(code.stats().usedBytes - code.stats().codeBytes);
    },
  );

  it.each([16, 64, 256, 4096])('has code that asks for it at multiples of %i', (alignment) => {
    const code = arena();
    for (let i = 0; i < 40; i++) {
      const routine = code.place(padded(i, 10 + 40 * i, i % 3 ? alignment : 16));
      if (i % 3) expect(routine.address % BigInt(alignment)).toBe(0n);
      expect(routine.call([])).toBe(BigInt(i));
    }
  });

  it('lies within one 4 GiB, and is one mapping to the kernel however often it grew', () => {
    const code = arena({ name: 'one-region' });
    const first = code.place(returns(0));
    const routines = code.placeAll(Array.from({ length: 300 }, (_, i) => padded(i, 3000)));
    routines.push(...Array.from({ length: 300 }, (_, i) => code.place(padded(i, 5000))));
    for (const { address } of routines) expect(address >> 32n).toBe(first.address >> 32n);
    expect(code.stats().chunks).toBeGreaterThan(20);
    const maps = readFileSync('/proc/self/maps', 'utf8').split('\n');
    const ours = maps.filter((line) => line.includes('/memfd:one-region'));
    expect(ours.map((line) => line.split(/\s+/)[1])).toEqual(['r-xs']);
  });

  it('of one routine is 64 KiB, and that of freed ones goes back to the system', () => {
    const code = arena({ name: 'given-back' });
    const mapped = () => {
      const lines = readFileSync('/proc/self/maps', 'utf8').split('\n');
      return lines
        .filter((line) => line.includes('/memfd:given-back'))
        .map((line) =>
          line
            .split(' ')[0]!
            .split('-')
            .map((word) => Number.parseInt(word, 16)),
        )
        .reduce((sum, [start, end]) => sum + end! - start!, 0);
    };
    const one = code.place(returns(1));
    expect(code.stats().mappedBytes).toBe(65536);
    const many = code.placeAll(Array.from({ length: 2000 }, (_, i) => padded(i, 2000)));
    expect(mapped()).toBe(code.stats().mappedBytes);
    expect(mapped()).toBeGreaterThan(2000 * 2000);
    for (const routine of many.splice(0, 1999)) routine.free();
    expect(code.stats().chunks).toBeLessThanOrEqual(2 + 3);
    expect(mapped()).toBe(code.stats().mappedBytes);
    expect([one.call([]), many[0]!.call([])]).toEqual([1n, 1999n]);
    const refilled = code.placeAll(Array.from({ length: 2000 }, (_, i) => padded(i, 2000)));
    expect(refilled.every((routine, i) => routine.call([]) === BigInt(i))).toBe(true);
  });

  it('does not go back and forth when one routine at the edge does', () => {
    const code = arena();
    code.placeAll(Array.from({ length: 8 }, (_, i) => padded(i, 8000)));
    const chunks = new Set<number>();
    for (let i = 0; i < 50; i++) {
      const routine = code.place(padded(99, 8000));
      chunks.add(code.stats().chunks);
      routine.free();
      if (i > 0) chunks.add(code.stats().chunks);
    }
    expect([...chunks]).toEqual([2]);
  });

  it('is in use to at least 90 % after a churn of ten times the population, and adds up', () => {
    const random = seeded(7);
    const code = arena();
    const POPULATION = 5000;
    let made = 0;
    // As long as routines for keys of bcachefs are.
    const fresh = () => padded(made++, 74 + random(110));
    const live = code.placeAll(Array.from({ length: POPULATION }, fresh));
    for (let i = 0; i < 10 * POPULATION; i++) {
      const at = random(POPULATION);
      live[at]!.free();
      live[at] = code.place(fresh());
    }
    const { usedBytes, freeBytes, mappedBytes } = code.stats();
    expect(usedBytes + freeBytes).toBe(mappedBytes);
    expect(usedBytes / mappedBytes).toBeGreaterThan(0.9);
    const told = code.layout().flatMap(({ extents }) => extents);
    expect(told.map(({ address }) => address)).toEqual(
      [...new Set(live.map(({ address }) => address))].sort((a, b) => Number(a - b)),
    );
  });
});

describe('what is read back', () => {
  it('is decoded, too, where that is asked for', () => {
    const code = arena({ check: 'decode' });
    const random = seeded(1);
    for (let i = 0; i < 20; i++) code.place(emitNative(randomBkeyFormat(random)));
    expect(code.place(returns(5)).call([])).toBe(5n);
  });

  it('is not placed if it is no code', () => {
    const bytes = Uint8Array.of(0x90, 0x06, 0xc3);
    const wrong = makeCode({ isa: 'x64', bytes, offsets: [], abi: undefined, name: 'wrong' });
    const code = arena({ check: 'decode' });
    expect(() => code.placeAll([returns(1), wrong])).toThrow(/routine 'wrong': byte 1 of its code/);
    expect(code.stats()).toMatchObject({ routines: 0, usedBytes: 0 });
  });
});

describe("strategy 'mprotect'", () => {
  it('does what the other does', () => {
    const code = arena({ strategy: 'mprotect' });
    const routines = Array.from({ length: 300 }, (_, i) => code.place(padded(i, 500)));
    expect(routines.map((routine) => routine.call([]))).toEqual(routines.map((_, i) => BigInt(i)));
    code.replace(routines[0]!, returns(1000));
    expect(routines[0]!.call([])).toBe(1000n);
    const { address } = routines[7]!;
    expect(memoryAt(address, 6)[0]).toBe(0xb8);
    routines[7]!.free();
    expect([...memoryAt(address, 500)]).toEqual(Array(500).fill(TRAP));
    for (const routine of routines) routine.free();
    expect(code.stats()).toMatchObject({ routines: 0, usedBytes: 0 });
    expect(code.stats().chunks).toBeLessThanOrEqual(3);
  });

  it('has no page that is writable and executable, nor a writable one where nothing is being placed', () => {
    const code = arena({ strategy: 'mprotect' });
    for (let i = 0; i < 50; i++) {
      code.place(padded(i, 3000));
      const { address } = code.layout()[0]!;
      const end = address + BigInt(code.stats().mappedBytes);
      for (const line of readFileSync('/proc/self/maps', 'utf8').split('\n')) {
        const [, start, stop, permissions] = /^(\w+)-(\w+) (\S+)/.exec(line) ?? [];
        if (!start || BigInt(`0x${stop}`) <= address || BigInt(`0x${start}`) >= end) continue;
        expect(permissions).toBe('r-xp');
      }
    }
  });

  it('is not changed by a helper function, which would take the pages from under the code that called it', () => {
    const code = arena({ strategy: 'mprotect' });
    const seen: string[] = [];
    const helpers = {
      1: {
        args: [],
        call() {
          for (const change of [() => code.place(returns(2)), () => kept.free(), () => code.seal()]) {
            try {
              change();
            } catch (error) {
              seen.push((error as Error).message);
            }
          }
          return 3n;
        },
      },
    };
    const kept = code.place(returns(1));
    const calling = code.place(compileX64(verify(assemble('call 1\nexit'), { args: [], helpers })), {
      helpers,
    });
    expect(calling.call([])).toBe(3n);
    expect(seen).toHaveLength(3);
    for (const message of seen) expect(message).toMatch(/helper function cannot change/);
    expect(kept.call([])).toBe(1n);
  });

  it.each([
    [{ strategy: 'rwx' }, /strategy must be memfd or mprotect/],
    [{ granule: 8 }, /granule must be 16 or 64/],
    [{ check: true }, /check must be compare or decode/],
    [{ name: 5 }, /arena's name/],
  ])('and options that are none are refused: %j', (options, says) => {
    expect(() => new CodeArena(options as never)).toThrow(says);
  });
});

it('an arena that was forgotten gives its mappings and descriptors back; a routine keeps its own', () => {
  const [before, after, r0] = inChild(`
    const kept = new CodeArena({ name: 'kept' }).place(returns(5));
    (() => { for (let i = 0; i < 30; i++) new CodeArena({ name: 'forgotten' }).place(returns(i)).call([]); })();
    say({ maps: maps('forgotten').length, files: files('forgotten').length });
    for (let i = 0; i < 20 && maps('forgotten').length > 0; i++) {
      globalThis.gc();
      await new Promise((done) => setTimeout(done, 10));
    }
    say({ maps: maps('forgotten').length, files: files('forgotten').length });
    say(kept.call([]));`);
  expect(before).toMatchObject({ maps: 30, files: 60 });
  expect(after).toEqual({ maps: 0, files: 0 });
  expect(r0).toBe('5');
});
