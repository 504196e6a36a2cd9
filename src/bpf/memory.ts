// The interpreter's memory: regions that know their names, and pointers that know their region.
//
// A pointer is a 64-bit address together with the number of the region it was derived from, so that a stray
// offset cannot land in another region by luck. Regions lie 2^44 bytes apart all the same, for the arithmetic.
// A pointer stored to memory leaves its region's number in a shadow of that memory, one entry a byte.

import { byteLength } from '../bytes.js';
import { ExecutionError } from '../errors.js';
import type { Access } from './contract.js';
import { STACK_BYTES } from './isa.js';

const SPACING = 1n << 44n;

/** A 64-bit number and the region it points into; region 0 is none. */
export interface Word {
  readonly value: bigint;
  readonly region: number;
}

interface Region {
  readonly name: string;
  readonly base: bigint;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly access: Access;
  /** Bytes that have been written; undefined where nobody asks. */
  readonly written: Uint8Array | undefined;
  /** Whether reading a byte that was not written is a fault. */
  readonly startsEmpty: boolean;
  pointers: Uint32Array | undefined;
}

export class Memory {
  readonly #regions = new Map<number, Region>();
  #last = 0;

  /** @param strict whether reads of stack bytes that were not written are faults, and writes are recorded */
  constructor(readonly strict: boolean) {}

  /** Adds a buffer of the caller's; what is written goes there. An empty one has address 0. */
  addBuffer(name: string, bytes: Uint8Array, access: Access): Word {
    if (byteLength(bytes) === 0) return { value: 0n, region: 0 };
    return this.#add({ name, bytes, access, startsEmpty: false });
  }

  /** Adds a copy of a data section, which begins as that. */
  addData(name: string, bytes: Uint8Array, access: Access): Word {
    return this.#add({ name: `the data section ${name}`, bytes, access, startsEmpty: false });
  }

  /** Adds a stack frame and returns its end, which is r10's value. */
  pushFrame(): Word {
    const bytes = new Uint8Array(STACK_BYTES);
    const frame = this.#add({ name: 'the stack', bytes, access: 'readwrite', startsEmpty: this.strict });
    return { value: frame.value + BigInt(STACK_BYTES), region: frame.region };
  }

  popFrame(top: Word): void {
    this.#regions.delete(top.region);
  }

  /** Offsets of a region's bytes that no instruction has written; strict mode only. */
  unwritten(region: number): number[] {
    const written = this.#regions.get(region)?.written;
    return written ? Array.from(written.keys()).filter((byte) => written[byte] === 0) : [];
  }

  load(pointer: Word, off: number, size: number, insn: number): Word {
    const { region, at } = this.#readable(pointer, off, size, insn);
    return { value: readUnsigned(region.view, at, size), region: size === 8 ? pointedRegion(region, at) : 0 };
  }

  /** A copy of `size` bytes, for a helper function; of zeros where it is only to write them. */
  copy(pointer: Word, size: number, access: Access, insn: number): Uint8Array {
    if (access !== 'read') this.#locate(pointer, 0, size, 'write', insn);
    if (access === 'write') return new Uint8Array(size);
    const { region, at } = this.#readable(pointer, 0, size, insn);
    return region.bytes.slice(at, at + size);
  }

  fill(pointer: Word, bytes: Uint8Array, insn: number): void {
    const size = byteLength(bytes);
    const { region, at } = this.#locate(pointer, 0, size, 'write', insn);
    region.bytes.set(bytes, at);
    region.written?.fill(1, at, at + size);
    region.pointers?.fill(0, at, at + size);
  }

