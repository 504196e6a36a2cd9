// Workers for tests: they run what was built, as a user's would.

import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

const DIST = new URL('../dist/index.js', import.meta.url).href;

/** A worker that runs a script, with the library as `unpack`; `say` posts a message, and what is posted to it goes to `onMessage`. */
export function startWorker(script: string, data?: unknown): Worker {
  const code = `
    const { parentPort, workerData } = require('node:worker_threads');
    const fs = require('node:fs');
    const say = (value) => parentPort.postMessage(value);
    const tryTo = (run) => { try { return String(run()); } catch (error) { return error.code + ' ' + error.message; } };
    import(${JSON.stringify(DIST)}).then(async (unpack) => { ${script} });`;
  return new Worker(code, { eval: true, workerData: data });
}

/** The next message of a worker. */
export async function said(worker: Worker): Promise<unknown> {
  const [message] = await once(worker, 'message');
  return message;
}

/** All messages of a worker until it ends. */
export async function allSaid(worker: Worker): Promise<unknown[]> {
  const messages: unknown[] = [];
  worker.on('message', (message) => messages.push(message));
  await new Promise((done) => worker.once('exit', done));
  return messages;
}
