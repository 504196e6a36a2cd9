// A worker that makes arenas and then ends as it is told.

import { parentPort, workerData } from 'node:worker_threads';
import { assemble, CodeArena, compileX64, verify } from '../dist/index.js';

const returns = (value) => compileX64(verify(assemble(`r0 = ${value}\nexit`), { args: [] }));
const arenas = Array.from({ length: 5 }, (_, i) => {
  const arena = new CodeArena({ name: 'of-worker' });
  arena.place(returns(i)).call([]);
  return arena;
});
parentPort.postMessage('made');

const ENDS = {
  return: () => {},
  exit: () => process.exit(0),
  throw: () => {
    throw new Error('on purpose');
  },
  wait: () => setInterval(() => {}, 1000),
  work: () => {
    for (let i = 0; ; i++) {
      const routine = arenas[i % arenas.length].place(returns(i));
      if (routine.call([]) !== BigInt(i)) throw new Error('a wrong answer');
      routine.free();
    }
  },
};
ENDS[workerData]();
