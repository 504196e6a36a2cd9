// Executable memory without a writable mapping.
//
//   memfd ──pwrite──► pages ◄──mmap, read+execute, shared── read-only reopening of the memfd
//
// Code reaches its pages through the file's descriptor, and the mapping comes from a descriptor that cannot
// write, so mprotect cannot make it writable (EACCES). Routines are packed at 16-byte granules over chunks that
// grow on demand; whatever is unused holds int3.

import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { type GivenArg, takeArgs } from '../bpf/arguments.js';
import type { Helpers } from '../bpf/helper.js';
import { ArgumentError, EngineError } from '../errors.js';
import { hostTarget } from '../jit/host.js';
import { type MachineCode, requireCode, type Target } from '../jit/target.js';
import { checkArgs } from './boundary.js';
import { callWithHelpers, isRunning, release } from './callbacks.js';
import { Extents } from './extents.js';
import { type Gate, type Libc, libc, type NativeArg } from './libc.js';
import { type Linked, link } from './link.js';
import { nameCodeMemory } from './maps.js';

/** Routines start at multiples of this. */
export const GRANULE = 16;
const CHUNK_BYTES = 64 * 1024;

export interface ArenaStats {
  readonly routines: number;
  /** Bytes of machine code placed: the routines, and the trampoline that calls them. */
  readonly codeBytes: number;
  /** Bytes of granules in use: code and the padding behind it. */
  readonly usedBytes: number;
  readonly mappedBytes: number;
  readonly chunks: number;
  /** codeBytes / mappedBytes; 0 when nothing is mapped. */
  readonly occupancy: number;
}

interface Chunk {
  readonly offset: number;
  readonly length: number;
  readonly address: bigint;
  /** The mapping itself, for reading back what was published. */
  readonly view: Uint8Array;
  /** Whether the mapping can never be changed any more, nor unmapped. */
  sealed: boolean;
}

interface Placement {
  readonly chunk: Chunk;
  /** Byte offset in the file. */
  readonly offset: number;
  readonly granules: number;
  readonly code: MachineCode;
  /** For code that calls helper functions, or has data. */
  readonly linked: Linked | undefined;
}

export interface PlaceOptions {
  /** The helper functions that the code calls. They run in the thread that placed it. */
  readonly helpers?: Helpers;
}

/** Code that has been placed and can be called until it is freed. Routines come from `CodeArena.place`. */
export class Routine {
  readonly #arena: CodeArena;

  /** @internal */
  constructor(arena: CodeArena) {
    this.#arena = arena;
  }

