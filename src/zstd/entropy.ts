// The two entropy codes of zstd (RFC 8878 section 4): finite-state entropy and Huffman, both read backwards.
// Everything here throws ZstdFault on input that no encoder makes.

/** What is wrong with a zstd stream; who reads the stream knows the place. */
export class ZstdFault extends Error {}

/** The value of up to 8 bytes; above 2^53 no longer exact. */
export function littleEndian(bytes: Uint8Array): number {
  return bytes.reduceRight((value, byte) => value * 256 + byte, 0);
}

/** Bits read from the last byte to the first; the highest set bit of the last byte marks where they start. */
export class BackwardBits {
  /** Bits not yet read; negative once more were asked for than there are. */
  left: number;

  constructor(private readonly bytes: Uint8Array) {
    const last = bytes[bytes.length - 1];
    if (!last) throw new ZstdFault('a bit stream has no end mark');
    this.left = (bytes.length - 1) * 8 + floorLog2(last);
  }

  /** 0 to 31 bits, the first read being the highest. Bits before the start are 0. */
  read(count: number): number {
    if (count > 16) return this.read(count - 16) * 65536 + this.read(16);
    this.left -= count;
    return this.#at(this.left, count);
  }

  /** Up to 16 bits from here on, without reading them. */
  peek(count: number): number {
    return this.#at(this.left - count, count);
  }

  #at(position: number, count: number): number {
    const byte = position >> 3;
    const { bytes } = this;
    const word = (bytes[byte] ?? 0) | ((bytes[byte + 1] ?? 0) << 8) | ((bytes[byte + 2] ?? 0) << 16);
    return (word >> (position & 7)) & ((1 << count) - 1);
  }
}

/** A decoding table: state → symbol, bits to read, and what to add to them for the next state. */
export interface FseTable {
  readonly log: number;
  readonly symbols: Uint8Array;
  readonly bits: Uint8Array;
  readonly base: Uint16Array;
}

/** The table whose only symbol is `symbol`. */
export function singleSymbol(symbol: number): FseTable {
  return { log: 0, symbols: Uint8Array.of(symbol), bits: Uint8Array.of(0), base: Uint16Array.of(0) };
}

/** Section 4.1.1: spreads the symbols over the states. A count of -1 is a probability below one state. */
export function fseTable(counts: readonly number[], log: number): FseTable {
  const size = 1 << log;
  const symbols = new Uint8Array(size);
  const next = counts.map((count) => Math.abs(count));
  let high = size;
  counts.forEach((count, symbol) => {
    if (count === -1) symbols[--high] = symbol;
  });
  const step = (size >> 1) + (size >> 3) + 3;
  let position = 0;
  counts.forEach((count, symbol) => {
    for (let i = 0; i < count; i++) {
      symbols[position] = symbol;
      do position = (position + step) & (size - 1);
      while (position >= high);
    }
  });
  const bits = new Uint8Array(size);
  const base = new Uint16Array(size);
  for (let state = 0; state < size; state++) {
    const value = next[symbols[state]!]!++;
    bits[state] = log - floorLog2(value);
    base[state] = (value << bits[state]!) - size;
  }
  return { log, symbols, bits, base };
}

/** Reads a table description (section 4.1.1) from the start of `bytes`. */
export function readFseTable(
  bytes: Uint8Array,
  maxLog: number,
  maxSymbol: number,
): { table: FseTable; length: number } {
  const log = (bytes[0]! & 15) + 5;
  if (!(log <= maxLog)) throw new ZstdFault('an FSE table is too large');
  const counts: number[] = [];
  let at = 4;
  const peek = (count: number) => {
    const byte = at >> 3;
    const word = (bytes[byte] ?? 0) | ((bytes[byte + 1] ?? 0) << 8) | ((bytes[byte + 2] ?? 0) << 16);
    return (word >> (at & 7)) & ((1 << count) - 1);
  };
  let remaining = 1 << log;
  while (remaining > 0) {
    // Values are 0 … remaining + 1; the low ones of those that fit one bit less take one bit less.
    const width = floorLog2(remaining + 1) + 1;
    const spare = (1 << width) - 1 - (remaining + 1);
    let value = peek(width - 1);
    if (value < spare) at += width - 1;
    else {
      value = peek(width);
      at += width;
      if (value >= 1 << (width - 1)) value -= spare;
    }
    const count = value - 1;
    counts.push(count);
    remaining -= Math.abs(count);
    if (count === 0) {
      let zeros: number;
      do {
        zeros = peek(2);
        at += 2;
        for (let i = 0; i < zeros; i++) counts.push(0);
      } while (zeros === 3 && counts.length <= maxSymbol);
    }
    if (counts.length > maxSymbol + 1) throw new ZstdFault('an FSE table has too many symbols');
  }
  const length = (at + 7) >> 3;
  if (remaining < 0 || length > bytes.length) throw new ZstdFault('an FSE table does not add up');
  return { table: fseTable(counts, log), length };
}

