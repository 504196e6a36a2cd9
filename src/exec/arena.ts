// An arena of machine code: what is placed in it can be called, replaced and freed. Its memory is code-memory.ts's, how bytes get there
// pages.ts's; what is the same code is found by copies.ts.

import { type GivenArg, takeArgs } from '../bpf/arguments.js';
import type { Helpers } from '../bpf/helper.js';
import { requireKey } from '../bytes.js';
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
import { type Checked, checkArgs } from './boundary.js';
import { callWithHelpers, isAnyRunning, isRunning, release } from './callbacks.js';
import { CHUNK_BYTES, CodeMemory } from './code-memory.js';
import { Copies, type Copy, type Piece, roomOf } from './copies.js';
import { type Gate, libc, type NativeArg } from './libc.js';
import { type Linked, link } from './link.js';
import type { Strategy } from './pages.js';
import { SymbolFile } from './symbols.js';

interface Placement {
  readonly arena: CodeArena;
  readonly copy: Copy;
  readonly code: Called;
  /** For code that calls helper functions, or has data. */
  readonly linked: Linked | undefined;
}

/** What is kept of machine code: not its bytes. */
type Called = Checked & Pick<MachineCode, 'label'>;

export interface PlaceOptions {
  /** The helper functions that the code calls. They run in the thread that placed it. */
  readonly helpers?: Helpers;
}

/** The placement of a routine, for this file alone. */
let placementIn: (routine: Routine) => Placement | undefined;
let setPlacement: (routine: Routine, placement: Placement | undefined) => void;
const PLACED = Symbol('placed');

/**
 * Code that has been placed and can be called until it is freed. Routines come from `CodeArena.place`. One that is forgotten
 * stays placed, because its address may be in use.
 */
export class Routine {
  #placement: Placement | undefined;

  static {
    placementIn = (routine) => routine.#placement;
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
    const { arena, copy } = placementOf(this);
    return addressIn(arena, copy);
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
    return callPlaced(placementOf(this), taken);
  }

