// Symbols and relocations of an ELF64 object.
//
//   symbol      0 name:32 | 4 type:4, binding:4 | 5 other:8 | 6 section:16 | 8 value:64 | 16 size:64
//   relocation  0 offset:64 | 8 type:32 | 12 symbol:32 | 16 addend:64, in SHT_RELA only

import { ElfError } from '../errors.js';
import { ELF, isCode, SECTION_TYPE, type Section, stringAt, viewOf } from './sections.js';

export const SLOT_BYTES = 8;
/** Relocation types of BPF code; the others are for data and debug information. */
export const RELOCATION = { address64: 1, call32: 10 } as const;
export const SYMBOL_TYPE = { none: 0, object: 1, func: 2, section: 3 } as const;
const BINDING_LOCAL = 0;
/** Symbols of sections from here on are absolute, common or in a table of their own. */
const FIRST_RESERVED_SECTION = 0xff00;

export interface ElfSymbol {
  readonly index: number;
  /** Of a section symbol: the section's. */
  readonly name: string;
  readonly type: number;
  readonly global: boolean;
  /** Section it is defined in; undefined if it is defined elsewhere, or in no section. */
  readonly section: Section | undefined;
  /** Byte offset in its section. */
  readonly value: number;
  /** Bytes; 0 if the file does not say. */
  readonly size: number;
  /** Where it stands in the file. */
  readonly byte: number;
}

export interface Relocation {
  /** Byte offset in the section that is to be changed. */
  readonly at: number;
  readonly type: number;
  readonly symbol: ElfSymbol;
  /** What SHT_RELA gives; in SHT_REL it stands in the instruction. */
  readonly addend: bigint | undefined;
  /** Where it stands in the file. */
  readonly byte: number;
}

/** @throws ElfError 'E-SYMBOL' or 'E-NAME', with the byte offset in the file */
export function readSymbols(sections: readonly Section[]): ElfSymbol[] {
  const tables = sections.filter(({ type }) => type === SECTION_TYPE.symtab);
  if (tables.length !== 1) {
    throw new ElfError(
      'E-SYMBOL',
      `an object has one symbol table, this has ${tables.length}; it may be stripped`,
      { byte: 40 },
    );
  }
  const table = tables[0]!;
  const names = sections[table.link];
  if (names?.type !== SECTION_TYPE.strtab) {
    throw new ElfError('E-SYMBOL', `the symbol table's link is ${table.link}, which is no string table`, {
      byte: table.offset,
    });
  }
  const view = viewOf(table.bytes);
  return Array.from({ length: countOf(table, ELF.symbolBytes) }, (_, index) => {
    const at = index * ELF.symbolBytes;
    const type = view.getUint8(at + 4) & 15;
    const section = sectionOf(sections, view.getUint16(at + 6, true), table.offset + at);
    const named = type === SYMBOL_TYPE.section && section ? section.name : undefined;
    return {
      index,
      name: named ?? stringAt(names, view.getUint32(at, true)),
      type,
      global: view.getUint8(at + 4) >> 4 !== BINDING_LOCAL,
      section,
      value: Number(view.getBigUint64(at + 8, true)),
      size: Number(view.getBigUint64(at + 16, true)),
      byte: table.offset + at,
    };
  });
}

function sectionOf(sections: readonly Section[], index: number, byte: number): Section | undefined {
  if (index === 0 || index >= FIRST_RESERVED_SECTION) return undefined;
  const section = sections[index];
  if (section) return section;
  throw new ElfError('E-SYMBOL', `the symbol at byte ${byte} is in section ${index}, which does not exist`, {
    byte,
  });
}

/** Relocations of one section, by the byte offset of what they change. */
export type Relocations = ReadonlyMap<number, Relocation>;

/**
 * @returns the relocations of each executable section, by its index
 * @throws ElfError 'E-RELOC', with the byte offset in the file
 */
export function readRelocations(
  sections: readonly Section[],
  symbols: readonly ElfSymbol[],
): Map<number, Relocations> {
  const found = new Map<number, Map<number, Relocation>>();
  for (const table of sections) {
    if (table.type !== SECTION_TYPE.rel && table.type !== SECTION_TYPE.rela) continue;
    const of = sections[table.info];
    if (!of || !isCode(of)) continue;
    const here = found.get(of.index) ?? new Map<number, Relocation>();
    for (const relocation of readTable(table, symbols)) {
      if (here.has(relocation.at)) throw relocationError(of, relocation, 'is the second one there');
      if (relocation.at % SLOT_BYTES !== 0) throw relocationError(of, relocation, 'is at no instruction');
      here.set(relocation.at, relocation);
    }
    found.set(of.index, here);
  }
  return found;
}

/** Length of an entry of a table of relocations. */
export const entryBytesOf = ({ type }: Section): number =>
  type === SECTION_TYPE.rela ? ELF.relaBytes : ELF.relBytes;

function* readTable(table: Section, symbols: readonly ElfSymbol[]): Generator<Relocation> {
  const hasAddend = table.type === SECTION_TYPE.rela;
  const bytes = entryBytesOf(table);
  const view = viewOf(table.bytes);
  for (let index = 0; index < countOf(table, bytes); index++) {
    const at = index * bytes;
    const byte = table.offset + at;
    const symbol = symbols[view.getUint32(at + 12, true)];
    if (!symbol) throw new ElfError('E-RELOC', `the relocation at byte ${byte} names no symbol`, { byte });
    yield {
      at: Number(view.getBigUint64(at, true)),
      type: view.getUint32(at + 8, true),
      symbol,
      addend: hasAddend ? view.getBigInt64(at + 16, true) : undefined,
      byte,
    };
  }
}

export function relocationError(of: Section, { at, byte }: Relocation, message: string): ElfError {
  return new ElfError('E-RELOC', `the relocation of byte ${at} of section ${of.name} ${message}`, { byte });
}

function countOf(table: Section, entryBytes: number): number {
  if (table.bytes.length % entryBytes === 0) return table.bytes.length / entryBytes;
  const message = `section ${table.name} has ${table.bytes.length} bytes, which is no multiple of ${entryBytes}`;
  throw new ElfError('E-SECTION', message, { byte: table.offset });
}
