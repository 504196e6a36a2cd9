// Functions of an object to one program: the one asked for, then all that it calls, in the order they are met.
//
// A local call's distance in slots is in its imm; a call into another section, or of a global function, has a relocation:
//
//   against a section          imm = the function's first slot in it - 1
//   against the function       imm = -1 (clang), or its first byte in its section - 1 (the assembler of binutils 2.40)

import { decodeProgram } from '../bpf/encode.js';
import { row } from '../bpf/isa.js';
import { type Instruction, instruction, makeProgram, type Program } from '../bpf/program.js';
import { ElfError, ProgramError } from '../errors.js';
import { type FunctionRange, SLOT_BYTES } from './functions.js';
import { type Section, viewOf } from './sections.js';
import {
  type ElfSymbol,
  type Relocation,
  type Relocations,
  relocationError,
  SYMBOL_TYPE,
} from './symbols.js';

/** Relocation types of BPF objects; the others are for data and debug information. */
export const RELOCATION = { address64: 1, call32: 10 } as const;

/** What an object is linked from. */
export interface Parts {
  readonly sections: readonly Section[];
  /** By `placeOf`. */
  readonly functions: ReadonlyMap<string, FunctionRange>;
  readonly relocations: ReadonlyMap<number, Relocations>;
}

/** Symbols at one place are one function. */
export const placeOf = (sectionIndex: number, start: number): string => `${sectionIndex}:${start}`;

/** A function by itself: local calls lead to its own start, and `calls` says where they should. */
interface Piece {
  readonly range: FunctionRange;
  readonly program: Program;
  /** The function that each call is for, by the index of the call. */
  readonly calls: ReadonlyMap<number, FunctionRange>;
}

/**
 * @throws ElfError 'E-RELOC', 'E-CALL', 'E-DATA', 'E-EXTERN' or 'E-FALL-OFF', ProgramError as `decodeProgram`; both name the
 *   function, and the slot in it
 */
export function link(entry: FunctionRange, parts: Parts): Program {
  const placed = new Map<string, number>();
  const pieces: Piece[] = [];
  let slots = 0;
  // Grows while it is gone through: what is called comes behind who calls.
  const needed = new Map([[keyOf(entry), entry]]);
  for (const [key, range] of needed) {
    const piece = readPiece(range, parts);
    placed.set(key, slots);
    pieces.push(piece);
    slots += piece.program.slots;
    for (const called of new Set(piece.calls.values())) {
      if (!needed.has(keyOf(called))) needed.set(keyOf(called), called);
    }
  }
  return makeProgram(pieces.flatMap((piece) => placeCalls(piece, placed)));
}

const keyOf = ({ sectionIndex, start }: FunctionRange): string => placeOf(sectionIndex, start);

function placeCalls({ range, program, calls }: Piece, placed: ReadonlyMap<string, number>): Instruction[] {
  const base = placed.get(keyOf(range))!;
  return program.instructions.map((old, index) => {
    const target = calls.get(index);
    if (!target) return old;
    return instruction(old.row, { imm: placed.get(keyOf(target))! - (base + program.slotOf(index)) - 1 });
  });
}

const LOCAL_CALL = row('call.local');
const LDDW = row('lddw');

function readPiece(range: FunctionRange, parts: Parts): Piece {
  const section = parts.sections[range.sectionIndex]!;
  const relocations = parts.relocations.get(section.index);
  const code = section.bytes.slice(range.start, range.end);
  const view = viewOf(code);
  const calls = new Map<number, FunctionRange>();
  for (let at = 0, index = 0; at < code.length; index++) {
    const place = { range, at, section };
    const relocation = relocations?.get(range.start + at);
    if (isLocalCall(view, at)) {
      calls.set(index, calledFunction(view.getInt32(at + 4, true), relocation, place, parts));
      view.setInt32(at + 4, -1 - at / SLOT_BYTES, true);
    } else if (relocation) throw refuseRelocation(relocation, place);
    const wide = view.getUint8(at) === LDDW.opcode;
    const inside = wide ? relocations?.get(range.start + at + SLOT_BYTES) : undefined;
    if (inside) throw relocationError(section, inside, 'is inside of an LD_IMM64');
    at += wide ? 2 * SLOT_BYTES : SLOT_BYTES;
  }
  return { range, program: decode(code, range), calls };
}

const isLocalCall = (view: DataView, at: number): boolean =>
  view.getUint8(at) === LOCAL_CALL.opcode && view.getUint8(at + 1) >> 4 === LOCAL_CALL.src;

/** An instruction of a function, for errors. */
interface Place {
  readonly range: FunctionRange;
  readonly section: Section;
  /** Byte offset in the function. */
  readonly at: number;
}

function errorAt({ range, section, at }: Place, code: string, message: string): ElfError {
  const insn = at / SLOT_BYTES;
  const byte = section.offset + range.start + at;
  return new ElfError(code, `function ${range.name}, instruction ${insn}: ${message}`, { insn, byte });
}

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
  const { symbol, type } = relocation;
  if (type !== RELOCATION.address64) {
    const message = `is of type ${type}, and BPF code has only ${RELOCATION.address64} and ${RELOCATION.call32}`;
    return relocationError(place.section, relocation, message);
  }
  const of = symbol.section
    ? `${symbol.name} in section ${symbol.section.name}`
    : `${symbol.name}, which is not in this object`;
  const message = `it takes the address of ${of}; programs have no data here but their arguments, so pass it as one`;
  return errorAt(place, 'E-DATA', message);
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
