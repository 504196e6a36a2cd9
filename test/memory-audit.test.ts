// The claim about code memory, as the kernel sees it: while arenas are at work, in several threads, no page of theirs is writable.

import { Worker } from 'node:worker_threads';
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

const STRESS_MS = 4000;
const WORKERS = 2;
const LIVE = 300;

const workers: Worker[] = [];
afterEach(() => Promise.all(workers.splice(0).map((worker) => worker.terminate())));

async function startWorker(): Promise<void> {
  const worker = new Worker(new URL('./arena-worker.mjs', import.meta.url), { workerData: 'work' });
  workers.push(worker);
  await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
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
  for (let i = 0; i < WORKERS; i++) await startWorker();
  const random = seeded(9);
  const formats = Array.from({ length: 200 }, () => randomBkeyFormat(random));
  const codes = formats.map((format, i) => (i % 2 ? compileFormat(format) : emitNative(format)));
  const arena = new CodeArena({ name: 'audited-stress' });
  const live = Array.from({ length: LIVE }, () => place(random(formats.length)));
  const tally = new Tally();
  let [steps, sampled] = [0, 0];
  const until = performance.now() + STRESS_MS;
  for (let now = performance.now(); now < until; now = performance.now()) {
    for (let i = 0; i < 50; i++, steps++) step();
    if (now - sampled < 50) continue;
    tally.add(auditMemory({ names: ['of-worker'] }));
    sampled = performance.now();
  }
  arena.dispose();
  const { samples, mappings, residentBytes, others } = tally;
  console.log(
    `${steps} steps, ${samples} samples of smaps, ${mappings} mappings of code seen, up to ${residentBytes} bytes resident, none writable; ` +
      `${others} mappings of V8's were writable and executable`,
  );
  expect(samples).toBeGreaterThan(20);
  expect(mappings).toBeGreaterThan(samples * WORKERS);

  function place(format: number) {
    return { format, routine: arena.place(codes[format]!) };
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
      live[at] = place(other);
    }
    const { format, routine } = live[random(LIVE)]!;
    const packed = randomBytes(random, formats[format]!.packedBytes);
    const out = new Uint8Array(formats[format]!.unpackedBytes);
    routine.call([out, packed]);
    if (steps % 16 === 0) expect(out).toEqual(referenceUnpack(formats[format]!, packed));
  }
});
