// A lowered format as an object that libbpf loads:
//
//   .text     int unpack(struct F *unpacked, struct F_packed *packed): the program. A function with pointers to structs, so
//             that the kernel's verifier checks it by itself, for any memory of those sizes, and lets it load at any alignment
//   syscall   int run(void *ctx): calls it with the two records of .bss
//   .bss      struct F unpacked; struct F_packed packed;

import { Builder } from '../bpf/build.js';
import { encodeProgram } from '../bpf/encode.js';
import { lower } from '../bpf/lower.js';
import { ArgumentError } from '../errors.js';
import { requireFormat } from '../format/define.js';
import type { Format } from '../format/model.js';
import { encodeObject } from './encode.js';
import { linesOf } from './lines.js';
import { SECTION_FLAG, SECTION_TYPE } from './sections.js';
import { RELOCATION, SYMBOL_TYPE } from './symbols.js';
import { encodeExt, identifier, type RecordSpace, typesOf } from './types.js';

export interface WriteElfOptions {
  /** The object's licence, which the kernel asks for. Default: 'Dual MIT/GPL'. */
  readonly license?: string;
}

const NAMES = { unpack: 'unpack', run: 'run' } as const;
const RECORD_ALIGNMENT = 8;
/** Bytes of `run` that are relocated: two LD_IMM64 and a call. */
const RUN_RELOCATED = { unpacked: 0, packed: 16, call: 32 } as const;

/**
 * Lowers a format and writes the program as an object, with BTF that has the fields as a struct's members, and as the
 * source lines of the instructions. `readElf(object).program('unpack')` is `lower(format)` again.
 * @throws FormatError for what is no format; ArgumentError for what is no licence; ElfError 'E-LIMIT' for more fields, or longer names, than BTF can hold
 */
export function writeElf(format: Format, options: WriteElfOptions = {}): Uint8Array {
  requireFormat(format);
  const license = options?.license ?? 'Dual MIT/GPL';
  if (typeof license !== 'string' || license.includes('\0'))
    throw new ArgumentError('A-TYPE', 'license must be a string without NUL characters, since one ends it');
  const unpacked = record('unpacked', format.unpackedBytes, 0);
  const packed = record('packed', format.packedBytes, align(unpacked.bytes, RECORD_ALIGNMENT));
  const types = typesOf(format, NAMES, unpacked, packed);
  const program = lower(format);
  const ext = encodeExt(types.btf, `${identifier(format.name)}.format`, [
    { section: '.text', type: types.unpack, lines: linesOf(format, program) },
    {
      section: 'syscall',
      type: types.run,
      lines: [{ slot: 0, number: 0, text: 'return unpack(&unpacked, &packed)' }],
    },
  ]);
  const unpackCode = encodeProgram(program);
  const runCode = encodeRun();
  return encodeObject(
    [
      { name: '.text', type: SECTION_TYPE.progbits, flags: CODE, bytes: unpackCode },
      { name: 'syscall', type: SECTION_TYPE.progbits, flags: CODE, bytes: runCode },
      { name: '.bss', type: SECTION_TYPE.nobits, flags: DATA, size: packed.offset + packed.bytes },
      {
        name: 'license',
        type: SECTION_TYPE.progbits,
        flags: DATA,
        bytes: new TextEncoder().encode(`${license}\0`),
      },
      { name: '.BTF', type: SECTION_TYPE.progbits, flags: 0, bytes: types.btf.encode() },
      { name: '.BTF.ext', type: SECTION_TYPE.progbits, flags: 0, bytes: ext },
    ],
    [
      { name: NAMES.unpack, type: SYMBOL_TYPE.func, section: '.text', value: 0, size: unpackCode.length },
      { name: NAMES.run, type: SYMBOL_TYPE.func, section: 'syscall', value: 0, size: runCode.length },
      {
        name: unpacked.name,
        type: SYMBOL_TYPE.object,
        section: '.bss',
        value: unpacked.offset,
        size: unpacked.bytes,
      },
      {
        name: packed.name,
        type: SYMBOL_TYPE.object,
        section: '.bss',
        value: packed.offset,
        size: packed.bytes,
      },
    ],
    'syscall',
    [
      { at: RUN_RELOCATED.unpacked, type: RELOCATION.address64, symbol: unpacked.name },
      { at: RUN_RELOCATED.packed, type: RELOCATION.address64, symbol: packed.name },
      { at: RUN_RELOCATED.call, type: RELOCATION.call32, symbol: NAMES.unpack },
    ],
  );
}

const CODE = SECTION_FLAG.alloc | SECTION_FLAG.exec;
const DATA = SECTION_FLAG.alloc | SECTION_FLAG.write;

const align = (offset: number, to: number): number => Math.ceil(offset / to) * to;

function record(name: string, bytes: number, offset: number): RecordSpace {
  return { name, bytes: Math.max(1, bytes), offset };
}

/** The addresses and the call's distance are the relocations'. */
function encodeRun(): Uint8Array {
  const asm = new Builder().emit('lddw', { dst: 1, value: 0n }).emit('lddw', { dst: 2, value: 0n });
  return encodeProgram(asm.emit('call.local', { imm: -1 }).emit('exit').build());
}