  /**
   * Where the code runs.
   * @throws ArgumentError 'A-FREED' once the routine is freed or its arena disposed of
   */
  get address(): bigint {
    return addressOf(inside.placement(this.#arena, this));
  }

  /**
   * Calls the code with r1, r2, …: a buffer goes as its address, a bigint as itself; a register that the contract
   * leaves out is passed as 0n. Nothing of the buffers is kept.
   * @returns r0, unsigned
   * @throws ArgumentError if an argument does not meet the contract that the code was proven under, and 'A-FREED'
   */
  call(args: readonly GivenArg[]): bigint {
    return inside.call(this.#arena, this, args);
  }

  /**
   * Gives the memory back; the routine cannot be called any more. Freeing twice is harmless.
   * @throws ArgumentError 'A-IN-USE' while it is running
   */
  free(): void {
    inside.free(this.#arena, this);
  }
}

type SixArgs = readonly [NativeArg, NativeArg, NativeArg, NativeArg, NativeArg, NativeArg];

/** What this file does with an arena and its users cannot. */
let inside: {
  placement(arena: CodeArena, routine: Routine): Placement;
  call(arena: CodeArena, routine: Routine, args: readonly GivenArg[]): bigint;
  callLoop(arena: CodeArena, loop: Routine, args: SixArgs): bigint;
  callRecord(arena: CodeArena, routine: Routine, out: NativeArg, packed: NativeArg): void;
  free(arena: CodeArena, routine: Routine): void;
};

/** Calls a loop, whose arguments the caller has checked, past all checks. */
export function callLoop(arena: CodeArena, loop: Routine, args: SixArgs): bigint {
  return inside.callLoop(arena, loop, args);
}

/** The same for a routine that unpacks one record and calls no helper functions. */
export function callRecord(arena: CodeArena, routine: Routine, out: NativeArg, packed: NativeArg): void {
  inside.callRecord(arena, routine, out, packed);
}

export class CodeArena {
  readonly #libc: Libc;
  readonly #target: Target;
  readonly #name: string;
  #writable = -1;
  #readable = -1;
  #sealed = false;
  #disposed = false;
  readonly #chunks: Chunk[] = [];
  readonly #free = new Extents();
  readonly #placements = new Map<Routine, Placement>();
  #trampoline: Placement | undefined;
  #gate: Gate | undefined;

  static {
    inside = {
      placement: (arena, routine) => arena.#placementOf(routine),
      call: (arena, routine, args) => arena.#call(routine, args),
      callLoop: (arena, loop, args) =>
        arena.#libc.call6(arena.#gateIn(), addressOf(arena.#placementOf(loop)), ...args),
      callRecord: (arena, routine, out, packed) =>
        arena.#gateIn().two(addressOf(arena.#placementOf(routine)), out, packed),
      free: (arena, routine) => arena.#freeRoutine(routine),
    };
  }

  /**
   * @param options.name of the memfd, as it shows in /proc/PID/maps
   * @throws EngineError where the system gives no executable memory, with the reason
   */
  constructor(options: { readonly name?: string } = {}) {
    this.#name = options?.name ?? 'bpf-unpack';
    if (!/^[\w.-]{1,64}$/.test(this.#name)) {
      throw new ArgumentError(
        'A-NAME',
        "an arena's name is 1 to 64 letters, digits, '.', '_' or '-': it names the mapping",
      );
    }
    this.#libc = libc();
    this.#target = hostTarget();
    nameCodeMemory(this.#name);
    this.#writable = this.#libc.memfd(this.#name);
    try {
      const path = `/proc/self/fd/${this.#writable}`;
      this.#readable = system('reopening the code file for reading', () => openSync(path, 'r'));
    } catch (error) {
      closeSync(this.#writable);
      throw error;
    }
  }

  /**
   * Publishes code and returns the handle that calls it. Data that the program brought along has its place beside it, with the values
   * that it starts with, and keeps what calls leave there until the routine is freed or replaced.
   * @throws ArgumentError for what is not machine code, and 'A-HELPERS' for helper functions that are missing; EngineError if
   *   the arena is sealed or memory is refused
   */
  place(code: MachineCode, options: PlaceOptions = {}): Routine {
    requireCode(code);
    return linking(code, options, (linked) => {
      this.#requireOpen();
      const routine = new Routine(this);
      this.#placements.set(routine, this.#publish(code, linked));
      return routine;
    });
  }

  /**
   * Publishes new code beside the old and makes `routine` call it from now on; then frees the old.
   * @throws ArgumentError 'A-FREED' for a routine that is not this arena's any more, 'A-IN-USE' for one that is running (a helper
   *   function may try); else as `place`
   */
  replace(routine: Routine, code: MachineCode, options: PlaceOptions = {}): void {
    requireCode(code);
    linking(code, options, (linked) => {
      this.#requireOpen();
      const old = this.#placementOf(routine);
      requireIdle(old);
      this.#placements.set(routine, this.#publish(code, linked));
      this.#reclaim(old);
    });
  }

  stats(): ArenaStats {
    let codeBytes = 0;
    let usedBytes = 0;
    const own = this.#trampoline && !this.#disposed ? [this.#trampoline] : [];
    for (const { code, granules } of [...this.#placements.values(), ...own]) {
      codeBytes += code.length;
      usedBytes += granules * GRANULE;
    }
    const mappedBytes = this.#chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    return {
      routines: this.#placements.size,
      codeBytes,
      usedBytes,
      mappedBytes,
      chunks: this.#chunks.length,
      occupancy: mappedBytes === 0 ? 0 : codeBytes / mappedBytes,
    };
  }

  /**
   * Makes the arena immutable, for good: nothing is placed, replaced or overwritten any more; what was placed
   * can still be called. Where the kernel has mseal, the mappings last as long as the process.
   * @throws EngineError if it is sealed already, or the kernel refuses
   */
  seal(): void {
    this.#requireOpen();
    this.#trampoline ??= this.#publish(this.#target.callTrampoline());
    this.#libc.sealFile(this.#writable);
    closeSync(this.#writable);
    this.#writable = -1;
    this.#sealed = true;
    for (const chunk of this.#chunks) chunk.sealed = this.#libc.sealMapping(chunk.address, chunk.length);
  }

  /**
   * Unmaps what is not sealed; no routine of the arena can be called any more. Disposing twice is harmless.
   * @throws ArgumentError 'A-IN-USE' while a routine of the arena is running
   */
  dispose(): void {
    if (this.#disposed) return;
    for (const placement of this.#placements.values()) requireIdle(placement);
    this.#disposed = true;
    for (const { linked } of this.#placements.values()) if (linked) release(linked.numbers);
    this.#placements.clear();
    for (const { address, length, sealed } of this.#chunks) if (!sealed) this.#libc.unmap(address, length);
    this.#chunks.length = 0;
    if (this.#writable >= 0) closeSync(this.#writable);
    closeSync(this.#readable);
  }

  #requireOpen(): void {
    if (this.#disposed) throw new ArgumentError('A-DISPOSED', 'this arena has been disposed of');
    if (this.#sealed)
      throw new EngineError('E-SEALED', 'this arena is sealed: no code can be placed or replaced in it');
  }

  #placementOf(routine: Routine): Placement {
    const placement = this.#placements.get(routine);
    if (placement) return placement;
    throw new ArgumentError(
      'A-FREED',
      'this routine has been freed, its arena disposed of, or it belongs to another arena',
    );
  }

  #call(routine: Routine, args: readonly GivenArg[]): bigint {
    // Reading them may run code of the caller's, so what can be called is looked at afterwards.
    const taken = takeArgs(args);
    const placement = this.#placementOf(routine);
    const { code, linked } = placement;
    const words = checkArgs(taken, code, this.#libc);
    const gate = this.#gateIn();
    const entry = addressOf(placement);
    if (linked?.numbers.length) {
      return callWithHelpers(placement, words, () => this.#libc.call6(gate, entry, ...words, 0n));
    }
    if (code.abi && code.abi.args.length <= 2) return BigInt(gate.two(entry, words[0], words[1]));
    return this.#libc.call6(gate, entry, ...words, 0n);
  }

  /** The way in, made at the first call. */
  #gateIn(): Gate {
    this.#trampoline ??= this.#publish(this.#target.callTrampoline());
    return (this.#gate ??= this.#libc.gate(addressOf(this.#trampoline)));
  }

  #freeRoutine(routine: Routine): void {
    const placement = this.#placements.get(routine);
    if (!placement) return;
    requireIdle(placement);
    this.#placements.delete(routine);
    this.#reclaim(placement);
  }

  #publish(code: MachineCode, linked?: Linked): Placement {
    const granules = Math.max(1, Math.ceil(code.length / GRANULE));
    const offset = this.#allocate(granules, code.alignment / GRANULE) * GRANULE;
    const chunk = this.#chunks.find(
      (candidate) => offset >= candidate.offset && offset < candidate.offset + candidate.length,
    )!;
    const bytes = new Uint8Array(granules * GRANULE).fill(this.#target.trap);
    bytes.set(linked?.bytes ?? code.bytes);
    this.#write(bytes, offset);
    const published = chunk.view.subarray(offset - chunk.offset, offset - chunk.offset + bytes.length);
    if (Buffer.compare(published, bytes) !== 0) {
      throw new EngineError(
        'E-READ-BACK',
        `code at file offset ${offset} does not read back as it was written; it was not published`,
      );
    }
    return { chunk, offset, granules, code, linked };
  }

  #reclaim({ offset, granules, linked }: Placement): void {
    if (linked) release(linked.numbers);
    if (this.#sealed) return;
    this.#write(new Uint8Array(granules * GRANULE).fill(this.#target.trap), offset);
    this.#free.give(offset / GRANULE, granules);
  }

  /** @returns the number of the first granule */
  #allocate(granules: number, multiple: number): number {
    const found = this.#free.take(granules, multiple);
    if (found !== undefined) return found;
    this.#grow(granules * GRANULE);
    return this.#free.take(granules, multiple)!;
  }

  #grow(atLeast: number): void {
    const last = this.#chunks.at(-1);
    const offset = last ? last.offset + last.length : 0;
    const length = Math.ceil((atLeast + GRANULE) / CHUNK_BYTES) * CHUNK_BYTES;
    system('enlarging the code file', () => ftruncateSync(this.#writable, offset + length));
    this.#write(new Uint8Array(length).fill(this.#target.trap), offset);
    const address = this.#libc.mapCode(this.#readable, offset, length);
    this.#chunks.push({ offset, length, address, view: this.#libc.view(address, length), sealed: false });
    // The last granule stays a trap: free runs of two chunks must not join, their mappings may lie apart.
    this.#free.give(offset / GRANULE, length / GRANULE - 1);
  }

  #write(bytes: Uint8Array, offset: number): void {
    const written = system('writing code', () => writeSync(this.#writable, bytes, 0, bytes.length, offset));
    if (written !== bytes.length)
      throw new EngineError('E-SYSTEM', `only ${written} of ${bytes.length} bytes of code could be written`);
  }
}

/**
 * Does the relocations of code, and what comes next with the result; if that fails, the helpers are released. Comes before all
 * checks, because reading the options may run code of the caller's.
 */
function linking<T>(
  code: MachineCode,
  options: PlaceOptions | undefined,
  next: (linked: Linked | undefined) => T,
): T {
  const linked = code.relocations.length > 0 ? link(code, options?.helpers) : undefined;
  try {
    return next(linked);
  } catch (error) {
    if (linked) release(linked.numbers);
    throw error;
  }
}

/** While JavaScript runs, a routine can only be running if it has called a helper function. */
function requireIdle(placement: Placement): void {
  if (!placement.linked?.numbers.length || !isRunning(placement)) return;
  const { name } = placement.code;
  throw new ArgumentError('A-IN-USE', `routine '${name}' is running: wait until its call has returned`);
}

const addressOf = ({ chunk, offset }: Placement): bigint => chunk.address + BigInt(offset - chunk.offset);

function system<T>(what: string, call: () => T): T {
  try {
    return call();
  } catch (cause) {
    throw new EngineError('E-SYSTEM', `${what} was refused: ${(cause as Error).message}`, {}, { cause });
  }
}
