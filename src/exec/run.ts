// Many records in one crossing from JavaScript: the loops around a routine are fixed pieces of machine code,
// placed once an arena. They give the routine, by their own checks, exactly what it was proven under; that the
// buffers are long enough for the counts and strides is the caller's to check.

import type { MachineCode } from '../jit/target.js';
import type { CodeArena, Routine } from './arena.js';
import type { NativeArg } from './libc.js';

/** Makes the loops' code; each back end has its own. */
export interface LoopCode {
  readonly stride: () => MachineCode;
  readonly stream: () => MachineCode;
}

interface Loops {
  readonly stride: Routine;
  readonly stream: Routine;
}

const placed = new WeakMap<CodeArena, Loops>();

/** The loops of an arena, placed there at their first use. */
export function loopsIn(arena: CodeArena, code: LoopCode): Loops {
  const found = placed.get(arena);
  if (found) return found;
  const loops = { stride: arena.place(code.stride()), stream: arena.place(code.stream()) };
  placed.set(arena, loops);
  return loops;
}

/** Calls `routine(out + i * outStride, packed + i * stride)` for each i below `count`. */
export function callStride(
  arena: CodeArena,
  loop: Routine,
  routine: Routine,
  run: { out: Uint8Array; packed: Uint8Array; count: number; stride: number; outStride: number },
): void {
  arena.callLoop(loop, [
    routine.address,
    address(run.out),
    address(run.packed),
    BigInt(run.count),
    BigInt(run.stride),
    BigInt(run.outStride),
  ]);
}

/** Walks the key stream in bytes [start, end) of `keys`; `offsets` has an entry for each record `out` has room for. */
export function callStream(
  arena: CodeArena,
  loop: Routine,
  routine: Routine,
  run: {
    out: Uint8Array;
    keys: Uint8Array;
    start: number;
    end: number;
    keyU64s: number;
    offsets: Uint32Array;
  },
): { position: number; count: number; ended: number } {
  const state = new BigUint64Array(6);
  state[0] = BigInt(run.start);
  state[1] = BigInt(run.end);
  state[2] = BigInt(run.offsets.length);
  state[3] = BigInt(run.keyU64s);
  const offsets = run.offsets.length === 0 ? 0n : run.offsets;
  arena.callLoop(loop, [state, routine.address, address(run.out), address(run.keys), offsets, 0n]);
  return { position: Number(state[0]), count: Number(state[4]), ended: Number(state[5]) };
}

/** koffi passes a view by its address; an empty one has none. */
const address = (bytes: Uint8Array): NativeArg => (bytes.length === 0 ? 0n : bytes);
