// What the loop over columns does in vectors, by AVX2 and by AVX-512. A step is two groups of records, each of which has as many as
// a register has lanes of 64 bits. Planes come from blocks: 16 bytes of each record of the step, in four registers,
//
//   AVX2      records 0 and 2, 1 and 3, 4 and 6, 5 and 7
//   AVX-512   records 0 to 3, 4 to 7, 8 to 11, 12 to 15; or, where all bytes of eight records are at most 128 bytes, these

import type { Assembler } from './assemble.js';
import type { Plane } from './column-plan.js';
import { type Memory, memory, type Register, vector } from './operands.js';

export const BLOCK_BYTES = 16;
const LANE_BYTES = 8;
const HALF_BYTES = 16;
const NOTHING = 0x80;
/** A register for what lies between two instructions of one operation. */
export const SPARE = 4;

/** Where a constant is, as wide as a register; a shorter value repeats. */
export type Constants = (value: Uint8Array) => Register | Memory;

/** Where a step's records are. */
export interface Records {
  /** General register with the address of the first. */
  readonly base: number;
  readonly stride: number;
}

export interface Lanes {
  readonly bits: 256 | 512;
  /** How many planes are kept, in two registers each. */
  readonly planes: number;
  readonly registers: number;
  /** Bytes of the step's records that a block beginning at a byte reads, counted from the first record. */
  reach(byte: number): number;
  /** Loads bytes byte … byte + 15 of each record into four registers. */
  load(registers: readonly number[], byte: number): void;
  /** The plane of a group, 0 or 1, out of the block at `byte`. */
  plane(into: number, group: number, registers: readonly number[], byte: number, plane: Plane): void;
  shift(into: number, from: number, right: number): void;
  /**
   * Elements of `bytes` bytes from byte `at` of each lane of both groups, one behind the other. Bytes behind a lane may be anything.
   */
  pick(into: number, groups: readonly [number, number], bytes: 1 | 2 | 4, at: number): void;
  /** Whether `pick` takes bytes from there without shifts. */
  picks(bytes: 1 | 2 | 4, at: number): boolean;
  readonly operations: { readonly and: string; readonly or: string; readonly xor: string };
}

/** Places in a plane, the lowest byte first, as bytes of the record. */
const bytesOf = ({ byte, turned }: Plane): number[] =>
  Array.from({ length: LANE_BYTES }, (_, i) => (turned ? byte + LANE_BYTES - 1 - i : byte + i));

const inLane = (byte: number): number => Math.min(byte, LANE_BYTES - 1);

export class Avx2Lanes implements Lanes {
  readonly bits = 256;
  readonly planes = 2;
  readonly registers = 16;
  readonly operations = { and: 'vpand', or: 'vpor', xor: 'vpxor' };
  readonly #asm: Assembler;
  readonly #records: Records;
  readonly #constant: Constants;

  constructor(asm: Assembler, records: Records, constant: Constants) {
    this.#asm = asm;
    this.#records = records;
    this.#constant = constant;
  }

  reach = (byte: number): number => 7 * this.#records.stride + byte + BLOCK_BYTES;

  load(registers: readonly number[], byte: number): void {
    const { base, stride } = this.#records;
    const place = (record: number) => memory(128, base, record * stride + byte);
    registers.forEach((number, i) => {
      const record = i < 2 ? i : i + 2;
      this.#asm.emit('vmovdqu', vector(number, 128), place(record));
      this.#asm.emit('vinserti128', ymm(number), ymm(number), place(record + 2), 1);
    });
  }

  plane(into: number, group: number, registers: readonly number[], byte: number, plane: Plane): void {
    const asm = this.#asm;
    const [even, odd] = [registers[group * 2]!, registers[group * 2 + 1]!];
    const first = plane.byte - byte;
    if (!plane.turned && (first === 0 || first === LANE_BYTES)) {
      asm.emit(first === 0 ? 'vpunpcklqdq' : 'vpunpckhqdq', ymm(into), ymm(even), ymm(odd));
      return;
    }
    const places = bytesOf(plane).map((from) => from - byte);
    const nothing = new Array(LANE_BYTES).fill(NOTHING);
    const shuffle = (half: readonly number[]) => this.#constant(Uint8Array.from([...half, ...half]));
    asm.emit('vpshufb', ymm(into), ymm(even), shuffle([...places, ...nothing]));
    asm.emit('vpshufb', ymm(SPARE), ymm(odd), shuffle([...nothing, ...places]));
    asm.emit('vpor', ymm(into), ymm(into), ymm(SPARE));
  }

  shift(into: number, from: number, right: number): void {
    const counts = new Uint8Array(LANE_BYTES);
    counts[0] = Math.abs(right);
    this.#asm.emit(right > 0 ? 'vpsrlvq' : 'vpsllvq', ymm(into), ymm(from), this.#constant(counts));
  }

  picks = (bytes: 1 | 2 | 4, at: number): boolean => bytes < 4 || at % 4 === 0;

