// Unpackers of equal formats have one engine between them, for as long as one of them lives, and some engines are kept for longer:
// what it takes to make one, verification and all, takes thirty times as long as to find it here.

import { ArgumentError } from '../errors.js';
import type { Routine } from '../exec/arena.js';
import type { Constant, Destination, Field, Format } from '../format/model.js';
import { halvesOf } from '../halves.js';
import type { Engine, EngineName } from '../unpacker.js';

/** An engine, and whether its machine code is still there: whoever has the arena may have disposed of that. */
export interface Made {
  readonly engine: Engine;
  readonly isPlaced: () => boolean;
}

interface Shared extends Made {
  readonly format: Format;
  readonly wanted: string | undefined;
  readonly hash: number;
  /** What the unpackers have, each of which disposes of it once. */
  readonly handle: Engine;
  users: number;
}

/** The engines in one arena. */
export class SharedEngines {
  readonly #byHash = new Map<number, Shared[]>();
  /** Those that nobody uses, in the order in which they became idle. */
  readonly #idle = new Set<Shared>();
  readonly #keeps: number;

  /** @param keeps how many engines to keep that nobody uses */
  constructor(keeps: number) {
    this.#keeps = keeps;
  }

  /**
   * The engine of that name for formats that are equal but for their own names, made if there is none.
   * @param wanted what else it has to agree in
   */
  take(format: Format, name: EngineName, wanted: string | undefined, make: () => Made): Engine {
    const hash = hashOf(format);
    const found = this.#byHash
      .get(hash)
      ?.find((one) => one.wanted === wanted && one.engine.name === name && isSame(one.format, format));
    if (found?.isPlaced()) {
      if (found.users++ === 0) this.#idle.delete(found);
      return found.handle;
    }
    if (found) this.#forget(found);
    return this.#add(format, wanted, hash, make()).handle;
  }

  #add(format: Format, wanted: string | undefined, hash: number, { engine, isPlaced }: Made): Shared {
    const handle = { ...engine, dispose: () => this.#release(shared) };
    const shared: Shared = { format, wanted, hash, engine, isPlaced, handle, users: 1 };
    const others = this.#byHash.get(hash);
    if (others) others.push(shared);
    else this.#byHash.set(hash, [shared]);
    return shared;
  }

  #release(shared: Shared): void {
    if (shared.users === 1 && !this.#keep(shared)) this.#drop(shared);
    shared.users--;
  }

  /** Whether it is kept; the one that has been idle for longest makes room. */
  #keep(shared: Shared): boolean {
    if (this.#keeps === 0) return false;
    this.#idle.add(shared);
    const [oldest] = this.#idle;
    if (this.#idle.size > this.#keeps) this.#drop(oldest!);
    return true;
  }

  #drop(shared: Shared): void {
    shared.engine.dispose();
    this.#forget(shared);
  }

  #forget(shared: Shared): void {
    this.#idle.delete(shared);
    const left = this.#byHash.get(shared.hash)?.filter((one) => one !== shared) ?? [];
    if (left.length > 0) this.#byHash.set(shared.hash, left);
    else this.#byHash.delete(shared.hash);
  }
}

function hashOf({ packedBytes, fields, constants }: Format): number {
  let hash = packedBytes;
  for (const { at, bits, offset, to } of fields) {
    const { low, high } = halvesOf(offset);
    hash = Math.imul(hash ^ low ^ (high << 7) ^ (at << 8) ^ (bits << 24) ^ to.byte, 0x01000193);
  }
  for (const { value } of constants) hash = Math.imul(hash ^ halvesOf(value).low, 0x01000193);
  return hash;
}

/** Whether formats are equal in all but their names. Columns go by the names of fields. */
function isSame(a: Format, b: Format): boolean {
  if (a === b) return true;
  if (a.packedBytes !== b.packedBytes || a.unpackedBytes !== b.unpackedBytes || a.keyU64s !== b.keyU64s)
    return false;
  if (a.fields.length !== b.fields.length || a.constants.length !== b.constants.length) return false;
  for (let i = 0; i < a.fields.length; i++) if (!isSameField(a.fields[i]!, b.fields[i]!)) return false;
  for (let i = 0; i < a.constants.length; i++)
    if (!isSameConstant(a.constants[i]!, b.constants[i]!)) return false;
  return true;
}

const isSameField = (a: Field, b: Field): boolean =>
  a.name === b.name &&
  a.bits === b.bits &&
  a.at === b.at &&
  a.order === b.order &&
  a.signed === b.signed &&
  a.offset === b.offset &&
  isSameDestination(a.to, b.to);

const isSameConstant = (a: Constant, b: Constant): boolean =>
  a.value === b.value && isSameDestination(a.to, b.to);

const isSameDestination = (a: Destination, b: Destination): boolean =>
  a.byte === b.byte && a.size === b.size && a.bit === b.bit && a.bits === b.bits;

/** Whether the arena of a routine that nobody else can free has not been disposed of. */
export function isPlaced(routine: Routine): boolean {
  try {
    return routine.address !== 0n;
  } catch (error) {
    if (error instanceof ArgumentError) return false;
    throw error;
  }
}
