// An arena whose routines other threads call.

import { execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { runInNewContext } from 'node:vm';
import { afterEach, describe, expect, it } from 'vitest';
import {
  type ArenaHandle,
  assemble,
  attachArena,
  CodeArena,
  type Contract,
  compileX64,
  type MachineCode,
  type Routine,
  verify,
} from '../src/index.js';
import { makeCode } from '../src/jit/target.js';
import { inChild } from './children.js';
import { allSaid, said, startWorker } from './threads.js';

const arenas: CodeArena[] = [];
function arena(name = 'test-shared'): CodeArena {
  const made = new CodeArena({ name });
  arenas.push(made);
  return made;
}
afterEach(() => {
  for (const one of arenas.splice(0)) one.dispose();
});

const returns = (value: number) => compileX64(verify(assemble(`r0 = ${value}\nexit`), { args: [] }));
const compiled = (text: string, contract: Contract) => compileX64(verify(assemble(text), contract));
const mappings = (name: string) =>
  readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes(`/memfd:${name}`)).length;
const descriptors = (name: string) =>
  readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes(`/memfd:${name}`);
    } catch {
      return false;
    }
  }).length;

/** Returns `value` after about `ms` milliseconds in machine code. */
function slow(value: number, ms: number): MachineCode {
  // mov rcx, turns; again: dec rcx; jnz again; mov eax, value; ret
  const bytes = Uint8Array.of(
    0x48,
    0xb9,
    ...Array(8).fill(0),
    0x48,
    0xff,
    0xc9,
    0x75,
    0xfb,
    0xb8,
    value,
    0,
    0,
    0,
    0xc3,
  );
  new DataView(bytes.buffer).setBigUint64(2, BigInt(ms * TURNS_PER_MS), true);
  return makeCode({ isa: 'x64', bytes, offsets: [], abi: { args: [] }, name: `slow ${value}` });
}
/** Returns the word that r1 points to, once that is not 0. */
const waiting = (): MachineCode =>
  makeCode({
    isa: 'x64',
    bytes: Uint8Array.of(0xf3, 0x90, 0x8b, 0x07, 0x85, 0xc0, 0x74, 0xf8, 0xc3), // again: pause; mov eax, [rdi]; test eax, eax; jz again; ret
    offsets: [],
    abi: { args: [{ kind: 'memory', bytes: 4, access: 'read' }] },
    name: 'waiting',
  });

/** Of a loop of two instructions, a turn of which takes a cycle. */
const TURNS_PER_MS = 3_000_000;

const ATTACH = 'const arena = unpack.attachArena(workerData.handle);';

/** A worker that is in a call of `waiting` code when this returns, and its messages afterwards; until it is told what to return. */
async function startWaiting(owner: CodeArena, routine: Routine) {
  const word = new Int32Array(new SharedArrayBuffer(4));
  const worker = startWorker(
    `${ATTACH}
    const call = () => arena.routine(workerData.number).call([new Uint8Array(workerData.word.buffer)]);
    for (let i = 0; i < 2; i++) say(tryTo(call));`,
    { handle: owner.share(), number: routine.handle(), word },
  );
  const messages = allSaid(worker);
  await until(() => calls(owner) > 0);
  const letReturn = (value: number) => Atomics.store(word, 0, value);
  return { worker, messages, letReturn };
}

