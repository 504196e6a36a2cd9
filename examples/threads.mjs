// One thread makes machine code, others call it; and what it is replaced by, from the next call on.
// From a clone: npm ci && npm run build && node examples/threads.mjs

import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { attachArena, bkeyFormat, CodeArena, compileFormat } from 'bpf-unpack';

/** A format of keys whose inode is `bits` long, with `offset` added to it. */
const inodes = (bits, offset) =>
  bkeyFormat({
    keyU64s: 1,
    bitsPerField: [bits, 0, 0, 0, 0, 0],
    fieldOffset: [offset, 0n, 0n, 0n, 0n, 0n],
  });
const packed = Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 7);

if (isMainThread) {
  const arena = new CodeArena();
  const routine = arena.place(compileFormat(inodes(8, 0n)));
  const data = { handle: arena.share(), number: routine.handle() };
  const workers = [1, 2].map(() => new Worker(new URL(import.meta.url), { workerData: data }));
  for (const offset of [0n, 1000n, 2000n]) {
    arena.replace(routine, compileFormat(inodes(8, offset)));
    for (const worker of workers) worker.postMessage('unpack');
    const inodesOf = await Promise.all(workers.map((worker) => once(worker, 'message')));
    console.log(`offset ${offset}: ${inodesOf.join(' and ')}`);
  }
  for (const worker of workers) worker.postMessage('end');
  await Promise.all(workers.map((worker) => once(worker, 'exit')));
  arena.dispose();
} else {
  const arena = attachArena(workerData.handle);
  const unpack = arena.routine(workerData.number);
  const key = new Uint8Array(40);
  parentPort.on('message', (message) => {
    if (message === 'end') parentPort.close();
    else {
      unpack.call([key, packed]);
      parentPort.postMessage(new DataView(key.buffer).getBigUint64(32, true));
    }
  });
}
