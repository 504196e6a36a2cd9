// Functions of an object to one program: the one asked for, then all that it calls, in the order they are met.
//
// A local call's distance in slots is in its imm; a call into another section, or of a global function, has a relocation:
//
//   against a section          imm = the function's first slot in it - 1
//   against the function       imm = -1 (clang), or its first byte in its section - 1 (the assembler of binutils 2.40)

import { decodeProgram } from '../bpf/encode.js';
import { row } from '../bpf/isa.js';
import { dataAddress, type Instruction, instruction, makeProgram, type Program } from '../bpf/program.js';
import { ElfError, ProgramError } from '../errors.js';
import { type DataParts, DataSections } from './data.js';
import { errorAt, type FunctionRange, type Place } from './functions.js';
import { type Section, viewOf } from './sections.js';
import {
  type ElfSymbol,
  RELOCATION,
  type Relocation,
  type Relocations,
  relocationError,
  SLOT_BYTES,
  SYMBOL_TYPE,
} from './symbols.js';

/** What an object is linked from. */
export interface Parts {
  readonly sections: readonly Section[];
  /** By `placeOf`. */
  readonly functions: ReadonlyMap<string, FunctionRange>;
  readonly relocations: ReadonlyMap<number, Relocations>;
  readonly data: DataParts;
}

/** Symbols at one place are one function. */
export const placeOf = (sectionIndex: number, start: number): string => `${sectionIndex}:${start}`;

/** A function by itself: local calls lead to its own start, addresses of data are 0, and the maps say what they should be. */
interface Piece {
  readonly range: FunctionRange;
  readonly program: Program;
  /** The function that each call is for, by the index of the call. */
  readonly calls: ReadonlyMap<number, FunctionRange>;
  /** By the index of the LD_IMM64. */
  readonly addresses: ReadonlyMap<number, { readonly section: number; readonly offset: number }>;
}

/**
 * @throws ElfError 'E-RELOC', 'E-CALL', 'E-DATA', 'E-LIMIT', 'E-EXTERN' or 'E-FALL-OFF', ProgramError as `decodeProgram`; both
 *   name the function, and the slot in it
 */
export function link(entry: FunctionRange, parts: Parts): Program {
  const placed = new Map<string, number>();
  const pieces: Piece[] = [];
  const data = new DataSections(parts.data);
  let slots = 0;
  // Grows while it is gone through: what is called comes behind who calls.
  const needed = new Map([[keyOf(entry), entry]]);
  for (const [key, range] of needed) {
    const piece = readPiece(range, parts, data);
    placed.set(key, slots);
    pieces.push(piece);
    slots += piece.program.slots;
    for (const called of new Set(piece.calls.values())) {
      if (!needed.has(keyOf(called))) needed.set(keyOf(called), called);
    }
  }
  const instructions = pieces.flatMap((piece) => placePiece(piece, placed));
  return makeProgram(instructions, data.specs());
}

const keyOf = ({ sectionIndex, start }: FunctionRange): string => placeOf(sectionIndex, start);

function placePiece(
  { range, program, calls, addresses }: Piece,
  placed: ReadonlyMap<string, number>,
): Instruction[] {
  const base = placed.get(keyOf(range))!;
  return program.instructions.map((old, index) => {
    const address = addresses.get(index);
    if (address) return dataAddress(old.dst, address.section, address.offset);
    const target = calls.get(index);
    if (!target) return old;
    return instruction(old.row, { imm: placed.get(keyOf(target))! - (base + program.slotOf(index)) - 1 });
  });
}

const LOCAL_CALL = row('call.local');
const LDDW = row('lddw');

