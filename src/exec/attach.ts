// The other threads' side of an arena: they call its routines by their numbers, and change nothing.

import { type GivenArg, takeArgs } from '../bpf/arguments.js';
import { requireInteger, requireKey } from '../bytes.js';
import { ArgumentError } from '../errors.js';
import { checkArgs, enter } from './boundary.js';
import { gateBy } from './gate.js';
import { type Gate, libc } from './libc.js';
import { Reader } from './readers.js';
import { type ArenaHandle, openTable, type SharedTable, type Version } from './shared-table.js';
import { generationOf, slotOf } from './sharing.js';

const ATTACHED = Symbol('attached');
/** A place that was forgotten is given back some day; `detach` does so at once. */
const forgotten = new FinalizationRegistry<Reader>((reader) => reader.detach());

/**
 * Opens an arena that another thread of this process owns, to call what that placed there.
 * @param handle what `CodeArena.share()` returned
 * @throws ArgumentError 'A-HANDLE' for what is no handle of this process; EngineError where machine code cannot be called here,
 *   and 'E-THREADS' where as many threads are attached as the arena was shared for
 */
export function attachArena(handle: ArenaHandle): AttachedArena {
  const table = openTable(handle);
  libc();
  return new AttachedArena(ATTACHED, table);
}

/** An arena of another thread. */
export class AttachedArena {
  readonly #table: SharedTable;
  readonly #gate: Gate;
  #reader: Reader | undefined;

  /** @internal */
  constructor(key: symbol, table: SharedTable) {
    requireKey(key, ATTACHED, 'an attached arena', 'attachArena');
    this.#table = table;
    this.#gate = gateBy('memfd');
    this.#reader = new Reader(table);
    forgotten.register(this, this.#reader);
  }

  /**
   * A routine, by the number that `Routine.handle()` gave for it in the thread that placed it.
   * @throws ArgumentError 'A-RANGE' for what is no such number
   */
  routine(number: number): AttachedRoutine {
    requireInteger(number, 0, Number.MAX_SAFE_INTEGER, 'a routine’s number');
    return new AttachedRoutine(ATTACHED, (args) => this.#call(number, args));
  }

  /** Makes room for another thread; nothing can be called any more. Detaching twice is harmless. */
  detach(): void {
    this.#reader?.detach();
    this.#reader = undefined;
  }

  #call(number: number, args: readonly GivenArg[]): bigint {
    // Reading them may run code of the caller's, so what can be called is looked at afterwards.
    const taken = takeArgs(args);
    const reader = this.#reader;
    if (!reader) throw new ArgumentError('A-DISPOSED', 'this thread has been detached from the arena');
    // Should JavaScript be cut off in between, then this thread's next call takes the word back.
    reader.enter();
    try {
      const { offset, contract } = this.#versionOf(number);
      const checked = this.#table.contract(contract);
      const words = checkArgs(taken, checked, libc());
      return enter(this.#gate, this.#table.base + BigInt(offset), checked, words, libc());
    } finally {
      reader.leave();
    }
  }

  #versionOf(number: number): Version {
    if (this.#table.closed) throw new ArgumentError('A-DISPOSED', 'this arena has been disposed of');
    const slot = slotOf(number);
    const version = slot < this.#table.slots ? this.#table.current(slot) : undefined;
    if (version?.generation === generationOf(number)) return version;
    throw new ArgumentError('A-FREED', 'this routine has been freed, or the number is of another arena');
  }
}

/** A routine that another thread placed. When that replaces it, the next call is one of the new code. */
export class AttachedRoutine {
  readonly #call: (args: readonly GivenArg[]) => bigint;

  /** @internal */
  constructor(key: symbol, call: (args: readonly GivenArg[]) => bigint) {
    requireKey(key, ATTACHED, 'an attached routine', 'AttachedArena.routine');
    this.#call = call;
  }

  /**
   * Calls the code that the routine has now, as `Routine.call` does.
   * @returns r0, unsigned
   * @throws ArgumentError if an argument does not meet the contract of that code, 'A-FREED' if the routine has been freed,
   *   or 'A-DISPOSED'
   */
  call(args: readonly GivenArg[]): bigint {
    return this.#call(args);
  }
}
