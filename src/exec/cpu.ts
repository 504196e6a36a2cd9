// What the CPU can do, asked once, by machine code: the only place that knows.

import { hostTarget } from '../jit/host.js';
import { CPU_WORDS, TIERS, type Tier } from '../jit/target.js';
import { type CodeArena, callLoop } from './arena.js';

let known: Tier | undefined;

/** The best tier of this machine; `arena` runs the question. */
export function cpuTier(arena: CodeArena): Tier {
  if (known) return known;
  const target = hostTarget();
  const probe = arena.place(target.cpuProbe());
  const words = new Uint32Array(CPU_WORDS);
  callLoop(arena, probe, [words, 0n, 0n, 0n, 0n, 0n]);
  probe.free();
  known = target.tierOf(words);
  return known;
}

/** Whether code of one tier runs on a machine of another. */
export const runsOn = (tier: Tier, machine: Tier): boolean => TIERS.indexOf(tier) <= TIERS.indexOf(machine);
