// An ELF64 object's sections. Nothing a file says of itself is believed before it is checked against the file's length.
//
//   header   0 magic | 4 class, data, version | 16 type:16 | 18 machine:16 | 40 shoff:64 | 52 ehsize, 58 shentsize,
//            60 shnum, 62 shstrndx :16
//   section  0 name:32 | 4 type:32 | 8 flags:64 | 16 addr:64 | 24 offset:64 | 32 size:64 | 40 link:32 | 44 info:32
//            48 addralign:64 | 56 entsize:64

import { ElfError } from '../errors.js';

/** Numbers of the System V gABI. */
export const ELF = {
  magic: 0x7f454c46,
  class64: 2,
  littleEndian: 1,
  version: 1,
  relocatable: 1,
  machineBpf: 247,
  headerBytes: 64,
  sectionBytes: 64,
  symbolBytes: 24,
  relBytes: 16,
  relaBytes: 24,
} as const;

export const SECTION_TYPE = { progbits: 1, symtab: 2, strtab: 3, rela: 4, nobits: 8, rel: 9 } as const;
export const SECTION_FLAG = { write: 1, alloc: 2, exec: 4 } as const;

export interface Section {
  readonly index: number;
  readonly name: string;
  readonly type: number;
  /** The low 32 bits of sh_flags. */
  readonly flags: number;
  /** Where its bytes begin in the file. */
  readonly offset: number;
  /** Length in bytes; of a section without contents, as the file says. */
  readonly size: number;
  /** Its bytes; empty for a section that has none in the file, as .bss. */
  readonly bytes: Uint8Array;
  /** The file's word for it, 0 too. */
  readonly alignment: number;
  readonly link: number;
  readonly info: number;
}

export const isCode = ({ type, flags }: Pick<Section, 'type' | 'flags'>): boolean =>
  type === SECTION_TYPE.progbits && (flags & SECTION_FLAG.exec) !== 0;

/** Longer names are no names; reading them for each symbol would take time that grows with the square of the file. */
const MAX_NAME_BYTES = 1024;

/**
 * @throws ElfError 'E-TRUNCATED', 'E-HEADER', 'E-SECTION', 'E-NAME' or 'E-OVERLAP', with the byte offset in the file
 */
export function readSections(file: Uint8Array): Section[] {
  const view = viewOf(file);
  checkHeader(view);
  const table = fileRange(view, 40, 'section header table', view.getUint16(60, true) * ELF.sectionBytes);
  const headers = Array.from({ length: view.getUint16(60, true) }, (_, index) =>
    readHeader(file, view, table + index * ELF.sectionBytes, index),
  );
  checkApart(headers);
  const names = headers[view.getUint16(62, true)];
  if (names?.type !== SECTION_TYPE.strtab) {
    throw new ElfError('E-SECTION', 'e_shstrndx, at byte 62, names no string table', { byte: 62 });
  }
  return headers.map((header) => ({ ...header, name: stringAt(names, header.nameAt) }));
}

type Header = Omit<Section, 'name'> & { readonly nameAt: number };

export const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

function checkHeader(view: DataView): void {
  if (view.byteLength < ELF.headerBytes) {
    const message = `an ELF file has a header of ${ELF.headerBytes} bytes, got ${view.byteLength} bytes`;
    throw new ElfError('E-TRUNCATED', message, { byte: view.byteLength });
  }
  const expect = (byte: number, found: number, wanted: number, what: string) => {
    if (found === wanted) return;
    throw new ElfError('E-HEADER', `${what}, at byte ${byte}, is ${found}, must be ${wanted}`, { byte });
  };
  expect(0, view.getUint32(0), ELF.magic, 'the magic number');
  expect(4, view.getUint8(4), ELF.class64, 'the class (2 is 64-bit)');
  expect(
    5,
    view.getUint8(5),
    ELF.littleEndian,
    'the byte order (1 is little-endian; compile with -target bpfel)',
  );
  expect(6, view.getUint8(6), ELF.version, 'the version');
  expect(16, view.getUint16(16, true), ELF.relocatable, 'the file type (1 is an object; compile with -c)');
  expect(18, view.getUint16(18, true), ELF.machineBpf, 'the machine (247 is BPF; compile with -target bpf)');
  expect(52, view.getUint16(52, true), ELF.headerBytes, 'the header length');
  expect(58, view.getUint16(58, true), ELF.sectionBytes, 'the section header length');
}

/** The offset that the 64 bits at `at` give, where `length` bytes of the file begin. */
function fileRange(view: DataView, at: number, what: string, length: number): number {
  const offset = view.getBigUint64(at, true);
  if (offset + BigInt(length) <= BigInt(view.byteLength)) return Number(offset);
  const message = `${what}: ${length} bytes from byte ${offset}, as byte ${at} says, reach past the file of ${view.byteLength} bytes`;
  throw new ElfError('E-TRUNCATED', message, { byte: at });
}

function readHeader(file: Uint8Array, view: DataView, at: number, index: number): Header {
  const type = view.getUint32(at + 4, true);
  const size = Number(view.getBigUint64(at + 32, true));
  if (!Number.isSafeInteger(size)) {
    throw new ElfError('E-SECTION', `section ${index}: its size, at byte ${at + 32}, is ${size}`, {
      byte: at + 32,
    });
  }
  const inFile = index === 0 || type === SECTION_TYPE.nobits ? 0 : size;
  const offset = inFile === 0 ? 0 : fileRange(view, at + 24, `section ${index}`, inFile);
  return {
    index,
    nameAt: view.getUint32(at, true),
    type,
    flags: view.getUint32(at + 8, true),
    offset,
    size,
    bytes: file.subarray(offset, offset + inFile),
    alignment: Number(view.getBigUint64(at + 48, true)),
    link: view.getUint32(at + 40, true),
    info: view.getUint32(at + 44, true),
  };
}

/** Sections that share bytes would let a small file ask for any amount of work. */
function checkApart(headers: readonly Header[]): void {
  const inFile = headers.filter(({ bytes }) => bytes.length > 0).sort((a, b) => a.offset - b.offset);
  inFile.forEach((section, i) => {
    const before = inFile[i - 1];
    if (!before || before.offset + before.size <= section.offset) return;
    const message = `sections ${before.index} and ${section.index} overlap at byte ${section.offset}`;
    throw new ElfError('E-OVERLAP', message, { byte: section.offset });
  });
}

/** The zero-terminated string at an offset of a string table. */
export function stringAt(table: Pick<Section, 'bytes' | 'offset' | 'index'>, at: number): string {
  const { bytes, offset, index } = table;
  const end = at < bytes.length ? bytes.subarray(at, at + MAX_NAME_BYTES + 1).indexOf(0) : -1;
  if (end !== -1) return new TextDecoder().decode(bytes.subarray(at, at + end));
  const message = `no string of at most ${MAX_NAME_BYTES} bytes begins at byte ${at} of string table ${index}`;
  throw new ElfError('E-NAME', message, { byte: offset + Math.min(at, bytes.length) });
}