function readPiece(range: FunctionRange, parts: Parts, data: DataSections): Piece {
  const section = parts.sections[range.sectionIndex]!;
  const relocations = parts.relocations.get(section.index);
  const code = section.bytes.slice(range.start, range.end);
  const view = viewOf(code);
  const calls = new Map<number, FunctionRange>();
  const addresses: Map<number, { section: number; offset: number }> = new Map();
  for (let at = 0, index = 0; at < code.length; index++) {
    const place = { range, at, section };
    const relocation = relocations?.get(range.start + at);
    if (isLocalCall(view, at)) {
      calls.set(index, calledFunction(view.getInt32(at + 4, true), relocation, place, parts));
      view.setInt32(at + 4, -1 - at / SLOT_BYTES, true);
    } else if (relocation) {
      if (!takesAddress(view, at, relocation)) throw refuseRelocation(relocation, place);
      addresses.set(index, data.addressOf(relocation, view, place));
      view.setInt32(at + 4, 0, true);
      view.setInt32(at + SLOT_BYTES + 4, 0, true);
    }
    const wide = view.getUint8(at) === LDDW.opcode;
    const inside = wide ? relocations?.get(range.start + at + SLOT_BYTES) : undefined;
    if (inside) throw relocationError(section, inside, 'is inside of an LD_IMM64');
    at += wide ? 2 * SLOT_BYTES : SLOT_BYTES;
  }
  return { range, program: decode(code, range), calls, addresses };
}

const takesAddress = (view: DataView, at: number, { type }: Relocation): boolean =>
  type === RELOCATION.address64 &&
  view.getUint8(at) === LDDW.opcode &&
  at + 2 * SLOT_BYTES <= view.byteLength;

const isLocalCall = (view: DataView, at: number): boolean =>
  view.getUint8(at) === LOCAL_CALL.opcode && view.getUint8(at + 1) >> 4 === LOCAL_CALL.src;

function calledFunction(
  imm: number,
  relocation: Relocation | undefined,
  place: Place,
  { functions }: Parts,
): FunctionRange {
  const { range, at } = place;
  if (!relocation) {
    const start = range.start + at + SLOT_BYTES * (imm + 1);
    const found = functions.get(placeOf(range.sectionIndex, start));
    if (found) return found;
    throw errorAt(
      place,
      'E-CALL',
      `no function begins at byte ${start} of section ${range.section}, which it calls`,
    );
  }
  const { symbol, addend } = relocation;
  if (relocation.type !== RELOCATION.call32) throw refuseRelocation(relocation, place);
  if (!symbol.section) {
    const message = `it calls ${symbol.name}, which is not in this object; link the objects first`;
    throw errorAt(place, 'E-EXTERN', message);
  }
  const start = calledStart(symbol, Number(addend ?? imm));
  const found = functions.get(placeOf(symbol.section.index, start));
  if (found) return found;
  throw errorAt(
    place,
    'E-CALL',
    `no function begins at byte ${start} of section ${symbol.section.name}, which it calls`,
  );
}

/** Byte offset in the symbol's section; see above. */
function calledStart({ type, value }: ElfSymbol, addend: number): number {
  const ofFunction = type !== SYMBOL_TYPE.section && addend === value - 1;
  return ofFunction ? value : value + SLOT_BYTES * (addend + 1);
}

function refuseRelocation(relocation: Relocation, place: Place): ElfError {
  const { type } = relocation;
  const known = type === RELOCATION.address64 || type === RELOCATION.call32;
  const message = known
    ? `is of type ${type}, and there is no ${type === RELOCATION.call32 ? 'local call' : 'LD_IMM64'}`
    : `is of type ${type}, and BPF code has only ${RELOCATION.address64} and ${RELOCATION.call32}`;
  return relocationError(place.section, relocation, message);
}

/** The function as a program, which nothing but local calls leaves. */
function decode(code: Uint8Array, range: FunctionRange): Program {
  const program = named(range, () => decodeProgram(code));
  const last = program.instructions.at(-1)!.row;
  if (last.kind === 'exit' || last.kind === 'goto') return program;
  const insn = program.slotOf(program.instructions.length - 1);
  const message = `function ${range.name} runs off its end after instruction ${insn} (${last.name})`;
  throw new ElfError('E-FALL-OFF', message, { insn });
}

function named<T>(range: FunctionRange, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof ProgramError)) throw error;
    const message = `function ${range.name} of section ${range.section}: ${error.message}`;
    throw new ProgramError(error.code, message, error.where, { cause: error });
  }
}
