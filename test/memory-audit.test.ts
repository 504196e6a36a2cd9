// The claim about code memory, as the kernel sees it: while arenas are at work, in several threads, no page of theirs is writable.

import type { Worker } from 'node:worker_threads';
import { afterEach, expect, it } from 'vitest';
import {
  auditMemory,
  CodeArena,
  compileFormat,
  emitNative,
  type MemoryAudit,
  referenceUnpack,
} from '../src/index.js';
import { randomBkeyFormat, randomBytes, seeded } from './random-formats.js';
import { said, startWorker } from './threads.js';

const SAMPLES = 40;
const STEPS_BETWEEN = 100;
const LIVE = 300;

/** Places, calls and frees in arenas of its own. */
const OWNER = `
  const { CodeArena, assemble, compileX64, verify } = unpack;
  const arena = new CodeArena({ name: 'of-worker' });
  const codes = Array.from({ length: 50 }, (_, i) => compileX64(verify(assemble('r0 = ' + i + '\\nexit'), { args: [] })));
  say('ready');
  for (let i = 0; ; i++) {
    const routine = arena.place(codes[i % codes.length]);
    routine.call([]);
    routine.free();
  }`;
/** Calls routines of the main thread's arena, while that replaces and frees them. */
const CALLER = `
  const arena = unpack.attachArena(workerData.handle);
  const numbers = new BigInt64Array(workerData.numbers);
  const [out, packed] = [new Uint8Array(40), new Uint8Array(40)];
  say('ready');
  for (let i = 0; ; i = (i + 1) % numbers.length) {
    try {
      arena.routine(Number(Atomics.load(numbers, i))).call([out, packed]);
    } catch (error) {
      if (error.code !== 'A-FREED') throw error;
    }
  }`;

const workers: Worker[] = [];
afterEach(() => Promise.all(workers.splice(0).map((worker) => worker.terminate())));

async function start(script: string, data?: unknown): Promise<void> {
  const worker = startWorker(script, data);
  workers.push(worker);
  expect(await said(worker)).toBe('ready');
}

/** What a run of samples saw. */
class Tally {
  samples = 0;
  mappings = 0;
  residentBytes = 0;
  others = 0;

  add({ ours, findings, others }: MemoryAudit): void {
    expect(findings).toEqual([]);
    const code = ours.filter(({ executable }) => executable);
    expect(new Set(code.map(({ permissions }) => permissions))).toEqual(new Set(['r-xs']));
    // VM_MAYWRITE: without it no mprotect makes the mapping writable.
    expect(code.filter(({ flags }) => flags.includes('mw'))).toEqual([]);
    this.samples++;
    this.mappings += code.length;
    this.residentBytes = Math.max(this.residentBytes, ...code.map(({ residentBytes }) => residentBytes!));
    this.others = Math.max(this.others, others.length);
  }
}

it('no page of code is writable while three threads place, replace, call and free', async () => {
  const random = seeded(9);
  const formats = Array.from({ length: 200 }, () => randomBkeyFormat(random));
  const codes = formats.map((format, i) => (i % 2 ? compileFormat(format) : emitNative(format)));
  const arena = new CodeArena({ name: 'audited-stress' });
  const handle = arena.share();
  const numbers = new BigInt64Array(new SharedArrayBuffer(8 * LIVE));
  const live = Array.from({ length: LIVE }, (_, at) => place(at, random(formats.length)));
  await start(OWNER);
  await start(CALLER, { handle, numbers: numbers.buffer });
  const tally = new Tally();
  let steps = 0;
  while (tally.samples < SAMPLES) {
    for (let i = 0; i < STEPS_BETWEEN; i++, steps++) step();
    tally.add(auditMemory({ names: ['of-worker'] }));
  }
  await Promise.all(workers.splice(0).map((worker) => worker.terminate()));
  arena.dispose();
  const { mappings, residentBytes, others } = tally;
  console.log(
    `${steps} steps, ${SAMPLES} samples of smaps, ${mappings} mappings of code seen, up to ${residentBytes} bytes resident, none writable; ` +
      `${others} mappings of V8's were writable and executable`,
  );
  expect(mappings).toBeGreaterThan(SAMPLES);

  function place(at: number, format: number) {
    const routine = arena.place(codes[format]!);
    Atomics.store(numbers, at, BigInt(routine.handle()));
    return { format, routine };
  }

  function step(): void {
    const at = random(LIVE);
    const entry = live[at]!;
    const other = random(formats.length);
    if (random(2)) {
      arena.replace(entry.routine, codes[other]!);
      entry.format = other;
    } else {
      entry.routine.free();
      live[at] = place(at, other);
    }
    const { format, routine } = live[random(LIVE)]!;
    const packed = randomBytes(random, formats[format]!.packedBytes);
    const out = new Uint8Array(formats[format]!.unpackedBytes);
    routine.call([out, packed]);
    if (steps % 16 === 0) expect(out).toEqual(referenceUnpack(formats[format]!, packed));
  }
});