  /**
   * Gives the memory back; the routine cannot be called any more. Freeing twice is harmless.
   * @throws ArgumentError 'A-IN-USE' while it is running
   */
  free(): void {
    if (!this.#placement) return;
    freePlaced(this.#placement);
    this.#placement = undefined;
  }
}

type SixArgs = readonly [NativeArg, NativeArg, NativeArg, NativeArg, NativeArg, NativeArg];

/** Calls a loop, whose arguments the caller has checked, past all checks. */
export function callLoop(arena: CodeArena, loop: Routine, args: SixArgs): bigint {
  const entry = addressIn(arena, placementOf(loop).copy);
  return libc().call6(gateIn(arena), entry, ...args);
}

/** The same for a routine that unpacks one record and calls no helper functions. */
export function callRecord(arena: CodeArena, routine: Routine, out: NativeArg, packed: NativeArg): void {
  const entry = addressIn(arena, placementOf(routine).copy);
  gateIn(arena).two(entry, out, packed);
}

/** What this file does with an arena, and its users cannot. */
let addressIn: (arena: CodeArena, copy: Copy) => bigint;
let gateIn: (arena: CodeArena) => Gate;
let isDisposed: (arena: CodeArena) => boolean;
let freePlaced: (placement: Placement) => void;

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
  readonly #memory: CodeMemory;
  readonly #copies: Copies;
  readonly #placements = new Set<Placement>();
  #trampoline: Copy | undefined;
  #gate: Gate | undefined;
  readonly #symbols: SymbolFile | undefined;
  #sealed = false;
  #disposed = false;

  static {
    addressIn = (arena, { offset }) => arena.#memory.addressOf(offset);
    gateIn = (arena) => arena.#gateIn();
    isDisposed = (arena) => arena.#disposed;
    freePlaced = (placement) => placement.arena.#free(placement);
  }

  /**
   * @throws ArgumentError for an option that is none; EngineError where the system gives no executable memory, with the reason
   *   and what to do
   */
  constructor(options: ArenaOptions = {}) {
    const { name, granule, strategy, check, symbols } = takeOptions(options);
    this.#strategy = strategy;
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
      return new Routine(PLACED, placement);
    });
  }

  /**
   * Publishes new code beside the old and makes `routine` call it from now on; then frees the old.
   * @throws ArgumentError 'A-FREED' for a routine that is not this arena's any more, 'A-IN-USE' for one that is running (a helper
   *   function may try); else as `place`
   */
  replace(routine: Routine, code: MachineCode, options: PlaceOptions = {}): void {
    let old: Placement | undefined;
    const [placement] = this.#put([code], options, () => {
      old = placementOf(routine);
      if (old.arena !== this) throw freed();
      requireIdle(old);
    });
    this.#placements.add(placement!);
    setPlacement(routine, placement);
    this.#retire(old!);
  }

  stats(): ArenaStats {
    const { mappedBytes, freeBytes, freeRuns: fragments, regionBytes: reservedBytes } = this.#memory;
    const { codeBytes, usedBytes, count } = this.#copies;
    const routines = this.#placements.size;
    return {
      routines,
      sharing: routines + (this.#trampoline ? 1 : 0) - count,
      codeBytes,
      usedBytes,
      wastedBytes: usedBytes - codeBytes,
      freeBytes,
      fragments,
      retiredBytes: 0,
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
   * Makes the arena immutable, for good: nothing is placed, replaced or overwritten any more; what was placed
   * can still be called. Where the kernel has mseal, the mappings last as long as the process.
   * @throws EngineError if it is sealed already, or the kernel refuses
   */
  seal(): void {
    this.#requireOpen();
    this.#callTrampoline();
    this.#memory.seal();
    this.#sealed = true;
  }

  /**
   * Unmaps what is not sealed; no routine of the arena can be called any more. Disposing twice is harmless.
   * @throws ArgumentError 'A-IN-USE' while a routine of the arena is running
   */
  dispose(): void {
    if (this.#disposed) return;
    for (const placement of this.#placements) requireIdle(placement);
    this.#disposed = true;
    for (const { linked } of this.#placements) if (linked) release(linked.numbers);
    this.#placements.clear();
    this.#copies.clear();
    this.#trampoline = undefined;
    this.#gate = undefined;
    close({ memory: this.#memory, symbols: this.#symbols });
  }

  /** @param check what else is to be looked at: after the options have been read, which may run code of the caller's */
  #put(codes: readonly MachineCode[], options: PlaceOptions | undefined, check = () => {}): Placement[] {
    const pieces = linkAll(codes, options);
    try {
      this.#requireOpen();
      check();
      const copies = this.#publish(pieces);
      return pieces.map(({ code: { abi, needsAlignment, label }, linked }, i) => ({
        arena: this,
        copy: copies[i]!,
        code: { abi, needsAlignment, label },
        linked,
      }));
    } catch (error) {
      for (const { linked } of pieces) if (linked) release(linked.numbers);
      throw error;
    }
  }

  #requireOpen(): void {
    if (this.#disposed) throw new ArgumentError('A-DISPOSED', 'this arena has been disposed of');
    if (this.#sealed)
      throw new EngineError('E-SEALED', 'this arena is sealed: no code can be placed or replaced in it');
    if (this.#strategy === 'mprotect') requireNothingRunning();
  }

  #openSymbols(symbols: true | string): SymbolFile {
    try {
      return new SymbolFile(symbols);
    } catch (error) {
      this.#memory.close();
      throw error;
    }
  }

  #callTrampoline(): Copy {
    this.#trampoline ??= this.#publish([{ code: this.#target.callTrampoline(), linked: undefined }])[0]!;
    return this.#trampoline;
  }

  /** The way into the arena's code, made at the first call. */
  #gateIn(): Gate {
    this.#gate ??= libc().gate(addressIn(this, this.#callTrampoline()));
    if (this.#memory.runnable) return this.#gate;
    throw new EngineError(
      'E-NOT-RUNNABLE',
      "code memory could not be made executable again after it was written to: dispose of this arena, whose strategy is 'mprotect'",
    );
  }

  #free(placement: Placement): void {
    if (this.#disposed) return;
    requireIdle(placement);
    if (this.#strategy === 'mprotect') requireNothingRunning();
    this.#retire(placement);
  }

  /** Code with its name where profilers find it. */
  #publish(pieces: readonly Piece[]): Copy[] {
    const copies = this.#copies.put(pieces);
    if (!this.#symbols) return copies;
    try {
      const fresh = new Set(copies.filter(({ users }) => users === 1));
      this.#symbols.add(Array.from(fresh, (copy) => this.#extentOf(copy)));
      return copies;
    } catch (error) {
      for (const copy of copies) this.#drop(copy);
      throw error;
    }
  }

  #extentOf(copy: Copy): ArenaExtent {
    return { address: addressIn(this, copy), length: copy.length, name: copy.label.text };
  }

  #retire(placement: Placement): void {
    this.#placements.delete(placement);
    if (placement.linked) release(placement.linked.numbers);
    this.#drop(placement.copy);
  }

  #drop(copy: Copy): void {
    if (!this.#copies.drop(copy) || this.#sealed) return;
    const room = [roomOf(copy)];
    this.#memory.trap(room);
    this.#memory.release(room);
  }
}

function callPlaced(placement: Placement, args: readonly GivenArg[]): bigint {
  const { arena, copy, code, linked } = placement;
  const words = checkArgs(args, code, libc());
  const gate = gateIn(arena);
  const entry = addressIn(arena, copy);
  if (linked?.numbers.length)
    return callWithHelpers(placement, words, () => libc().call6(gate, entry, ...words, 0n));
  if (code.abi && code.abi.args.length <= 2) return BigInt(gate.two(entry, words[0], words[1]));
  return libc().call6(gate, entry, ...words, 0n);
}

function placementOf(routine: Routine): Placement {
  const placement = placementIn(routine);
  if (!placement || isDisposed(placement.arena)) throw freed();
  return placement;
}

const freed = () =>
  new ArgumentError(
    'A-FREED',
    'this routine has been freed, its arena disposed of, or it belongs to another arena',
  );

/**
 * Does the relocations of code. Comes before all checks of the arena, because reading the options may run code of the caller's.
 * @throws ArgumentError for what is not machine code, and 'A-HELPERS'
 */
function linkAll(codes: readonly MachineCode[], options: PlaceOptions | undefined): Piece[] {
  if (!Array.isArray(codes)) throw new ArgumentError('A-TYPE', 'codes must be an array of machine code');
  const given: readonly MachineCode[] = Array.from(codes);
  given.forEach(requireCode);
  const pieces: Piece[] = [];
  try {
    for (const code of given)
      pieces.push({ code, linked: code.relocations.length > 0 ? link(code, options?.helpers) : undefined });
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