  #readable(pointer: Word, off: number, size: number, insn: number): { region: Region; at: number } {
    const { region, at } = this.#locate(pointer, off, size, 'read', insn);
    if (region.startsEmpty) {
      const empty = region.written!.subarray(at, at + size).indexOf(0);
      if (empty !== -1) {
        const byte = at + empty - STACK_BYTES;
        throw new ExecutionError(
          'X-UNINIT-STACK',
          `instruction ${insn}: byte r10${byte} of the stack is read before it is written`,
          { insn, byte },
        );
      }
    }
    return { region, at };
  }

  store(pointer: Word, off: number, size: number, word: Word, insn: number): void {
    const { region, at } = this.#locate(pointer, off, size, 'write', insn);
    writeUnsigned(region.view, at, size, word.value);
    region.written?.fill(1, at, at + size);
    const points = size === 8 ? word.region : 0;
    if (points !== 0) region.pointers ??= new Uint32Array(region.bytes.length);
    region.pointers?.fill(points, at, at + size);
  }

  /** Atomic operations need natural alignment; the bases of regions have it. */
  requireAligned(pointer: Word, off: number, size: number, insn: number): void {
    const address = pointer.value + BigInt(off);
    if (address % BigInt(size) === 0n) return;
    throw new ExecutionError(
      'X-ALIGN',
      `instruction ${insn}: an atomic operation on ${size} bytes needs an address that is a multiple of ${size}`,
      { insn },
    );
  }

  #add(spec: { name: string; bytes: Uint8Array; access: Access; startsEmpty: boolean }): Word {
    const { bytes } = spec;
    const number = ++this.#last;
    // Regions come and go like a stack, so how many there are names a free place.
    const base = SPACING * BigInt(this.#regions.size + 1);
    this.#regions.set(number, {
      ...spec,
      base,
      view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength),
      written: this.strict ? new Uint8Array(bytes.length) : undefined,
      pointers: undefined,
    });
    return { value: base, region: number };
  }

  #locate(
    pointer: Word,
    off: number,
    size: number,
    direction: 'read' | 'write',
    insn: number,
  ): { region: Region; at: number } {
    const region = this.#regions.get(pointer.region);
    if (!region) {
      const what =
        pointer.region === 0
          ? 'an address that was derived from no memory of this call'
          : 'a stack frame that has been left';
      throw new ExecutionError(
        'X-NOT-POINTER',
        `instruction ${insn}: ${size}-byte ${direction} at ${what} (0x${pointer.value.toString(16)})`,
        { insn },
      );
    }
    const at = BigInt.asIntN(64, pointer.value - region.base) + BigInt(off);
    if (at < 0n || at + BigInt(size) > BigInt(region.bytes.length)) {
      throw new ExecutionError(
        'X-OOB',
        `instruction ${insn}: ${size}-byte ${direction} at byte ${at} of ${region.name}, which has ${region.bytes.length} bytes`,
        { insn },
      );
    }
    if (region.access !== 'readwrite' && region.access !== direction) {
      throw new ExecutionError(
        'X-ACCESS',
        `instruction ${insn}: ${direction} of ${region.name}, which may only be ${region.access === 'read' ? 'read' : 'written'}`,
        { insn },
      );
    }
    return { region, at: Number(at) };
  }
}

function readUnsigned(view: DataView, at: number, size: number): bigint {
  if (size === 8) return view.getBigUint64(at, true);
  return BigInt(
    size === 1 ? view.getUint8(at) : size === 2 ? view.getUint16(at, true) : view.getUint32(at, true),
  );
}

function writeUnsigned(view: DataView, at: number, size: number, value: bigint): void {
  if (size === 8) view.setBigUint64(at, value, true);
  else if (size === 4) view.setUint32(at, Number(value & 0xffff_ffffn), true);
  else if (size === 2) view.setUint16(at, Number(value & 0xffffn), true);
  else view.setUint8(at, Number(value & 0xffn));
}

/** The region that the 8 bytes at `at` point into, if they are one pointer, whole. */
function pointedRegion({ pointers }: Region, at: number): number {
  if (!pointers) return 0;
  const first = pointers[at]!;
  return pointers.subarray(at, at + 8).every((region) => region === first) ? first : 0;
}
