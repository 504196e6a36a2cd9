// Sections, symbols and relocations to the bytes of an object:
//
//   header | contents of each section, at multiples of 8 | section headers

import { StringTable } from './btf.js';
import { ELF, SECTION_TYPE } from './sections.js';

export interface NewSection {
  readonly name: string;
  readonly type: number;
  readonly flags: number;
  /** Contents; none for a section of zeros, which has a `size` instead. */
  readonly bytes?: Uint8Array;
  readonly size?: number;
  readonly link?: number;
  readonly info?: number;
  readonly entryBytes?: number;
}

/** A global symbol. */
export interface NewSymbol {
  readonly name: string;
  readonly type: number;
  readonly section: string;
  readonly value: number;
  readonly size: number;
}

export interface NewRelocation {
  /** Byte offset in the section that is changed. */
  readonly at: number;
  readonly type: number;
  readonly symbol: string;
}

const ALIGNMENT = 8;
const BINDING_GLOBAL = 1;
/** The first symbol is nobody's. */
const FIRST_SYMBOL = 1;

/** @param relocated name of the section that the relocations are for */
export function encodeObject(
  contents: readonly NewSection[],
  symbols: readonly NewSymbol[],
  relocated: string,
  relocations: readonly NewRelocation[],
): Uint8Array {
  const strings = new StringTable();
  // After the section of no name and the contents come symbols, relocations and strings.
  const symbolTable = contents.length + 1;
  const stringTable = contents.length + 3;
  const indexOf = (name: string) => contents.findIndex((section) => section.name === name) + 1;
  const sections: NewSection[] = [
    ...contents,
    {
      name: '.symtab',
      type: SECTION_TYPE.symtab,
      flags: 0,
      bytes: encodeSymbols(symbols, indexOf, strings),
      link: stringTable,
      info: FIRST_SYMBOL,
      entryBytes: ELF.symbolBytes,
    },
    {
      name: `.rel${relocated}`,
      type: SECTION_TYPE.rel,
      flags: 0,
      bytes: encodeRelocations(relocations, symbols),
      link: symbolTable,
      info: indexOf(relocated),
      entryBytes: ELF.relBytes,
    },
  ];
  const names = [...sections.map(({ name }) => strings.add(name)), strings.add('.strtab')];
  sections.push({ name: '.strtab', type: SECTION_TYPE.strtab, flags: 0, bytes: strings.encode() });
  return layOut(sections, names);
}

const align = (offset: number): number => Math.ceil(offset / ALIGNMENT) * ALIGNMENT;

function layOut(sections: readonly NewSection[], names: readonly number[]): Uint8Array {
  const offsets: number[] = [];
  let end: number = ELF.headerBytes;
  for (const { bytes } of sections) {
    offsets.push(end);
    end = align(end + (bytes?.length ?? 0));
  }
  const file = new Uint8Array(end + (sections.length + 1) * ELF.sectionBytes);
  const view = new DataView(file.buffer);
  writeHeader(view, end, sections.length + 1);
  sections.forEach((section, i) => {
    file.set(section.bytes ?? [], offsets[i]);
    writeSectionHeader(view, end + (i + 1) * ELF.sectionBytes, section, names[i]!, offsets[i]!);
  });
  return file;
}

function writeHeader(view: DataView, sectionHeaders: number, count: number): void {
  view.setUint32(0, ELF.magic);
  view.setUint8(4, ELF.class64);
  view.setUint8(5, ELF.littleEndian);
  view.setUint8(6, ELF.version);
  view.setUint16(16, ELF.relocatable, true);
  view.setUint16(18, ELF.machineBpf, true);
  view.setUint32(20, ELF.version, true);
  view.setBigUint64(40, BigInt(sectionHeaders), true);
  view.setUint16(52, ELF.headerBytes, true);
  view.setUint16(58, ELF.sectionBytes, true);
  view.setUint16(60, count, true);
  view.setUint16(62, count - 1, true);
}

function writeSectionHeader(
  view: DataView,
  at: number,
  { type, flags, bytes, size = bytes?.length ?? 0, link = 0, info = 0, entryBytes = 0 }: NewSection,
  name: number,
  offset: number,
): void {
  view.setUint32(at, name, true);
  view.setUint32(at + 4, type, true);
  view.setUint32(at + 8, flags, true);
  view.setUint32(at + 24, offset, true);
  view.setUint32(at + 32, size, true);
  view.setUint32(at + 40, link, true);
  view.setUint32(at + 44, info, true);
  view.setUint32(at + 48, ALIGNMENT, true);
  view.setUint32(at + 56, entryBytes, true);
}

function encodeSymbols(
  symbols: readonly NewSymbol[],
  indexOf: (section: string) => number,
  strings: StringTable,
): Uint8Array {
  const bytes = new Uint8Array((FIRST_SYMBOL + symbols.length) * ELF.symbolBytes);
  const view = new DataView(bytes.buffer);
  symbols.forEach(({ name, type, section, value, size }, i) => {
    const at = (FIRST_SYMBOL + i) * ELF.symbolBytes;
    view.setUint32(at, strings.add(name), true);
    view.setUint8(at + 4, (BINDING_GLOBAL << 4) | type);
    view.setUint16(at + 6, indexOf(section), true);
    view.setUint32(at + 8, value, true);
    view.setUint32(at + 16, size, true);
  });
  return bytes;
}

function encodeRelocations(relocations: readonly NewRelocation[], symbols: readonly NewSymbol[]): Uint8Array {
  const bytes = new Uint8Array(relocations.length * ELF.relBytes);
  const view = new DataView(bytes.buffer);
  relocations.forEach(({ at, type, symbol }, i) => {
    view.setUint32(i * ELF.relBytes, at, true);
    view.setUint32(i * ELF.relBytes + 8, type, true);
    const index = FIRST_SYMBOL + symbols.findIndex(({ name }) => name === symbol);
    view.setUint32(i * ELF.relBytes + 12, index, true);
  });
  return bytes;
}
