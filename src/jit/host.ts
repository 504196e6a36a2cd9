// The back end of the machine that this process runs on.

import { EngineError } from '../errors.js';
import type { Target } from './target.js';
import { X64 } from './x64/target.js';

/** @throws EngineError where no back end makes code for this machine */
export function hostTarget(): Target {
  if (process.arch === 'x64') return X64;
  throw new EngineError(
    'E-PLATFORM',
    `there is no machine code for ${process.arch}; use the engine 'interpreter' or 'reference'`,
  );
}
