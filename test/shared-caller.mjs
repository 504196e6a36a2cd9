// A thread that calls routines of another's arena for as long as it is told to, and holds what it gets against what it knows.
// Runs what was built, as a user's worker would.

import { parentPort, workerData } from 'node:worker_threads';
import { attachArena } from '../dist/index.js';

const { handle, board, freed, state, modulus } = workerData;
/** Of each routine its number, 0 for none at the moment; and the version that it has at least. */
const numbers = new BigInt64Array(board, 0, board.byteLength / 16);
const versions = new BigInt64Array(board, board.byteLength / 2);
const gone = new BigInt64Array(freed);
const words = new Int32Array(state);

const arena = attachArena(handle);
const counts = { calls: 0, refused: 0, gone: 0 };

function fail(message) {
  parentPort.postMessage({ failure: message });
  throw new Error(message);
}

function call(number) {
  try {
    return arena.routine(Number(number)).call([]);
  } catch (error) {
    if (error.code === 'A-FREED') return undefined;
    throw error;
  }
}

/** A result is stale if it is of a version that had been replaced before the call began. */
function check(at) {
  const number = Atomics.load(numbers, at);
  const least = Atomics.load(versions, at);
  if (number === 0n || Atomics.load(numbers, at) !== number) return;
  const result = call(number);
  if (result === undefined) {
    if (Atomics.load(numbers, at) === number) fail(`routine ${number} was refused while it was placed`);
    counts.refused++;
    return;
  }
  const most = Atomics.load(versions, at) + 1n;
  const ahead = (((result - least) % modulus) + modulus) % modulus;
  if (ahead > most - least)
    fail(`routine ${number} returned ${result}, of no version from ${least} to ${most}`);
  counts.calls++;
}

function checkGone(at) {
  const number = Atomics.load(gone, at);
  if (number === 0n) return;
  if (call(number) !== undefined) fail(`routine ${number} could be called after free() had returned`);
  counts.gone++;
}

parentPort.postMessage('attached');
for (let i = 0; Atomics.load(words, 0) === 0; i++) {
  check(i % numbers.length);
  if (i % 16 === 0) checkGone((i / 16) % gone.length);
}
arena.detach();
parentPort.postMessage({ counts });
