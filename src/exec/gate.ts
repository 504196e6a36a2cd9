// The way into machine code, one for each thread: koffi's functions cost too much to be made for each routine, and a thread that is
// terminated while koffi makes one takes the process with it; so none is made for each arena either.

import { isMainThread } from 'node:worker_threads';
import { EngineError } from '../errors.js';
import { hostTarget } from '../jit/host.js';
import { type Gate, libc } from './libc.js';
import { backWithCode } from './own-code.js';
import { PAGE_BYTES, type Strategy } from './pages.js';
import { unmapWithThread } from './thread-exit.js';

const gates = new Map<Strategy, Gate>();

/**
 * The calling thread's gate, whose trampoline got to its page by that strategy.
 * @throws EngineError where there is no executable memory
 */
export function gateBy(strategy: Strategy): Gate {
  const known = gates.get(strategy);
  if (known) return known;
  const gate = makeGate(strategy);
  gates.set(strategy, gate);
  return gate;
}

function makeGate(strategy: Strategy): Gate {
  const lib = libc();
  const page = lib.reserve(PAGE_BYTES);
  if (page === undefined)
    throw new EngineError('E-SYSTEM', 'there are no addresses left for a page of code: see ulimit -v');
  try {
    backWithCode(page, hostTarget().callTrampoline(), 'gate', strategy);
    if (!isMainThread) unmapWithThread(page, PAGE_BYTES);
    return lib.gate(page);
  } catch (error) {
    lib.unmap(page, PAGE_BYTES);
    throw error;
  }
}
