// Machine code of our own, at a page of its own: it serves a thread for as long as that lives, and belongs to no arena.

import { hostTarget } from '../jit/host.js';
import type { MachineCode } from '../jit/target.js';
import { PAGE_BYTES, pagesBy, type Strategy } from './pages.js';

/** What memfds of such pages are called. */
export const OWN_NAMES = { gate: 'bpf-unpack-gate', exit: 'bpf-unpack-exit' } as const;

/** Puts code that fits into a page at the reserved addresses of one. */
export function backWithCode(
  base: bigint,
  code: MachineCode,
  purpose: keyof typeof OWN_NAMES,
  strategy: Strategy,
): void {
  const pages = pagesBy(strategy, base, OWN_NAMES[purpose]);
  try {
    pages.back(0, PAGE_BYTES, hostTarget().trap);
    pages.write(code.bytes, code.length, 0);
  } finally {
    pages.close();
  }
}
