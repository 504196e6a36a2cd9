// An arena of machine code: what is placed in it can be called, replaced and freed. Its memory is code-memory.ts's, how bytes get there
// pages.ts's; what is the same code is found by copies.ts.

import type { GivenArg } from '../bpf/arguments.js';
import type { Helpers } from '../bpf/helper.js';
import { ArgumentError, EngineError } from '../errors.js';
import { hostTarget } from '../jit/host.js';
import { type MachineCode, requireCode, type Target } from '../jit/target.js';
import {
  type ArenaChunk,
  type ArenaExtent,
  type ArenaOptions,
  type ArenaStats,
  takeOptions,
} from './arena-options.js';
import { checkArgs, enter } from './boundary.js';
import { callWithHelpers, isAnyRunning, isRunning, release } from './callbacks.js';
import { CHUNK_BYTES, CodeMemory, type Span } from './code-memory.js';
import { Copies, type Copy, type Piece, roomOf } from './copies.js';
import { gateBy } from './gate.js';
import { type Gate, libc, type NativeArg } from './libc.js';
import { link } from './link.js';
import type { Strategy } from './pages.js';
import {
  freed,
  type Home,
  makeRoutine,
  type Placement,
  placementOf,
  type Routine,
  setPlacement,
} from './routine.js';
import type { ArenaHandle } from './shared-table.js';
import { notShareable, type ShareOptions, Sharing, takeShareOptions } from './sharing.js';
import { SymbolFile } from './symbols.js';

export type { Routine };

export interface PlaceOptions {
  /** The helper functions that the code calls. They run in the thread that placed it. */
  readonly helpers?: Helpers;
}

type SixArgs = readonly [NativeArg, NativeArg, NativeArg, NativeArg, NativeArg, NativeArg];

/** Calls a loop, whose arguments the caller has checked, past all checks. */
export function callLoop(arena: CodeArena, loop: Routine, args: SixArgs): bigint {
  const { home, copy } = placementOf(loop);
  return libc().call6(arena.gate(), home.addressOf(copy), ...args);
}

/** The same for a routine that unpacks one record and calls no helper functions. */
export function callRecord(arena: CodeArena, routine: Routine, out: NativeArg, packed: NativeArg): void {
  const { home, copy } = placementOf(routine);
  arena.gate().two(home.addressOf(copy), out, packed);
}

/** Arenas that other threads may know of are not forgotten. */
const shared = new Set<CodeArena>();
/** An arena that was forgotten gives its memory back some day; `dispose` does so at once. */
const forgotten = new FinalizationRegistry<Held>(close);

/** What an arena holds of the system's. */
interface Held {
  readonly memory: CodeMemory;
  readonly symbols: SymbolFile | undefined;
}

function close({ memory, symbols }: Held): void {
  memory.close();
  symbols?.close();
}

export class CodeArena {
  readonly #target: Target = hostTarget();
  readonly #strategy: Strategy;
  readonly #gate: Gate;
  readonly #memory: CodeMemory;
  readonly #copies: Copies;
  readonly #placements = new Set<Placement>();
  readonly #symbols: SymbolFile | undefined;
  #sharing: Sharing | undefined;
  #sealed = false;
  /** Whether nothing is left to give back. */
  #closed = false;

