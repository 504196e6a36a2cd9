// Whether the kernel runs programs for us; said loudly where it does not.

import { EngineError } from '../src/errors.js';
import { KernelMemory } from '../src/kernel/kernel.js';

/** Why the kernel does not run programs here; undefined where it does. */
function kernelRefusal(): string | undefined {
  try {
    new KernelMemory({ args: [] }).dispose();
    return undefined;
  } catch (error) {
    if (error instanceof EngineError) return error.message;
    throw error;
  }
}

const refusal = kernelRefusal();
export const kernelRuns = refusal === undefined;
if (!kernelRuns) console.warn(`NOT TESTED: programs in the kernel, because ${refusal}`);
