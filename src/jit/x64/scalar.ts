// Lifted programs to x86-64 in general registers: a leaf without a frame that changes only registers which are the
// callee's. What is stored comes a word at a time; constants come last, zeros out of the register that returns 0.

import { bigintOf, isZero, signedImmediate } from '../../halves.js';
import type { Lifted, Slice } from '../lift.js';
import { Assembler, type Assembly } from './assemble.js';
import { fetch, type Run, type Source } from './fetch.js';
import { type Bits, memory, R8, R9, R10, R11, RAX, RCX, RDI, RDX, RSI, register } from './operands.js';
import { maskOf, type Word, wordsOf } from './words.js';

const ARGUMENTS = [RDI, RSI, RDX, RCX, R8];
const VOLATILE = [RAX, RCX, RDX, RSI, RDI, R8, R9, R10, R11];

/** Code for `u64 f(u64 r1, …, u64 r5)`, the same loads and stores' effect in fewer instructions. */
export function assembleScalar(lifted: Lifted): Assembly {
  const { input, output, r0 } = lifted;
  const asm = new Assembler();
  const source = { base: ARGUMENTS[input.index]!, bytes: input.bytes };
  const target = ARGUMENTS[output.index]!;
  const free = VOLATILE.filter((number) => number !== source.base && number !== target);
  const words = wordsOf(lifted);
  const constants: Word[] = [];
  for (const word of words) {
    if (word.slices.length === 0) {
      constants.push(word);
      continue;
    }
    make(asm, source, word, free);
    const bits = (word.size * 8) as Bits;
    asm.emit('mov', memory(bits, target, word.byte), register(RAX, bits));
  }
  for (const word of constants) if (!isZero(word.plus) || r0 !== 0n) storeConstant(asm, target, word);
  asm.loadImmediate(RAX, r0);
  if (r0 === 0n) {
    for (const { byte, size, plus } of constants) {
      const bits = (size * 8) as Bits;
      if (isZero(plus)) asm.emit('mov', memory(bits, target, byte), register(RAX, bits));
    }
  }
  asm.emit('ret');
  return asm.finish();
}

/** Puts the value of a word into `registers[0]`; what lies above it may be anything. */
function make(asm: Assembler, source: Source, word: Word, registers: readonly number[]): void {
  const value = registers[0]!;
  const wide = word.narrow ? 32 : 64;
  const runs = runsOf(word, source.bytes);
  fetch(asm, source, runs[0]!, wide, registers);
  if (runs.length > 1) {
    const others = registers.slice(1);
    for (let i = 1; i < runs.length; i++) {
      fetch(asm, source, runs[i]!, wide, others);
      asm.emit('or', register(value, wide), register(others[0]!, wide));
    }
  }
  addConstant(asm, word, wide, registers);
  if (word.low !== 0) asm.emit('add', register(value, 8), word.low);
}

function addConstant(
  asm: Assembler,
  { plus, size }: Word,
  wide: 32 | 64,
  registers: readonly number[],
): void {
  const value = register(registers[0]!, wide);
  if (isZero(plus)) return;
  // What lies above the word is not stored, so of two numbers that differ only there the nearer to 0 will do.
  const above = Math.max(0, 32 - size * 8);
  const immediate = wide === 32 ? (plus.low << above) >> above : signedImmediate(plus);
  if (immediate !== undefined) {
    asm.emit('add', value, immediate);
  } else {
    asm.loadImmediate(registers[1]!, bigintOf(plus));
    asm.emit('add', value, register(registers[1]!, wide));
  }
}

/** Stores a constant that an immediate can carry. */
function storeConstant(asm: Assembler, target: number, { byte, size, plus }: Word): void {
  asm.emit('mov', memory((size * 8) as Bits, target, byte), plus.low);
}

/** A bit's number when the input is read as one big-endian number. */
const bigEndianBit = (bit: number, bytes: number): number =>
  (bytes - 1 - Math.floor(bit / 8)) * 8 + (bit % 8);

const isInByte = ({ from, bits }: Slice): boolean => (from % 8) + bits <= 8;

/** The slices of a word as runs: those that move over one distance, in either byte order, are fetched together. */
function runsOf({ slices, signed, size }: Word, bytes: number): Run[] {
  const distance = slices[0]!.to - slices[0]!.from;
  if (slices.length === 1 || slices.every(({ from, to }) => to - from === distance))
    return runsAt(slices, false, signed, size);
  const turned = (slice: Slice): Slice => ({ ...slice, from: bigEndianBit(slice.from, bytes) });
  const groups = new Map<string, Slice[]>();
  const add = (key: string, slice: Slice) => groups.set(key, [...(groups.get(key) ?? []), slice]);
  for (const slice of slices) {
    add(`little ${slice.to - slice.from}`, slice);
    if (isInByte(slice)) add(`big ${slice.to - turned(slice).from}`, slice);
  }
  const left = new Set(slices);
  return [...groups]
    .sort(([, a], [, b]) => b.length - a.length)
    .flatMap(([key, group]) => {
      const members = group.filter((slice) => left.delete(slice));
      const bigEndian = key.startsWith('big');
      const isTop = signed && members.includes(slices.at(-1)!);
      return runsAt(bigEndian ? members.map(turned) : members, bigEndian, isTop, size);
    });
}

/** Slices over one distance, lowest first, as one run; as two, if the topmost is signed and others are apart from it. */
function runsAt(slices: readonly Slice[], bigEndian: boolean, signed: boolean, size: number): Run[] {
  const [first, last] = [slices[0], slices[slices.length - 1]];
  if (!first || !last) return [];
  const bits = last.to + last.bits - first.to;
  const isWhole = slices.length === 1 || slices.reduce((sum, slice) => sum + slice.bits, 0) === bits;
  if (signed && !isWhole)
    return [...runsAt(slices.slice(0, -1), bigEndian, false, size), ...runsAt([last], bigEndian, true, size)];
  const { from, to } = first;
  const mask = isWhole ? undefined : maskOf(slices);
  return [{ bigEndian, from, bits, to, signed, dirty: to + bits === size * 8, mask }];
}