  readonly #home: Home = {
    isDisposed: false,
    addressOf: ({ offset }) => this.#memory.addressOf(offset),
    call: (placement, args) => this.#call(placement, args),
    numberFor: (placement) => this.#numberFor(placement),
    free: (placement) => this.#free(placement),
  };

  /**
   * @throws ArgumentError for an option that is none; EngineError where the system gives no executable memory, with the reason
   *   and what to do
   */
  constructor(options: ArenaOptions = {}) {
    const { name, granule, strategy, check, symbols } = takeOptions(options);
    this.#strategy = strategy;
    this.#gate = gateBy(strategy);
    this.#memory = new CodeMemory({ name, granule, strategy, trap: this.#target.trap });
    this.#copies = new Copies(this.#memory, this.#target, check === 'decode');
    this.#symbols = symbols === undefined ? undefined : this.#openSymbols(symbols);
    forgotten.register(this, { memory: this.#memory, symbols: this.#symbols });
  }

  /**
   * Publishes code and returns the handle that calls it. Data that the program brought along has its place beside it, with the
   * values that it starts with, and keeps what calls leave there until the routine is freed or replaced. Code without data and
   * helper functions that is here already is not placed again.
   * @throws ArgumentError for what is not machine code, and 'A-HELPERS' for helper functions that are missing; EngineError if
   *   the arena is sealed or memory is refused, 'E-FULL' if it has no addresses left, 'E-READ-BACK' if the code is not what was written
   */
  place(code: MachineCode, options: PlaceOptions = {}): Routine {
    return this.placeAll([code], options)[0]!;
  }

  /**
   * Places many routines, with one system call for all that lie behind each other: all of them, or none if there is an error.
   * @throws as `place`
   */
  placeAll(codes: readonly MachineCode[], options: PlaceOptions = {}): Routine[] {
    return this.#put(codes, options).map((placement) => {
      this.#placements.add(placement);
      return makeRoutine(placement);
    });
  }

  /**
   * Publishes new code beside the old and makes `routine` call it from now on; then frees the old. What other threads call from
   * when this returns is the new code; those that are in the old one leave it in peace.
   * @throws ArgumentError 'A-FREED' for a routine that is not this arena's any more, 'A-IN-USE' for one that is running (a helper
   *   function may try), 'A-NOT-SHARED' for code that a routine which other threads know cannot have; else as `place`
   */
  replace(routine: Routine, code: MachineCode, options: PlaceOptions = {}): void {
    let old!: Placement;
    const [made] = this.#put([code], options, ([piece]) => {
      old = placementOf(routine);
      if (old.home !== this.#home) throw freed();
      requireIdle(old);
      if (old.number !== undefined && piece!.linked) throw notShareable(code.name);
    });
    const placement = made!;
    const version = this.#versionFor(placement, old.number);
    this.#placements.add(placement);
    placement.number = old.number;
    setPlacement(routine, placement);
    const room = this.#drop(old);
    if (version !== undefined) this.#sharing!.swap(placement.number!, version, room);
    else this.#giveUp(room);
  }

  stats(): ArenaStats {
    const { mappedBytes, freeBytes, freeRuns: fragments, regionBytes: reservedBytes } = this.#memory;
    const { codeBytes, usedBytes, count } = this.#copies;
    const routines = this.#placements.size;
    return {
      routines,
      sharing: routines - count,
      codeBytes,
      usedBytes,
      wastedBytes: usedBytes - codeBytes,
      freeBytes,
      fragments,
      retiredBytes: this.#sharing?.retiredBytes ?? 0,
      mappedBytes,
      chunks: mappedBytes / CHUNK_BYTES,
      reservedBytes,
      occupancy: mappedBytes === 0 ? 0 : codeBytes / mappedBytes,
    };
  }

  /** What is mapped and what lies in it, by addresses. */
  layout(): ArenaChunk[] {
    const copies = this.#copies.all();
    let next = 0;
    return Array.from(this.#memory.chunks(), ({ offset, sealed }) => {
      const extents: ArenaExtent[] = [];
      for (; next < copies.length && copies[next]!.offset < offset + CHUNK_BYTES; next++) {
        extents.push(this.#extentOf(copies[next]!));
      }
      return { address: this.#memory.addressOf(offset), length: CHUNK_BYTES, sealed, extents };
    });
  }

  /**
   * Lets other threads of the process call routines of this arena: with `attachArena(handle)`, by the numbers that `Routine.handle()` gives.
   * This thread alone places, replaces and frees. An arena is shared once; asked again, the same handle comes back.
   * @returns what postMessage and workerData take to other threads
   * @throws ArgumentError 'A-RANGE'; EngineError 'E-STRATEGY' for strategy 'mprotect', 'E-SYSTEM' where the kernel has no membarrier(SYNC_CORE)
   */
  share(options: ShareOptions = {}): ArenaHandle {
    const limits = takeShareOptions(options);
    if (this.#home.isDisposed) throw disposed();
    if (this.#strategy === 'mprotect') {
      throw new EngineError(
        'E-STRATEGY',
        "an arena of strategy 'mprotect' cannot be shared: its pages are not executable while they are written to",
      );
    }
    this.#sharing ??= this.#startSharing(limits);
    return this.#sharing.handle;
  }

  /**
   * Takes back what was freed and replaced in a shared arena, and no thread can be in any more. This happens by itself from time to time.
   * @returns the bytes that some thread may still be in
   */
  reclaim(): number {
    return this.#home.isDisposed ? 0 : (this.#sharing?.reclaim() ?? 0);
  }

  /**
   * Makes the arena immutable, for good: nothing is placed, replaced or overwritten any more; what was placed
   * can still be called. Where the kernel has mseal, the mappings last as long as the process.
   * @throws EngineError if it is sealed already, or the kernel refuses
   */
  seal(): void {
    this.#requireOpen();
    this.#sharing?.reclaim();
    this.#memory.seal();
    this.#sealed = true;
  }

  /**
   * Unmaps what is not sealed; no routine of the arena can be called any more, by any thread. Disposing twice is harmless.
   * @throws ArgumentError 'A-IN-USE' while a routine of the arena is running: in this thread, or for more than a second in another.
   *   Other threads begin no more calls then, and it can be disposed of later
   */
  dispose(): void {
    if (this.#closed) return;
    for (const placement of this.#placements) requireIdle(placement);
    this.#sharing?.close();
    // Before the first page goes: should JavaScript be cut off here, nothing calls what is not there, and disposing again goes on.
    this.#home.isDisposed = true;
    close({ memory: this.#memory, symbols: this.#symbols });
    shared.delete(this);
    for (const placement of this.#placements) {
      this.#placements.delete(placement);
      placement.live = false;
      if (placement.linked) release(placement.linked.numbers);
    }
    this.#copies.clear();
    this.#sharing = undefined;
    this.#closed = true;
  }

  /** @param check what else is to be looked at: after the options have been read, which may run code of the caller's */
  #put(
    codes: readonly MachineCode[],
    options: PlaceOptions | undefined,
    check: (pieces: readonly Piece[]) => void = () => {},
  ): Placement[] {
    const pieces = linkAll(codes, options);
    try {
      this.#requireOpen();
      check(pieces);
      const copies = this.#publish(pieces);
      return pieces.map(({ code: { abi, needsAlignment, label }, linked }, i) => ({
        home: this.#home,
        copy: copies[i]!,
        code: { abi, needsAlignment, label },
        linked,
        number: undefined,
        live: true,
      }));
    } catch (error) {
      for (const { linked } of pieces) if (linked) release(linked.numbers);
      throw error;
    }
  }

  #requireOpen(): void {
    if (this.#home.isDisposed) throw disposed();
    if (this.#sealed)
      throw new EngineError('E-SEALED', 'this arena is sealed: no code can be placed or replaced in it');
    if (this.#strategy === 'mprotect') requireNothingRunning();
  }

  /**
   * The way into the arena's code.
   * @internal
   * @throws EngineError 'E-NOT-RUNNABLE'
   */
  gate(): Gate {
    if (this.#memory.runnable) return this.#gate;
    throw new EngineError(
      'E-NOT-RUNNABLE',
      "code memory could not be made executable again after it was written to: dispose of this arena, whose strategy is 'mprotect'",
    );
  }

  #call(placement: Placement, args: readonly GivenArg[]): bigint {
    const { copy, code, linked } = placement;
    const words = checkArgs(args, code, libc());
    const gate = this.gate();
    const entry = this.#home.addressOf(copy);
    if (!linked?.numbers.length) return enter(gate, entry, code, words, libc());
    return callWithHelpers(placement, words, () => enter(gate, entry, code, words, libc()));
  }

  #openSymbols(symbols: true | string): SymbolFile {
    try {
      return new SymbolFile(symbols);
    } catch (error) {
      this.#memory.close();
      throw error;
    }
  }

  /** Code with its name where profilers find it. */
  #publish(pieces: readonly Piece[]): Copy[] {
    const { copies, fresh } = this.#copies.put(pieces);
    if (!this.#symbols) return copies;
    try {
      this.#symbols.add(fresh.map((copy) => this.#extentOf(copy)));
      return copies;
    } catch (error) {
      for (const copy of copies) this.#giveUp(this.#dropCopy(copy));
      throw error;
    }
  }

  #extentOf(copy: Copy): ArenaExtent {
    return { address: this.#home.addressOf(copy), length: copy.length, name: copy.label.text };
  }

  #startSharing(limits: Required<ShareOptions>): Sharing {
    const sharing = new Sharing(this.#memory, limits);
    this.#memory.outliveThread(() => sharing.close());
    shared.add(this);
    return sharing;
  }

  #numberFor(placement: Placement): number {
    if (!this.#sharing)
      throw new ArgumentError(
        'A-NOT-SHARED',
        'other threads cannot call routines of this arena: share() it first',
      );
    if (placement.linked) throw notShareable(placement.code.label.text);
    placement.number ??= this.#sharing.add(placement.copy.offset, placement.code);
    return placement.number;
  }

  /** What threads that know the number of a routine are going to call; undefined if it has none. */
  #versionFor(placement: Placement, number: number | undefined): number | undefined {
    if (number === undefined) return undefined;
    try {
      return this.#sharing!.prepare(number, placement.copy.offset, placement.code);
    } catch (error) {
      this.#giveUp(this.#drop(placement));
      throw error;
    }
  }

  #free(placement: Placement): void {
    requireIdle(placement);
    if (this.#strategy === 'mprotect') requireNothingRunning();
    const room = this.#drop(placement);
    if (placement.number !== undefined) this.#sharing!.remove(placement.number, room);
    else this.#giveUp(room);
  }

  #giveUp(room: Span | undefined): void {
    if (!room) return;
    if (this.#sharing) this.#sharing.retire(room);
    else {
      this.#memory.trap([room]);
      this.#memory.release([room]);
    }
  }

  /** @returns the room of its code, where that can be used again */
  #drop(placement: Placement): Span | undefined {
    this.#placements.delete(placement);
    placement.live = false;
    if (placement.linked) release(placement.linked.numbers);
    return this.#dropCopy(placement.copy);
  }

  /** @returns its room, where nobody else uses it */
  #dropCopy(copy: Copy): Span | undefined {
    const unused = this.#copies.drop(copy);
    return unused && !this.#sealed ? roomOf(copy) : undefined;
  }
}

const disposed = () => new ArgumentError('A-DISPOSED', 'this arena has been disposed of');

/**
 * Does the relocations of code. Comes before all checks of the arena, because reading the options may run code of the caller's.
 * @throws ArgumentError for what is not machine code, and 'A-HELPERS'
 */
function linkAll(codes: readonly MachineCode[], options: PlaceOptions | undefined): Piece[] {
  if (!Array.isArray(codes)) throw new ArgumentError('A-TYPE', 'codes must be an array of machine code');
  const given: readonly MachineCode[] = Array.from(codes);
  given.forEach(requireCode);
  const { helpers } = options ?? {};
  const pieces: Piece[] = [];
  try {
    for (const code of given)
      pieces.push({ code, linked: code.relocations.length > 0 ? link(code, helpers) : undefined });
    return pieces;
  } catch (error) {
    for (const { linked } of pieces) if (linked) release(linked.numbers);
    throw error;
  }
}

/** While JavaScript runs, a routine can only be running if it has called a helper function. */
function requireIdle(placement: Placement): void {
  if (!placement.linked?.numbers.length || !isRunning(placement)) return;
  throw new ArgumentError(
    'A-IN-USE',
    `routine '${placement.code.label.text}' is running: wait until its call has returned`,
  );
}

function requireNothingRunning(): void {
  if (!isAnyRunning()) return;
  throw new ArgumentError(
    'A-IN-USE',
    "a helper function cannot change an arena of strategy 'mprotect': its pages are not executable while they are written to",
  );
}