/** A Huffman code: the next `log` bits → symbol, and how many of the bits it takes. */
export interface HuffmanTable {
  readonly log: number;
  readonly symbols: Uint8Array;
  readonly bits: Uint8Array;
}

const MAX_HUFFMAN_BITS = 11;
const MAX_WEIGHT_LOG = 6;

/** Reads a Huffman tree description (section 4.2.1) from the start of `bytes`. */
export function readHuffmanTable(bytes: Uint8Array): { table: HuffmanTable; length: number } {
  const header = bytes[0]!;
  const length = 1 + (header < 128 ? header : (header - 126) >> 1);
  if (!(length <= bytes.length)) throw new ZstdFault('a Huffman table is cut off');
  const description = bytes.subarray(1, length);
  const weights = header < 128 ? compressedWeights(description) : plainWeights(description, header - 127);
  return { table: huffmanTable(weights), length };
}

function plainWeights(bytes: Uint8Array, count: number): number[] {
  return Array.from({ length: count }, (_, i) => (i % 2 === 0 ? bytes[i >> 1]! >> 4 : bytes[i >> 1]! & 15));
}

/** Two states take turns; the first one that finds too few bits ends it, and the other gives the last weight. */
function compressedWeights(bytes: Uint8Array): number[] {
  const { table, length } = readFseTable(bytes, MAX_WEIGHT_LOG, MAX_HUFFMAN_BITS + 1);
  const input = new BackwardBits(bytes.subarray(length));
  const states = [input.read(table.log), input.read(table.log)];
  const weights: number[] = [];
  for (let turn = 0; ; turn ^= 1) {
    const state = states[turn]!;
    weights.push(table.symbols[state]!);
    if (table.bits[state]! > input.left) {
      weights.push(table.symbols[states[turn ^ 1]!]!);
      break;
    }
    // A table of one symbol takes no bits and would go on for ever.
    if (weights.length > 254) throw new ZstdFault('a Huffman table has too many weights');
    states[turn] = table.base[state]! + input.read(table.bits[state]!);
  }
  if (input.left < 0) throw new ZstdFault('a Huffman table is cut off');
  return weights;
}

/** The last weight is not stored: it makes the sum of 2^(weight-1) a power of two. */
function huffmanTable(stored: number[]): HuffmanTable {
  const sum = stored.reduce((total, weight) => total + ((1 << weight) >> 1), 0);
  const log = floorLog2(sum) + 1;
  const left = (1 << log) - sum;
  if (sum === 0 || log > MAX_HUFFMAN_BITS || (left & (left - 1)) !== 0) {
    throw new ZstdFault('a Huffman table does not add up');
  }
  const weights = [...stored, floorLog2(left) + 1];
  const symbols = new Uint8Array(1 << log);
  const bits = new Uint8Array(1 << log);
  let at = 0;
  for (let weight = 1; weight <= log; weight++) {
    weights.forEach((of, symbol) => {
      if (of !== weight) return;
      const end = at + (1 << (weight - 1));
      symbols.fill(symbol, at, end);
      bits.fill(log + 1 - weight, at, end);
      at = end;
    });
  }
  return { log, symbols, bits };
}

/** Fills `out` with the symbols of one stream, which must hold exactly that many. */
export function readHuffmanStream(bytes: Uint8Array, table: HuffmanTable, out: Uint8Array): void {
  const input = new BackwardBits(bytes);
  for (let i = 0; i < out.length; i++) {
    const code = input.peek(table.log);
    out[i] = table.symbols[code]!;
    input.left -= table.bits[code]!;
    if (input.left < 0) throw new ZstdFault('a Huffman stream is cut off');
  }
  if (input.left !== 0) throw new ZstdFault('a Huffman stream has bits left over');
}

const floorLog2 = (value: number): number => 31 - Math.clz32(value);