  pick(into: number, [low, high]: readonly [number, number], bytes: 1 | 2 | 4, at: number): void {
    const asm = this.#asm;
    if (bytes === 4) {
      asm.emit('vshufps', ymm(into), ymm(low), ymm(high), at === 0 ? 0x88 : 0xdd);
      asm.emit('vpermq', ymm(into), ymm(into), 0xd8);
      return;
    }
    // Each half brings two elements, which go where no other half brings any.
    const shuffle = (group: number) => {
      const value = new Uint8Array(2 * HALF_BYTES).fill(NOTHING);
      for (const half of [0, 1])
        for (let i = 0; i < 2 * bytes; i++)
          value[half * HALF_BYTES + (group * 4 + half * 2) * bytes + i] =
            Math.floor(i / bytes) * LANE_BYTES + inLane(at + (i % bytes));
      return this.#constant(value);
    };
    asm.emit('vpshufb', ymm(SPARE), ymm(high), shuffle(1));
    asm.emit('vpshufb', ymm(into), ymm(low), shuffle(0));
    asm.emit('vpor', ymm(into), ymm(into), ymm(SPARE));
    asm.emit('vextracti128', vector(SPARE, 128), ymm(into), 1);
    asm.emit('vpor', vector(into, 128), vector(into, 128), vector(SPARE, 128));
  }
}

const ymm = (number: number): Register => vector(number, 256);
const zmm = (number: number): Register => vector(number, 512);

const LINE_BYTES = 64;
const GROUP = 8;

export class Avx512Lanes implements Lanes {
  readonly bits = 512;
  readonly planes = 4;
  readonly registers = 32;
  readonly operations = { and: 'vpandq', or: 'vporq', xor: 'vpxorq' };
  readonly #asm: Assembler;
  readonly #records: Records;
  readonly #constant: Constants;
  /** Bytes of the records of a group from the first block's first byte to the last one's end, where these fit into two registers. */
  readonly #whole: number | undefined;

  /** @param end of the last byte of a record that planes take */
  constructor(asm: Assembler, records: Records, constant: Constants, end: number) {
    this.#asm = asm;
    this.#records = records;
    this.#constant = constant;
    const whole = (GROUP - 1) * records.stride + end;
    this.#whole = whole <= 2 * LINE_BYTES ? Math.max(whole, LINE_BYTES) : undefined;
  }

  /** Whether one block, at byte 0, has all bytes of the records. */
  get isWhole(): boolean {
    return this.#whole !== undefined;
  }

  reach(byte: number): number {
    const { stride } = this.#records;
    return this.#whole === undefined
      ? (2 * GROUP - 1) * stride + byte + BLOCK_BYTES
      : GROUP * stride + this.#whole;
  }

  load(registers: readonly number[], byte: number): void {
    const { base, stride } = this.#records;
    const asm = this.#asm;
    registers.forEach((number, i) => {
      if (this.#whole === undefined) {
        const place = (record: number) => memory(128, base, (i * 4 + record) * stride + byte);
        asm.emit('vmovdqu', vector(number, 128), place(0));
        asm.emit('vinserti128', ymm(number), ymm(number), place(1), 1);
        for (const record of [2, 3])
          asm.emit('vinserti32x4', zmm(number), zmm(number), place(record), record);
      } else if (i % 2 === 0 || this.#whole > LINE_BYTES) {
        const from = (i >> 1) * GROUP * stride + (i % 2) * (this.#whole - LINE_BYTES);
        asm.emit('vmovdqu64', zmm(number), memory(512, base, from));
      }
    });
  }

  plane(into: number, group: number, registers: readonly number[], byte: number, plane: Plane): void {
    const asm = this.#asm;
    const [low, high] = [registers[group * 2]!, registers[group * 2 + 1]!];
    const places = Array.from({ length: GROUP }, (_, record) =>
      bytesOf(plane).map((from) => this.#place(record, from, byte)),
    ).flat();
    if (places.every((place, i) => place === i)) {
      asm.emit('vmovdqa64', zmm(into), zmm(low));
      return;
    }
    asm.emit('vmovdqa64', zmm(into), this.#constant(Uint8Array.from(places)));
    if (places.some((place) => place >= LINE_BYTES)) asm.emit('vpermi2b', zmm(into), zmm(low), zmm(high));
    else asm.emit('vpermb', zmm(into), zmm(into), zmm(low));
  }

  /** Where in the two registers of a group a byte of a record is. */
  #place(record: number, from: number, byte: number): number {
    if (this.#whole === undefined) return record * BLOCK_BYTES + from - byte;
    const at = record * this.#records.stride + from;
    return at < LINE_BYTES ? at : at - (this.#whole - LINE_BYTES) + LINE_BYTES;
  }

  shift(into: number, from: number, right: number): void {
    this.#asm.emit(right > 0 ? 'vpsrlq' : 'vpsllq', zmm(into), zmm(from), Math.abs(right));
  }

  picks = (): boolean => true;

  pick(into: number, [low, high]: readonly [number, number], bytes: 1 | 2 | 4, at: number): void {
    const places = Array.from(
      { length: 2 * GROUP * bytes },
      (_, i) => Math.floor(i / bytes) * LANE_BYTES + inLane(at + (i % bytes)),
    );
    const index = new Uint8Array(LINE_BYTES);
    index.set(places);
    this.#asm.emit('vmovdqa64', zmm(into), this.#constant(index));
    this.#asm.emit('vpermi2b', zmm(into), zmm(low), zmm(high));
  }
}