describe('another thread', () => {
  it('calls routines by their numbers, and sees what they are replaced by', async () => {
    const owner = arena();
    const routine = owner.place(returns(1));
    const worker = startWorker(
      `${ATTACH}
      const routine = arena.routine(workerData.number);
      parentPort.on('message', () => say(tryTo(() => routine.call([]))));
      say('ready');`,
      { handle: owner.share(), number: routine.handle() },
    );
    expect(await said(worker)).toBe('ready');
    const ask = () => {
      worker.postMessage(0);
      return said(worker);
    };
    expect(await ask()).toBe('1');
    for (let i = 2; i < 100; i++) {
      owner.replace(routine, returns(i));
      if (i % 10 === 0) expect(await ask()).toBe(String(i));
    }
    routine.free();
    expect(await ask()).toMatch(/^A-FREED/);
    expect(owner.place(returns(7)).handle()).not.toBe(routine);
    expect(await ask()).toMatch(/^A-FREED/);
    expect(owner.reclaim()).toBe(0);
    owner.dispose();
    expect(await ask()).toMatch(/^A-DISPOSED this arena has been disposed of/);
    await worker.terminate();
  });

  it('is held to the contract of the code that it calls, with buffers, numbers and ranges', async () => {
    const owner = arena();
    const contract: Contract = {
      args: [
        { kind: 'memory', bytes: 8, access: 'write' },
        { kind: 'memory', bytes: 4, access: 'read' },
        { kind: 'scalar', min: 1n, max: 2n ** 63n },
      ],
      disjoint: true,
    };
    const routine = owner.place(
      compiled('r0 = *(u32 *)(r2 + 0)\n*(u64 *)(r1 + 0) = r0\nr0 = r3\nexit', contract),
    );
    const worker = startWorker(
      `${ATTACH}
      const routine = arena.routine(workerData.number);
      const [eight, four] = [new Uint8Array(8), Uint8Array.of(1, 2, 3, 4)];
      say(tryTo(() => routine.call([eight, four, 2n ** 63n])));
      say(tryTo(() => String(eight)));
      say(tryTo(() => routine.call([eight, four, 0n])));
      say(tryTo(() => routine.call([eight, new Uint8Array(3), 1n])));
      say(tryTo(() => routine.call([eight, eight.subarray(4), 1n])));
      say(tryTo(() => routine.call([eight, four])));
      say(tryTo(() => routine.call([eight, four, {}])));`,
      { handle: owner.share(), number: routine.handle() },
    );
    expect(await allSaid(worker)).toEqual([
      String(2n ** 63n),
      '1,2,3,4,0,0,0,0',
      expect.stringMatching(/^A-RANGE args\[2\] \(r3\) must be a bigint from 1 to/),
      expect.stringMatching(/^A-LENGTH args\[1\] \(r2\) has 3 bytes/),
      expect.stringMatching(/^A-OVERLAP/),
      expect.stringMatching(/^A-ARGS/),
      expect.stringMatching(/^A-TYPE args\[2\]/),
    ]);
  });

  it('needs memory aligned where atomic operations rest on it, and gets lengths derived', () => {
    const owner = arena();
    const handle = owner.share();
    const attached = attachArena(handle);
    const atomic = owner.place(
      compiled('r2 = 1\nlock *(u64 *)(r1 + 0) += r2\nr0 = *(u64 *)(r1 + 0)\nexit', {
        args: [{ kind: 'memory', bytes: 8, access: 'readwrite' }],
      }),
    );
    const length = owner.place(
      compiled('r0 = r2\nexit', {
        args: [
          { kind: 'buffer', access: 'read' },
          { kind: 'length', of: 0 },
        ],
      }),
    );
    const bytes = new Uint8Array(24);
    expect(attached.routine(atomic.handle()).call([bytes])).toBe(1n);
    expect(() => attached.routine(atomic.handle()).call([bytes.subarray(1)])).toThrow(/multiple of 8/);
    expect(attached.routine(length.handle()).call([bytes])).toBe(24n);
    attached.detach();
  });

  it('is refused a number that is none, one of another arena, and one that was freed, however often its slot is used', () => {
    const owner = arena();
    const attached = attachArena(owner.share());
    const numbers: number[] = [];
    for (let i = 0; i < 20; i++) {
      const routine = owner.place(returns(i));
      numbers.push(routine.handle());
      expect(attached.routine(numbers[i]!).call([])).toBe(BigInt(i));
      routine.free();
    }
    expect(new Set(numbers).size).toBe(20);
    const last = owner.place(returns(77));
    expect(attached.routine(last.handle()).call([])).toBe(77n);
    for (const number of [...numbers, 0, 5, 2 ** 50])
      expect(() => attached.routine(number).call([])).toThrow(/has been freed, or the number is of another/);
    for (const wrong of [-1, 1.5, '1', undefined, 2 ** 60])
      expect(() => attached.routine(wrong as number)).toThrow(/number must be a whole number/);
    attached.detach();
    attached.detach();
    expect(() => attached.routine(last.handle()).call([])).toThrow(/has been detached/);
  });
});

