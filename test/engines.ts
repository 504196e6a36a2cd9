// The engines that this machine has, and which formats they do.

import { cpuTier, runsOn } from '../src/exec/cpu.js';
import { ENGINES, EngineError, type EngineName, type Format } from '../src/index.js';
import { tableOf } from '../src/table/table.js';

const hasVbmi = runsOn('avx512', cpuTier());
if (!hasVbmi) console.warn('NOT TESTED: the engine table, because this CPU has no AVX-512 with VBMI');

export const ENGINES_HERE: readonly EngineName[] = ENGINES.filter((name) => name !== 'table' || hasVbmi);

/** Only tables have no room for some. */
export function unpacks(engine: string, format: Format): boolean {
  if (engine !== 'table') return true;
  try {
    tableOf(format);
    return true;
  } catch (error) {
    if (error instanceof EngineError) return false;
    throw error;
  }
}
