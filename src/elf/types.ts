// BTF of the object that a format is written as: two records, the function between them, and its lines.

import { type Field, type Format, firstBit } from '../format/model.js';
import { Btf, btfHeader, wordBytes } from './btf.js';
import type { Line } from './lines.js';

const EXT_HEADER_BYTES = 24;
const FUNC_INFO_BYTES = 8;
const LINE_INFO_BYTES = 16;
const SLOT_BYTES = 8;
const COLUMN_BITS = 10;

/** A record in .bss; neither the kernel's verifier nor C has empty ones. */
export interface RecordSpace {
  readonly name: string;
  readonly bytes: number;
  readonly offset: number;
}

/** Where a function's instructions are, and its lines. */
export interface Described {
  readonly section: string;
  readonly type: number;
  readonly lines: readonly Line[];
}

export interface Types {
  readonly btf: Btf;
  readonly unpack: number;
  readonly run: number;
}

/** @throws ElfError 'E-LIMIT' for a format with more fields than BTF can name */
export function typesOf(
  format: Format,
  names: { readonly unpack: string; readonly run: string },
  unpacked: RecordSpace,
  packed: RecordSpace,
): Types {
  const btf = new Btf();
  const name = identifier(format.name);
  const members = [...format.fields].sort((a, b) => firstBit(a.to) - firstBit(b.to));
  const unpackedType = btf.struct(
    name,
    unpacked.bytes,
    members.map((field) => memberOf(btf, field)),
  );
  const bytes = { name: 'bytes', type: btf.array(btf.int(1, false), packed.bytes), bit: 0, bits: 0 };
  const packedType = btf.struct(`${name}_packed`, packed.bytes, [bytes]);
  const int = btf.int(4, true);
  const unpack = btf.func(names.unpack, int, [
    [unpacked.name, btf.pointer(unpackedType)],
    [packed.name, btf.pointer(packedType)],
  ]);
  for (const parameter of [0, 1]) btf.tagParameter('arg:nonnull', unpack, parameter);
  const run = btf.func(names.run, int, [['ctx', btf.pointer(0)]]);
  btf.dataSection('.bss', packed.offset + packed.bytes, [
    [btf.variable(unpacked.name, unpackedType), unpacked.offset, unpacked.bytes],
    [btf.variable(packed.name, packedType), packed.offset, packed.bytes],
  ]);
  return { btf, unpack, run };
}

function memberOf(btf: Btf, { name, signed, to }: Field) {
  const bits = to.bits === to.size * 8 ? 0 : to.bits;
  return { name: identifier(name), type: btf.int(to.size, signed), bit: firstBit(to), bits };
}

/** A C identifier that looks like the name: the kernel takes no others. */
export function identifier(name: string): string {
  const clean = name.replace(/[^A-Za-z0-9_]/g, '_').slice(0, 100);
  return /^[A-Za-z_]/.test(clean) ? clean : `_${clean}`;
}

/** .BTF.ext: which function begins each section, and the lines of its instructions. */
export function encodeExt(btf: Btf, file: string, functions: readonly Described[]): Uint8Array {
  const { strings } = btf;
  const fileName = strings.add(file);
  const funcs = functions.flatMap(({ section, type }) => [strings.add(section), 1, 0, type]);
  const lines = functions.flatMap(({ section, lines }) => [
    strings.add(section),
    lines.length,
    ...lines.flatMap(({ slot, number, text }) => [
      slot * SLOT_BYTES,
      fileName,
      strings.add(text),
      number << COLUMN_BITS,
    ]),
  ]);
  const [funcBytes, lineBytes] = [(funcs.length + 1) * 4, (lines.length + 1) * 4];
  const header = btfHeader(EXT_HEADER_BYTES, [0, funcBytes, funcBytes, lineBytes]);
  return Uint8Array.from(
    Buffer.concat([header, wordBytes([FUNC_INFO_BYTES, ...funcs, LINE_INFO_BYTES, ...lines])]),
  );
}