describe('what cannot be shared:', () => {
  const helpers = { 1: { args: [], call: () => 3n } };
  const calling = compiled('call 1\nexit', { args: [], helpers });

  it('code that calls helper functions, which run in the thread that placed it', () => {
    const owner = arena();
    owner.share();
    const routine = owner.place(calling, { helpers });
    expect(() => routine.handle()).toThrow(/calls helper functions or has data/);
    expect(routine.call([])).toBe(3n);
    const known = owner.place(returns(1));
    const number = known.handle();
    const before = owner.stats();
    expect(() => owner.replace(known, calling, { helpers })).toThrow(/calls helper functions or has data/);
    expect(owner.stats()).toEqual(before);
    expect([known.call([]), known.handle()]).toEqual([1n, number]);
  });

  it('an arena that is not, one of strategy mprotect, and one that was disposed of', () => {
    expect(() => arena().place(returns(1)).handle()).toThrow(/share\(\) it first/);
    const other = new CodeArena({ strategy: 'mprotect' });
    expect(() => other.share()).toThrow(/not executable while they are written to/);
    other.dispose();
    expect(() => other.share()).toThrow(/disposed/);
  });

  it('one where the kernel has no barrier for the code of all threads', () => {
    const SYS_MEMBARRIER = 324;
    const [share, own] = inChild(`
      refuse(${SYS_MEMBARRIER}, 1);
      const arena = new CodeArena();
      const routine = arena.place(returns(4));
      say(tryTo(() => arena.share()));
      say(routine.call([]));`);
    expect(share).toMatch(
      /^E-SYSTEM membarrier\(SYNC_CORE\) was refused \(EPERM\).*an arena for each thread/,
    );
    expect(own).toBe('4');
  });

  it('more than was asked for', () => {
    const owner = arena();
    const handle = owner.share({ routines: 2, threads: 1 });
    expect(owner.share({ routines: 9 })).toBe(handle);
    const [one, two, three] = owner.placeAll([returns(1), returns(2), returns(3)]);
    one!.handle();
    two!.handle();
    expect(() => three!.handle()).toThrow(/share\(\{ routines \}\) with more/);
    one!.free();
    expect(three!.handle()).toBeGreaterThan(0);
    const attached = attachArena(handle);
    expect(() => attachArena(handle)).toThrow(/share\(\{ threads \}\) with more/);
    attached.detach();
    attachArena(handle).detach();
    for (const wrong of [{ routines: 0 }, { routines: 1.5 }, { threads: 0 }, { threads: '4' }])
      expect(() => arena().share(wrong as never)).toThrow(/must be a whole number/);
  });
});

describe('a handle', () => {
  it('is of this process, and of an arena', () => {
    const handle = arena().share();
    const { kind, pid, token, memory } = handle;
    const wrong: [unknown, RegExp][] = [
      [undefined, /not made by CodeArena.share/],
      [{}, /not made by CodeArena.share/],
      [JSON.parse(JSON.stringify(handle)), /shared memory did not come along/],
      [{ ...handle, pid: pid + 1 }, /code is shared by threads of one process only/],
      [{ ...handle, token: token + 1 }, /of something else/],
      [{ ...handle, memory: new SharedArrayBuffer(8) }, /did not come along/],
      [{ ...handle, memory: new SharedArrayBuffer(memory.byteLength) }, /of something else/],
      [{ kind, pid, token }, /did not come along/],
    ];
    for (const [given, says] of wrong) expect(() => attachArena(given as ArenaHandle)).toThrow(says);
    attachArena(structuredClone(handle)).detach();
  });

  it('is refused in a child process, which has nothing of the arena', async () => {
    const owner = arena('not-inherited');
    owner.place(returns(1));
    const handle = owner.share();
    const child = fork(new URL('./shared-child.mjs', import.meta.url), [], { serialization: 'json' });
    child.send({ handle, name: 'not-inherited' });
    const [answer] = await once(child, 'message');
    child.disconnect();
    await once(child, 'exit');
    expect(answer).toEqual({
      refused: expect.stringMatching(/^A-HANDLE .*threads of one process only/),
      mappings: 0,
      descriptors: 0,
      own: '9',
    });
  });
});

