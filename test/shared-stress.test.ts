// Threads call routines while their owner replaces and frees them: 30 seconds, or FUZZ_SECONDS.

import { readFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { CodeArena, type MachineCode, type Routine } from '../src/index.js';
import { makeCode } from '../src/jit/target.js';
import { seeded } from './random-formats.js';

const SECONDS = Number(process.env.FUZZ_SECONDS ?? 30);
const SEED = Number(process.env.FUZZ_SEED ?? 1);
const ROUTINES = 24;
const MODULUS = 4096;
const GONE = 64;
const CALLERS = 2;
const NAME = 'stressed';

/** Returns `value`, after some turns of a loop; of a length that differs, so that room is cut up. */
function coded(value: number, turns: number, length: number): MachineCode {
  const bytes = new Uint8Array(length).fill(0x90);
  const view = new DataView(bytes.buffer);
  bytes.set([0xb9, 0, 0, 0, 0, 0xff, 0xc9, 0x75, 0xfc]); // mov ecx, turns; again: dec ecx; jnz again
  view.setUint32(1, turns, true);
  bytes[length - 6] = 0xb8; // mov eax, value; ret
  view.setUint32(length - 5, value, true);
  bytes[length - 1] = 0xc3;
  return makeCode({ isa: 'x64', bytes, offsets: [], abi: { args: [] }, name: `returns ${value}` });
}

/** What the callers know: numbers and versions of routines, numbers that were freed, whether to end. */
class Board {
  readonly board = new SharedArrayBuffer(16 * ROUTINES);
  readonly freed = new SharedArrayBuffer(8 * GONE);
  readonly state = new SharedArrayBuffer(4);
  readonly numbers = new BigInt64Array(this.board, 0, ROUTINES);
  readonly versions = new BigInt64Array(this.board, 8 * ROUTINES);
  readonly gone = new BigInt64Array(this.freed);
  readonly modulus = BigInt(MODULUS);

  end(): void {
    Atomics.store(new Int32Array(this.state), 0, 1);
  }
}

interface Counts {
  calls: number;
  refused: number;
  gone: number;
}

function startCaller(board: Board, handle: unknown) {
  const { board: shared, freed, state, modulus } = board;
  const worker = new Worker(new URL('./shared-caller.mjs', import.meta.url), {
    workerData: { handle, board: shared, freed, state, modulus },
  });
  const failures: string[] = [];
  let counts: Counts | undefined;
  const attached = new Promise<void>((done) => {
    worker.on('message', (message) => {
      if (message === 'attached') done();
      if (message.failure) failures.push(message.failure);
      if (message.counts) counts = message.counts;
    });
  });
  worker.on('error', (error) => failures.push(String(error)));
  const ended = new Promise<void>((done) => worker.once('exit', () => done()));
  return { worker, attached, ended, failures, counts: () => counts };
}

const pause = () => new Promise((done) => setImmediate(done));

test(
  `${CALLERS} threads and one that is killed again and again call what is replaced and freed, for ${SECONDS} seconds`,
  async () => {
    const random = seeded(SEED);
    const arena = new CodeArena({ name: NAME });
    const handle = arena.share();
    const codes = Array.from({ length: MODULUS }, (_, i) => coded(i, i % 7 ? 1 : 20_000, 32 + random(600)));
    const board = new Board();
    const routines: (Routine | undefined)[] = Array(ROUTINES).fill(undefined);
    const counts = {
      replaced: 0,
      freed: 0,
      killed: 0,
      samples: 0,
      mappings: 0,
      mostRetired: 0,
      mostMapped: 0,
    };

    const nextCode = (at: number) => codes[Number((board.versions[at]! + 1n) % board.modulus)]!;
    const step = () => {
      const at = random(ROUTINES);
      const routine = routines[at];
      if (!routine) {
        const placed = arena.place(nextCode(at));
        Atomics.add(board.versions, at, 1n);
        Atomics.store(board.numbers, at, BigInt(placed.handle()));
        routines[at] = placed;
      } else if (random(4) === 0) {
        const number = Atomics.exchange(board.numbers, at, 0n);
        routine.free();
        Atomics.store(board.gone, random(GONE), number);
        routines[at] = undefined;
        counts.freed++;
      } else {
        arena.replace(routine, nextCode(at));
        Atomics.add(board.versions, at, 1n);
        counts.replaced++;
      }
    };
    const audit = () => {
      const ours = readFileSync('/proc/self/maps', 'utf8')
        .split('\n')
        .filter((line) => line.includes(`/memfd:${NAME}`));
      expect([...new Set(ours.map((line) => line.split(/\s+/)[1]))]).toEqual(['r-xs']);
      counts.samples++;
      counts.mappings += ours.length;
      const { retiredBytes, mappedBytes, usedBytes, freeBytes } = arena.stats();
      expect(usedBytes + freeBytes + retiredBytes).toBe(mappedBytes);
      counts.mostRetired = Math.max(counts.mostRetired, retiredBytes);
      counts.mostMapped = Math.max(counts.mostMapped, mappedBytes);
    };

    const callers = Array.from({ length: CALLERS }, () => startCaller(board, handle));
    await Promise.all(callers.map(({ attached }) => attached));
    let victim = startCaller(board, handle);
    const failures: string[] = [];
    const end = performance.now() + 1000 * SECONDS;
    let kill = performance.now() + 150;
    while (performance.now() < end && failures.length === 0) {
      for (let i = 0; i < 200; i++) step();
      audit();
      await pause();
      if (performance.now() > kill) {
        await victim.attached;
        void victim.worker.terminate();
        await victim.ended;
        failures.push(...victim.failures);
        counts.killed++;
        victim = startCaller(board, handle);
        kill = performance.now() + 150;
      }
      failures.push(...callers.flatMap((caller) => caller.failures));
    }
    board.end();
    await Promise.all([...callers, victim].map(({ ended }) => ended));
    failures.push(...[...callers, victim].flatMap((caller) => caller.failures));
    expect(failures).toEqual([]);

    const called = callers.map((caller) => caller.counts()!);
    console.log(JSON.stringify({ ...counts, called }));
    for (const { calls, gone } of called) {
      expect(calls).toBeGreaterThan(0);
      expect(gone).toBeGreaterThan(0);
    }
    for (const routine of routines) routine?.free();
    expect(arena.reclaim()).toBe(0);
    const { routines: left, usedBytes, retiredBytes, chunks } = arena.stats();
    expect({ left, usedBytes, retiredBytes }).toEqual({ left: 0, usedBytes: 0, retiredBytes: 0 });
    expect(chunks).toBeLessThanOrEqual(3);
    arena.dispose();
    expect(readFileSync('/proc/self/maps', 'utf8')).not.toContain(`/memfd:${NAME}`);
  },
  1000 * SECONDS + 30_000,
);
