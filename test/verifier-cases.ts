// Programs on which others have decided, and the contracts they were decided under.

import type { ArgSpec, Contract } from '../src/bpf/contract.js';
import { unhex } from './vectors.js';

export interface KernelCase {
  id: string;
  insns: string;
  regions: Record<string, { size: number; mode: 'rw' | 'ro'; scalar?: boolean }>;
  safe?: boolean | null;
  priv: { accept: boolean };
  strict: { accept: boolean };
  witness: { event: string; input: Record<string, string> } | null;
}

export interface KernelRun {
  id: string;
  in: Record<string, string>;
  out: Record<string, string>;
  r0_low32: number;
}

export interface UbpfCase {
  insns: string;
  mem: string;
}

export function kernelContract({ regions }: KernelCase, allowPointerLeaks: boolean): Contract {
  const args: (ArgSpec | undefined)[] = [undefined, undefined, undefined, undefined, undefined];
  for (const [name, { size, mode, scalar }] of Object.entries(regions)) {
    const access = mode === 'ro' ? 'read' : 'readwrite';
    args[Number(name.slice(1)) - 1] = scalar ? { kind: 'scalar' } : { kind: 'memory', bytes: size, access };
  }
  return { args, allowPointerLeaks };
}

export function kernelArgs({ regions }: KernelCase, input: Record<string, string>): (Uint8Array | bigint)[] {
  const args: (Uint8Array | bigint)[] = [];
  for (const [name, { scalar }] of Object.entries(regions)) {
    const raw = unhex(input[name]!);
    args[Number(name.slice(1)) - 1] = scalar ? new DataView(raw.buffer).getBigUint64(0, true) : raw;
  }
  return args;
}

/** r1 = mem, r2 = exactly its length. */
export function ubpfContract({ mem }: UbpfCase): Contract {
  const bytes = mem.length / 2;
  const length = BigInt(bytes);
  return {
    args: [
      { kind: 'memory', bytes, access: 'readwrite' },
      { kind: 'scalar', min: length, max: length },
    ],
  };
}