describe('memory that was replaced or freed', () => {
  it('waits for the thread that is in it, which gets the result of what it called', async () => {
    const owner = arena();
    const routine = owner.place(waiting());
    const { address } = routine;
    const { messages, letReturn } = await startWaiting(owner, routine);
    owner.replace(
      routine,
      compiled('r0 = 6\nexit', { args: [{ kind: 'memory', bytes: 4, access: 'read' }] }),
    );
    expect(routine.address).not.toBe(address);
    expect(owner.reclaim()).toBe(16);
    expect(owner.stats()).toMatchObject({ retiredBytes: 16, routines: 1 });
    letReturn(5);
    expect(await messages).toEqual(['5', '6']);
    expect(owner.reclaim()).toBe(0);
    expect(owner.place(returns(8)).address).toBe(address);
  });

  it('does not wait for a thread that was killed in it, whose place another thread gets', async () => {
    const owner = arena();
    const routine = owner.place(waiting());
    const handle = owner.share({ threads: 1 });
    const { worker, messages, letReturn } = await startWaiting(owner, routine);
    routine.free();
    expect(owner.reclaim()).toBe(16);
    const ended = worker.terminate();
    letReturn(5);
    await ended;
    expect(await messages).toEqual([]);
    expect(calls(owner)).toBe(1);
    await until(() => owner.reclaim() === 0);
    const other = owner.place(returns(3));
    const next = startWorker(`${ATTACH} say(tryTo(() => arena.routine(workerData.number).call([])));`, {
      handle,
      number: other.handle(),
    });
    expect(await allSaid(next)).toEqual(['3']);
  });

  it('waits for the next call of a thread that node:vm cut off in it', () => {
    const owner = arena();
    const [quick, cut] = [owner.place(returns(1)), owner.place(slow(5, 100))];
    const attached = attachArena(owner.share());
    const call = () => attached.routine(cut.handle()).call([]);
    cut.handle();
    expect(() => runInNewContext('for (;;) call()', { call }, { timeout: 30 })).toThrow(/timed out/);
    cut.free();
    expect(owner.reclaim()).toBe(32);
    expect(attached.routine(quick.handle()).call([])).toBe(1n);
    expect(owner.reclaim()).toBe(0);
    attached.detach();
  });

  it('goes back when many have retired, without being asked to', () => {
    const owner = arena();
    owner.share();
    const routine = owner.place(returns(0));
    routine.handle();
    for (let i = 1; i < 1000; i++) owner.replace(routine, returns(i));
    const { retiredBytes, mappedBytes } = owner.stats();
    expect(retiredBytes).toBeLessThan(64 * 16);
    expect(mappedBytes).toBe(65536);
  });
});

describe('disposing', () => {
  it('of an arena that another thread is in waits for a second; then it refuses, and no new call begins', async () => {
    const owner = arena('disposed-late');
    const { messages, letReturn } = await startWaiting(owner, owner.place(waiting()));
    expect(() => owner.dispose()).toThrow(/another thread is in a call/);
    expect(mappings('disposed-late')).toBe(1);
    letReturn(5);
    expect(await messages).toEqual(['5', expect.stringMatching(/^A-DISPOSED/)]);
    owner.dispose();
    expect(mappings('disposed-late')).toBe(0);
  });

  it('of one whose calls are short waits for them', async () => {
    const owner = arena();
    const worker = startWorker(
      `${ATTACH}
      for (;;) {
        const result = tryTo(() => arena.routine(workerData.number).call([]));
        if (result === '5') continue;
        say(result);
        break;
      }`,
      { handle: owner.share(), number: owner.place(slow(5, 20)).handle() },
    );
    const messages = allSaid(worker);
    await until(() => calls(owner) > 0);
    owner.dispose();
    expect(await messages).toEqual([expect.stringMatching(/^A-DISPOSED/)]);
  });

  it('after sealing: other threads still call what is there', async () => {
    const owner = arena('sealed-shared');
    const [kept, gone] = owner.placeAll([returns(1), returns(2)]);
    const data = { handle: owner.share(), kept: kept!.handle(), gone: gone!.handle() };
    owner.seal();
    gone!.free();
    const worker = startWorker(
      `${ATTACH}
      for (const number of [workerData.kept, workerData.gone]) say(tryTo(() => arena.routine(number).call([])));`,
      data,
    );
    expect(await allSaid(worker)).toEqual(['1', expect.stringMatching(/^A-FREED/)]);
    expect(() => owner.replace(kept!, returns(3))).toThrow(/sealed/);
  });
});

