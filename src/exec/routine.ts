// The handle of placed code. What it does is its arena's, by way of the placement that only arenas see.

import { type GivenArg, takeArgs } from '../bpf/arguments.js';
import { requireKey } from '../bytes.js';
import { ArgumentError } from '../errors.js';
import type { MachineCode } from '../jit/target.js';
import type { Checked } from './boundary.js';
import type { Copy } from './copies.js';
import type { Linked } from './link.js';

/** Code at its place. */
export interface Placement {
  readonly home: Home;
  readonly copy: Copy;
  /** What is kept of machine code: not its bytes. */
  readonly code: Checked & Pick<MachineCode, 'label'>;
  /** For code that calls helper functions, or has data. */
  readonly linked: Linked | undefined;
  /** By which other threads know the routine, if they may. */
  number: number | undefined;
  /** Until it is freed or replaced. */
  live: boolean;
}

/** What an arena does for its routines. */
export interface Home {
  /** Whether its memory is gone, or going. */
  isDisposed: boolean;
  readonly addressOf: (copy: Copy) => bigint;
  readonly call: (placement: Placement, args: readonly GivenArg[]) => bigint;
  readonly numberFor: (placement: Placement) => number;
  readonly free: (placement: Placement) => void;
}

const PLACED = Symbol('placed');
let placementIn: (routine: Routine) => Placement | undefined;
/** For arenas only: makes a routine another placement's. */
export let setPlacement: (routine: Routine, placement: Placement) => void;

/**
 * Code that has been placed and can be called until it is freed. Routines come from `CodeArena.place`. One that is forgotten
 * stays placed, because its address may be in use.
 */
export class Routine {
  #placement: Placement;

  static {
    placementIn = (routine) =>
      typeof routine === 'object' && routine !== null && #placement in routine
        ? routine.#placement
        : undefined;
    setPlacement = (routine, placement) => {
      routine.#placement = placement;
    };
  }

  /** @internal */
  constructor(key: symbol, placement: Placement) {
    requireKey(key, PLACED, 'a routine', 'CodeArena.place');
    this.#placement = placement;
  }

  /**
   * Where the code runs.
   * @throws ArgumentError 'A-FREED' once the routine is freed or its arena disposed of
   */
  get address(): bigint {
    const { home, copy } = placementOf(this);
    return home.addressOf(copy);
  }

  /**
   * Calls the code with r1, r2, …: a buffer goes as its address, a bigint as itself; a register that the contract
   * leaves out is passed as 0n. Nothing of the buffers is kept.
   * @returns r0, unsigned
   * @throws ArgumentError if an argument does not meet the contract that the code was proven under, and 'A-FREED'
   */
  call(args: readonly GivenArg[]): bigint {
    // Reading them may run code of the caller's, so what can be called is looked at afterwards.
    const taken = takeArgs(args);
    const placement = placementOf(this);
    return placement.home.call(placement, taken);
  }

  /**
   * The number by which other threads call the routine, with `attachArena`. It stays the same when the routine is replaced, and is not
   * given again when that is freed.
   * @throws ArgumentError 'A-NOT-SHARED' if the arena is not shared, or the code calls helper functions or has data; 'A-FREED';
   *   EngineError 'E-FULL' if as many routines have numbers as the arena was shared for
   */
  handle(): number {
    const placement = placementOf(this);
    return placement.home.numberFor(placement);
  }

  /**
   * Gives the memory back; the routine cannot be called any more. Freeing twice is harmless. In a shared arena other threads may be
   * in the code: the memory waits until they have left.
   * @throws ArgumentError 'A-IN-USE' while it is running
   */
  free(): void {
    const { live, home } = this.#placement;
    if (live && !home.isDisposed) home.free(this.#placement);
  }
}

/** For arenas only. */
export const makeRoutine = (placement: Placement): Routine => new Routine(PLACED, placement);

/** @throws ArgumentError 'A-FREED' */
export function placementOf(routine: Routine): Placement {
  const placement = placementIn(routine);
  if (placement?.live && !placement.home.isDisposed) return placement;
  throw freed();
}

export const freed = () =>
  new ArgumentError(
    'A-FREED',
    'this routine has been freed, its arena disposed of, or it belongs to another arena',
  );
