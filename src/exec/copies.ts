// Code in an arena's memory. Routines with identical code share one copy of it, which counts them; code with relocations differs from
// placement to placement, and is never shared.

import { EngineError } from '../errors.js';
import type { Label, MachineCode, Target } from '../jit/target.js';
import { type CodeMemory, joined, type Span } from './code-memory.js';
import type { Linked } from './link.js';

/** What is to be placed. */
export interface Piece {
  readonly code: MachineCode;
  /** For code with relocations. */
  readonly linked: Linked | undefined;
}

export interface Copy {
  /** Byte offset in the arena's memory. */
  readonly offset: number;
  /** Bytes of code. */
  readonly length: number;
  /** Bytes of granules. */
  readonly room: number;
  /** That of the first routine. */
  readonly label: Label;
  /** The code as text; undefined for code with relocations. */
  readonly key: string | undefined;
  /** How many routines it serves. */
  users: number;
}

export const roomOf = ({ offset, room }: Copy): Span => ({ offset, length: room });

/** More memory than this is not kept for the next time. */
const KEPT_BYTES = 64 * 1024;

function found(
  copies: ReadonlyMap<string, Copy>,
  { code }: Piece,
  key: string | undefined,
): Copy | undefined {
  const copy = key === undefined ? undefined : copies.get(key);
  return copy && copy.offset % code.alignment === 0 ? copy : undefined;
}

export class Copies {
  readonly #memory: CodeMemory;
  readonly #target: Target;
  readonly #decodes: boolean;
  readonly #byKey = new Map<string, Copy>();
  readonly #live = new Set<Copy>();
  #scratch = Buffer.alloc(4096);
  #codeBytes = 0;
  #usedBytes = 0;

  /** @param decodes whether what is read back is decoded as well */
  constructor(memory: CodeMemory, target: Target, decodes: boolean) {
    this.#memory = memory;
    this.#target = target;
    this.#decodes = decodes;
  }

  get codeBytes(): number {
    return this.#codeBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  get count(): number {
    return this.#live.size;
  }

  /** Ascending. */
  all(): Copy[] {
    return [...this.#live].sort((a, b) => a.offset - b.offset);
  }

  /**
   * A copy for each piece: published, unless there is one already. All of them, or none.
   * @returns the copies, and those of them that were not there before
   * @throws EngineError
   */
  put(pieces: readonly Piece[]): { readonly copies: Copy[]; readonly fresh: Copy[] } {
    const copies: Copy[] = [];
    const made: { readonly copy: Copy; readonly piece: Piece }[] = [];
    // Others may find a copy once it is published, and not before: JavaScript may be cut off anywhere.
    const fresh = new Map<string, Copy>();
    try {
      for (const piece of pieces) {
        const key = piece.linked ? undefined : this.#keyOf(piece.code);
        const copy = found(this.#byKey, piece, key) ?? found(fresh, piece, key) ?? this.#make(piece, key);
        if (copy.users++ === 0) {
          made.push({ copy, piece });
          if (key !== undefined) fresh.set(key, copy);
        }
        copies.push(copy);
      }
      this.#publish(made);
      for (const [key, copy] of fresh) this.#byKey.set(key, copy);
      return { copies, fresh: made.map(({ copy }) => copy) };
    } catch (error) {
      const unused = copies.filter((copy) => this.drop(copy)).map(roomOf);
      this.#memory.trap(unused);
      this.#memory.release(unused);
      throw error;
    }
  }

  /** One routine less for a copy. @returns whether none is left, and its room can be trapped and released */
  drop(copy: Copy): boolean {
    if (--copy.users > 0) return false;
    if (copy.key !== undefined && this.#byKey.get(copy.key) === copy) this.#byKey.delete(copy.key);
    this.#live.delete(copy);
    this.#codeBytes -= copy.length;
    this.#usedBytes -= copy.room;
    return true;
  }

  clear(): void {
    this.#byKey.clear();
    this.#live.clear();
    this.#codeBytes = 0;
    this.#usedBytes = 0;
  }

  #keyOf(code: MachineCode): string {
    const bytes = this.#room(code.length);
    code.copyTo(bytes, 0);
    return bytes.toString('latin1', 0, code.length);
  }

  /** Memory for at least so many bytes, until it is asked for again: made anew each time, it takes 0.3 µs more. */
  #room(length: number): Buffer {
    if (length > KEPT_BYTES) return Buffer.alloc(length);
    if (this.#scratch.length < length) this.#scratch = Buffer.alloc(KEPT_BYTES);
    return this.#scratch;
  }

  #make({ code }: Piece, key: string | undefined): Copy {
    const { granule } = this.#memory;
    const { length, label } = code;
    const room = Math.max(1, Math.ceil(length / granule)) * granule;
    const offset = this.#memory.allocate(room, code.alignment);
    const copy = { offset, length, room, label, key, users: 0 };
    this.#live.add(copy);
    this.#codeBytes += length;
    this.#usedBytes += room;
    return copy;
  }

  /** One write for each run of copies that follow each other. */
  #publish(made: { readonly copy: Copy; readonly piece: Piece }[]): void {
    if (made.length > 1) made.sort((a, b) => a.copy.offset - b.copy.offset);
    let next = 0;
    for (const { offset, length } of joined(made.map(({ copy }) => roomOf(copy)))) {
      const bytes = this.#room(length).fill(this.#target.trap, 0, length);
      const first = next;
      for (; next < made.length && made[next]!.copy.offset < offset + length; next++) {
        const { copy, piece } = made[next]!;
        if (piece.linked) bytes.set(piece.linked.bytes, copy.offset - offset);
        else piece.code.copyTo(bytes, copy.offset - offset);
      }
      this.#memory.publish(bytes, length, offset);
      if (this.#decodes)
        for (const { copy } of made.slice(first, next)) this.#compareDecoded(copy, bytes, offset);
    }
  }

  #compareDecoded({ label, offset, length }: Copy, bytes: Uint8Array, start: number): void {
    const meant = this.#target.decode(bytes.slice(offset - start, offset - start + length));
    const found = this.#target.decode(this.#memory.read(offset, length));
    const wrong = meant.findIndex(({ text }, i) => text !== found[i]?.text || text === '(bad)');
    if (wrong === -1 && meant.length === found.length) return;
    const at = meant[wrong] ?? found[meant.length]!;
    throw new EngineError(
      'E-READ-BACK',
      `routine '${label.text}': byte ${at.offset} of its code decodes as '${found[wrong]?.text}' where it was placed, not as '${at.text}'; it was not published`,
    );
  }
}