describe('a worker that ends', () => {
  const OWN = `
    const returns = (value) => unpack.compileX64(unpack.verify(unpack.assemble('r0 = ' + value + '\\nexit'), { args: [] }));
    const arena = new unpack.CodeArena({ name: workerData.name });
    say(String(arena.place(returns(4)).call([])));`;

  it.each([
    ['by itself', ''],
    ['by process.exit', 'process.exit(0);'],
    ['by an error', "throw new Error('expected');"],
  ])('%s leaves no mapping and no descriptor of its own arenas', async (how, script) => {
    const name = `own-${how.replaceAll(' ', '-')}`;
    const worker = startWorker(OWN + script, { name });
    worker.on('error', (error) => expect(error.message).toBe('expected'));
    expect(await allSaid(worker)).toEqual(['4']);
    expect({ mappings: mappings(name), descriptors: descriptors(name) }).toEqual({
      mappings: 0,
      descriptors: 0,
    });
  });

  it.each([
    ['leaves no mapping and no descriptor', '', 0],
    ['leaves the mapping of a shared arena, for who may be in it', 'arena.share();', 1],
  ])('by worker.terminate() %s', async (_, share, left) => {
    const name = `own-terminated-${left}`;
    const worker = startWorker(`${share ? OWN.replace('say(', `${share} say(`) : OWN} for (;;);`, { name });
    expect(await said(worker)).toBe('4');
    await worker.terminate();
    expect({ mappings: mappings(name), descriptors: descriptors(name) }).toEqual({
      mappings: left,
      descriptors: 0,
    });
  });
});

it('a worker that owns an arena and ends closes it for who is attached', async () => {
  const worker = startWorker(
    `
    const code = unpack.compileX64(unpack.verify(unpack.assemble('r0 = 4\\nexit'), { args: [] }));
    const arena = new unpack.CodeArena({ name: 'owner-ends' });
    const handle = arena.share();
    parentPort.once('message', () => parentPort.close());
    say({ handle, number: arena.place(code).handle() });`,
  );
  const { handle, number } = (await said(worker)) as { handle: ArenaHandle; number: number };
  const attached = attachArena(handle);
  expect(attached.routine(number).call([])).toBe(4n);
  worker.postMessage('end');
  await once(worker, 'exit');
  expect(() => attached.routine(number).call([])).toThrow(/has been disposed of/);
  expect(mappings('owner-ends')).toBe(0);
});

it('the example with threads does what it says', () => {
  const example = fileURLToPath(new URL('../examples/threads.mjs', import.meta.url));
  const out = execFileSync(process.execPath, [example]).toString();
  expect(out).toBe('offset 0: 7 and 7\noffset 1000: 1007 and 1007\noffset 2000: 2007 and 2007\n');
});

it('code runs wherever it is placed', () => {
  const contract: Contract = { args: [{ kind: 'scalar' }] };
  const text = 'call f\nr0 *= 3\nexit\nf:\nr0 = r1\nif r0 > 7 goto big\nr0 += 1\nbig:\nexit';
  const code = compiled(text, contract);
  const places = Array.from({ length: 20 }, () => {
    const home = arena();
    home.placeAll(Array.from({ length: 1 + arenas.length }, (_, i) => returns(1000 + i)));
    return home.place(code);
  });
  expect(new Set(places.map(({ address }) => address)).size).toBe(20);
  expect(new Set(places.map(({ address }) => address % 4096n)).size).toBeGreaterThan(10);
  for (const routine of places) expect([routine.call([5n]), routine.call([9n])]).toEqual([18n, 27n]);
});

/** Threads that are in a call of an arena, as it sees them. */
function calls(owner: CodeArena): number {
  const words = new Int32Array(owner.share().memory);
  const [THREADS, EPOCH, WORDS] = [16, 2, 16];
  let count = 0;
  const places = words[6]!;
  for (let at = THREADS; at < THREADS + places * WORDS; at += WORDS) if (words[at + EPOCH] !== 0) count++;
  return count;
}

async function until(condition: () => boolean): Promise<void> {
  const end = performance.now() + 5000;
  while (!condition() && performance.now() < end) await new Promise((done) => setTimeout(done, 2));
  expect(condition()).toBe(true);
}
