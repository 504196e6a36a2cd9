// Blocks of a zstd frame (RFC 8878 section 3.1.1.2): literals, and sequences that mix them with what came before.

import {
  BackwardBits,
  type FseTable,
  fseTable,
  type HuffmanTable,
  littleEndian,
  readFseTable,
  readHuffmanStream,
  readHuffmanTable,
  singleSymbol,
  ZstdFault,
} from './entropy.js';

export const MAX_BLOCK_BYTES = 128 * 1024;

/** Returns the next `length` bytes, all of them. */
export type Source = (length: number) => Uint8Array;

/** The end of what was unpacked, as far back as a match may reach. */
export class Window {
  /** Bytes of the frame unpacked so far. */
  total = 0;
  readonly blockLimit: number;
  // Grows to twice the reach, so that each byte is moved once at most; but only as there are bytes to hold.
  #bytes = new Uint8Array(0);
  #start = 0;
  #end = 0;

  constructor(private readonly reach: number) {
    this.blockLimit = Math.min(reach, MAX_BLOCK_BYTES);
  }

  startBlock(): void {
    if (this.#end + this.blockLimit > this.#bytes.length) this.#makeRoom();
    this.#start = this.#end;
  }

  #makeRoom(): void {
    const most = 2 * this.reach + this.blockLimit;
    const kept = this.#bytes.subarray(Math.max(0, this.#end - this.reach), this.#end);
    const grown = Math.min(most, 2 * this.#bytes.length + this.blockLimit);
    const bytes = grown > this.#bytes.length ? new Uint8Array(grown) : this.#bytes;
    bytes.set(kept);
    this.#bytes = bytes;
    this.#end = kept.length;
  }

  /** The bytes since `startBlock`. */
  block(): Uint8Array {
    return this.#bytes.subarray(this.#start, this.#end);
  }

  append(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#end - bytes.length);
  }

  fill(byte: number, length: number): void {
    this.#reserve(length);
    this.#bytes.fill(byte, this.#end - length, this.#end);
  }

  /** Repeats `length` bytes from `distance` bytes back, which may be bytes that this very call writes. */
  repeat(distance: number, length: number): void {
    if (distance > Math.min(this.total, this.reach)) throw new ZstdFault('a match reaches too far back');
    this.#reserve(length);
    const bytes = this.#bytes;
    const from = this.#end - length;
    if (distance >= length) bytes.copyWithin(from, from - distance, from - distance + length);
    else for (let i = from; i < this.#end; i++) bytes[i] = bytes[i - distance]!;
  }

  #reserve(length: number): void {
    if (this.#end + length - this.#start > this.blockLimit) throw new ZstdFault('a block is too large');
    this.#end += length;
    this.total += length;
  }
}

type SequenceTables = readonly [FseTable, FseTable, FseTable];

/** Unpacks the blocks of one frame: tables and recent distances live on from block to block. */
export class BlockDecoder {
  #huffman: HuffmanTable | undefined;
  #tables: readonly (FseTable | undefined)[] = [undefined, undefined, undefined];
  readonly #recent: [number, number, number] = [1, 4, 8];

  constructor(private readonly output: Window) {}

  block(type: number, size: number, input: Source): void {
    if (type !== 1 && size > this.output.blockLimit) throw new ZstdFault('a block is too large');
    if (type === 0) this.output.append(input(size));
    else if (type === 1) this.output.fill(input(1)[0]!, size);
    else if (type === 2) this.#compressed(input(size));
    else throw new ZstdFault('a block is of a reserved type');
  }

  #compressed(bytes: Uint8Array): void {
    const { literals, length } = this.#literals(bytes);
    const sequences = sequencesHeader(bytes.subarray(length));
    const body = bytes.subarray(length + sequences.length);
    if (sequences.count === 0) {
      if (body.length > 0) throw new ZstdFault('a block has bytes left over');
      this.output.append(literals);
    } else {
      this.#sequences(body, sequences.count, sequences.modes, literals);
    }
  }

  /** Section 3.1.1.3.1. */
  #literals(bytes: Uint8Array): { literals: Uint8Array; length: number } {
    const type = bytes[0]! & 3;
    const shape = (bytes[0]! >> 2) & 3;
    if (type < 2) {
      const headerBytes = [1, 2, 1, 3][shape]!;
      const size = littleEndian(need(bytes, 0, headerBytes)) >> (headerBytes === 1 ? 3 : 4);
      if (size > this.output.blockLimit) throw new ZstdFault('the literals are too large');
      if (type === 0) return { literals: need(bytes, headerBytes, size), length: headerBytes + size };
      return {
        literals: new Uint8Array(size).fill(need(bytes, headerBytes, 1)[0]!),
        length: headerBytes + 1,
      };
    }
    const headerBytes = [3, 3, 4, 5][shape]!;
    const sizeBits = [10, 10, 14, 18][shape]!;
    const header = littleEndian(need(bytes, 0, headerBytes));
    const size = Math.floor(header / 16) % 2 ** sizeBits;
    const packedSize = Math.floor(header / 2 ** (4 + sizeBits));
    if (size > this.output.blockLimit) throw new ZstdFault('the literals are too large');
    let packed = need(bytes, headerBytes, packedSize);
    if (type === 2) {
      const { table, length } = readHuffmanTable(packed);
      this.#huffman = table;
      packed = packed.subarray(length);
    }
    if (!this.#huffman) throw new ZstdFault('there is no Huffman table to use again');
    const literals = new Uint8Array(size);
    if (shape === 0) readHuffmanStream(packed, this.#huffman, literals);
    else readFourStreams(packed, this.#huffman, literals);
    return { literals, length: headerBytes + packedSize };
  }

  /** Section 3.1.1.3.2: each sequence is literals to copy, then a match to repeat. */
  #sequences(bytes: Uint8Array, count: number, modes: number, literals: Uint8Array): void {
    const { tables, length } = this.#sequenceTables(bytes, modes);
    const [literalTable, distanceTable, matchTable] = tables;
    const input = new BackwardBits(bytes.subarray(length));
    let literalState = input.read(literalTable.log);
    let distanceState = input.read(distanceTable.log);
    let matchState = input.read(matchTable.log);
    let used = 0;
    for (let i = 0; i < count; i++) {
      const distanceCode = distanceTable.symbols[distanceState]!;
      const distanceValue = 2 ** distanceCode + input.read(distanceCode);
      const matchCode = matchTable.symbols[matchState]!;
      const matchLength = MATCH_BASE[matchCode]! + input.read(MATCH_BITS[matchCode]!);
      const literalCode = literalTable.symbols[literalState]!;
      const literalLength = LITERAL_BASE[literalCode]! + input.read(LITERAL_BITS[literalCode]!);
      if (i < count - 1) {
        literalState = literalTable.base[literalState]! + input.read(literalTable.bits[literalState]!);
        matchState = matchTable.base[matchState]! + input.read(matchTable.bits[matchState]!);
        distanceState = distanceTable.base[distanceState]! + input.read(distanceTable.bits[distanceState]!);
      }
      if (input.left < 0) throw new ZstdFault('the sequences are cut off');
      this.output.append(need(literals, used, literalLength));
      used += literalLength;
      this.output.repeat(this.#distance(distanceValue, literalLength === 0), matchLength);
    }
    if (input.left !== 0) throw new ZstdFault('the sequences have bits left over');
    this.output.append(literals.subarray(used));
  }

  /** Section 3.1.1.5: values 1 to 3 stand for recent distances, one further along when there are no literals. */
  #distance(value: number, noLiterals: boolean): number {
    const recent = this.#recent;
    const index = value > 3 ? 3 : value - 1 + (noLiterals ? 1 : 0);
    if (index === 0) return recent[0];
    const distance = value > 3 ? value - 3 : index === 3 ? recent[0] - 1 : recent[index]!;
    if (distance === 0) throw new ZstdFault('a match has distance 0');
    if (index > 1) recent[2] = recent[1];
    recent[1] = recent[0];
    recent[0] = distance;
    return distance;
  }

  #sequenceTables(bytes: Uint8Array, modes: number): { tables: SequenceTables; length: number } {
    let length = 0;
    const tables = SEQUENCE_CODES.map(({ standard, maxLog, maxSymbol }, i) => {
      const mode = (modes >> (6 - 2 * i)) & 3;
      if (mode === 0) return standard;
      if (mode === 1) {
        const symbol = need(bytes, length++, 1)[0]!;
        if (symbol > maxSymbol) throw new ZstdFault('an unknown sequence code');
        return singleSymbol(symbol);
      }
      if (mode === 2) {
        const read = readFseTable(bytes.subarray(length), maxLog, maxSymbol);
        length += read.length;
        return read.table;
      }
      const previous = this.#tables[i];
      if (!previous) throw new ZstdFault('there is no sequence table to use again');
      return previous;
    });
    this.#tables = tables;
    return { tables: tables as unknown as SequenceTables, length };
  }
}

function readFourStreams(bytes: Uint8Array, table: HuffmanTable, out: Uint8Array): void {
  need(bytes, 0, 6);
  const quarter = (out.length + 3) >> 2;
  if (3 * quarter > out.length) throw new ZstdFault('too few literals for four streams');
  let at = 6;
  for (let stream = 0; stream < 4; stream++) {
    const length = stream < 3 ? bytes[2 * stream]! | (bytes[2 * stream + 1]! << 8) : bytes.length - at;
    readHuffmanStream(
      need(bytes, at, length),
      table,
      out.subarray(quarter * stream, stream < 3 ? quarter * (stream + 1) : undefined),
    );
    at += length;
  }
}

function sequencesHeader(bytes: Uint8Array): { count: number; modes: number; length: number } {
  const first = need(bytes, 0, 1)[0]!;
  if (first === 0) return { count: 0, modes: 0, length: 1 };
  const length = first < 128 ? 2 : first < 255 ? 3 : 4;
  const header = need(bytes, 0, length);
  const modes = header[length - 1]!;
  if (modes & 3) throw new ZstdFault('reserved bits of the sequence modes are set');
  if (first < 128) return { count: first, modes, length };
  if (first < 255) return { count: ((first - 128) << 8) + header[1]!, modes, length };
  return { count: header[1]! + (header[2]! << 8) + 0x7f00, modes, length };
}

function need(bytes: Uint8Array, at: number, length: number): Uint8Array {
  if (at + length > bytes.length) throw new ZstdFault('a block is cut off');
  return bytes.subarray(at, at + length);
}

const upTo16 = (from: number): number[] => Array.from({ length: 17 - from }, (_, i) => from + i);
const zeros = (count: number): number[] => new Array<number>(count).fill(0);
const repeated = (value: number, count: number): number[] => new Array<number>(count).fill(value);

/** Extra bits of each code; a code starts where the one before it ends (section 3.1.1.3.2.1.1). */
const LITERAL_BITS = [...zeros(16), 1, 1, 1, 1, 2, 2, 3, 3, 4, ...upTo16(6)];
const MATCH_BITS = [...zeros(32), 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, ...upTo16(7)];
const LITERAL_BASE = bases(LITERAL_BITS, 0);
const MATCH_BASE = bases(MATCH_BITS, 3);

function bases(bits: readonly number[], first: number): number[] {
  let next = first;
  return bits.map((count) => (next += 2 ** count) - 2 ** count);
}

/** Literal lengths, distances, match lengths, with their standard tables (section 3.1.1.3.2.2). */
const SEQUENCE_CODES = [
  {
    standard: fseTable(
      [4, 3, ...repeated(2, 11), 1, 1, 1, ...repeated(2, 9), 3, 2, ...repeated(1, 5), ...repeated(-1, 4)],
      6,
    ),
    maxLog: 9,
    maxSymbol: 35,
  },
  {
    standard: fseTable([...repeated(1, 6), 2, 2, 2, ...repeated(1, 15), ...repeated(-1, 5)], 5),
    maxLog: 8,
    maxSymbol: 31,
  },
  {
    standard: fseTable([1, 4, 3, ...repeated(2, 6), ...repeated(1, 37), ...repeated(-1, 7)], 6),
    maxLog: 9,
    maxSymbol: 52,
  },
];
