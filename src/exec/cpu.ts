// What the CPU can do, asked once, by machine code: the only place that knows.

import { hostTarget } from '../jit/host.js';
import { CPU_WORDS, TIERS, type Tier } from '../jit/target.js';
import { CodeArena, callLoop } from './arena.js';

let known: Tier | undefined;

/**
 * The best tier of this machine.
 * @throws EngineError where the system gives no executable memory to ask from
 */
export function cpuTier(): Tier {
  known ??= ask();
  return known;
}

function ask(): Tier {
  const target = hostTarget();
  const arena = new CodeArena();
  const words = new Uint32Array(CPU_WORDS);
  callLoop(arena, arena.place(target.cpuProbe()), [words, 0n, 0n, 0n, 0n, 0n]);
  arena.dispose();
  return target.tierOf(words);
}

/** Whether code of one tier runs on a machine of another. */
export const runsOn = (tier: Tier, machine: Tier): boolean => TIERS.indexOf(tier) <= TIERS.indexOf(machine);
