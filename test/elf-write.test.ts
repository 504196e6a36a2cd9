import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import {
  ArgumentError,
  bkeyFormat,
  defineFormat,
  ElfError,
  encodeProgram,
  type Format,
  FormatError,
  lower,
  readElf,
  writeElf,
} from '../src/index.js';
import { randomBkeyFormat, randomFormat, seeded } from './random-formats.js';

const bkey = bkeyFormat({
  keyU64s: 2,
  bitsPerField: [27, 43, 0, 13, 0, 0],
  fieldOffset: [0x1000_0000n, 0x5000n, 0xffff_ffffn, 0n, 0n, 0n],
});

/** Bit fields, both orders, signs, and names that no C has. */
const odd = defineFormat({
  name: '3 wörds\0 / and\nmore',
  packedBytes: 9,
  unpackedBytes: 11,
  fields: [
    { name: 'low half', bits: 3, at: 1, to: { byte: 0, size: 2, bit: 0, bits: 9 } },
    { name: '0', bits: 7, at: 60, signed: true, to: { byte: 0, size: 2, bit: 9 } },
    { name: 'größe', bits: 40, at: 5, order: 'msb0', signed: true, offset: -3n, to: { byte: 2, size: 8 } },
  ],
  constants: [{ value: 7n, to: { byte: 10, size: 1 } }],
});

const empty = defineFormat({ packedBytes: 0, unpackedBytes: 0, fields: [] });

/** As large as formats get. */
const large = defineFormat({
  packedBytes: 32768,
  unpackedBytes: 32768,
  fields: Array.from({ length: 4096 }, (_, i) => ({
    name: `field${i}`,
    bits: 63,
    at: i * 64,
    offset: BigInt(i),
    to: { byte: 32768 - 8 * (i + 1), size: 8 as const },
  })),
});

describe('a format written as an object', () => {
  it('is read back as the program that it was lowered to', () => {
    const random = seeded(9);
    const formats = Array.from({ length: 200 }, (_, i) =>
      i % 2 ? randomFormat(random) : randomBkeyFormat(random),
    );
    for (const format of [...formats, bkey, odd, empty, large]) {
      const object = readElf(writeElf(format));
      expect(encodeProgram(object.program('unpack'))).toEqual(encodeProgram(lower(format)));
    }
  });

  it('has a function that calls it with the two records of .bss, which have room for one byte at least', () => {
    const object = readElf(writeElf(bkey, { license: 'MIT' }));
    expect(object.functions.map(({ section, name, global }) => [section, name, global])).toEqual([
      ['.text', 'unpack', true],
      ['syscall', 'run', true],
    ]);
    expect(object.program('run').data.map(({ name, size }) => [name, size])).toEqual([['.bss', 40 + 16]]);
    expect(object.data).toEqual([
      { section: '.bss', size: 40 + 16, writable: true, bytes: undefined },
      { section: 'license', size: 4, writable: true, bytes: new TextEncoder().encode('MIT\0') },
    ]);
    expect(readElf(writeElf(empty)).data[0]!.size).toBe(9);
  });

  it('must be a format, with a licence that is a string, and with no more fields than BTF can name', () => {
    expect(() => writeElf({} as never)).toThrow(FormatError);
    for (const license of [1, 'MIT\0GPL'])
      expect(() => writeElf(bkey, { license: license as never })).toThrow(ArgumentError);
    const bits = Array.from({ length: 65536 }, (_, i) => ({
      name: `bit${i}`,
      bits: 1,
      at: i,
      to: { byte: i >> 3, size: 1 as const, bit: i & 7, bits: 1 },
    }));
    const many = defineFormat({ packedBytes: 8192, unpackedBytes: 8192, fields: bits });
    expect(() => writeElf(many)).toThrow(ElfError);
  });
});

/** Loads an object, and prints the program with its lines. */
function kernelDump(object: Uint8Array): { error: string; dump: string } {
  const file = join(scratch, 'format.bpf.o');
  const pin = `/sys/fs/bpf/bpf_unpack_${process.pid}`;
  writeFileSync(file, object);
  const loaded = spawnSync('bpftool', ['prog', 'load', file, pin]);
  if (loaded.status !== 0) return { error: `${loaded.error ?? ''}${loaded.stderr ?? ''}`, dump: '' };
  const dump = spawnSync('bpftool', ['prog', 'dump', 'xlated', 'pinned', pin, 'linum']).stdout.toString();
  rmSync(pin);
  return { error: '', dump };
}

const scratch = mkdtempSync(join(tmpdir(), 'elf-write-'));
afterAll(() => rmSync(scratch, { recursive: true }));
const permitted = spawnSync('bpftool', ['prog', 'show']).status === 0;
if (!permitted)
  console.warn('NOT TESTED: that the kernel loads objects: there is no bpftool, or it is not permitted');

describe.skipIf(!permitted)('the kernel, by bpftool and libbpf,', () => {
  it('loads a format as an object, and names the fields at the instructions', () => {
    const { error, dump } = kernelDump(writeElf(bkey));
    expect(error).toBe('');
    expect(dump).toContain('unpack(struct bkey * unpacked, struct bkey_packed * packed):');
    const lines = [...dump.matchAll(/^; (.*) \[file:bkey\.format line_num:(\d+)/gm)].map(([, text, n]) => [
      text,
      n,
    ]);
    expect(lines).toEqual([
      ['return unpack(&unpacked, &packed)', '0'],
      ['u64s = 8 bits from bit 0 + 0x3', '1'],
      ['needs_whiteout = 1 bit from bit 15; type = 8 bits from bit 16; version_lo = 0x0', '2'],
      ['version_lo = 0x0; version_hi = 0x0', '9'],
      ['version_hi = 0x0', '8'],
      ['version_hi = 0x0', '8'],
      ['size = 13 bits from bit 45; snapshot = 0xffffffff', '7'],
      ['offset = 43 bits from bit 58 + 0x5000', '5'],
      ['inode = 27 bits from bit 101 + 0x10000000', '4'],
      ['return 0', '10'],
    ]);
    const stored = dump.split('\n').findIndex((line) => line.includes('*(u64 *)(r1 +24) = r0'));
    const before = dump
      .split('\n')
      .slice(0, stored)
      .findLast((line) => line.startsWith(';'));
    expect(before).toMatch(/^; offset = /);
  });

  const random = seeded(10);
  const formats: [string, Format][] = [
    ['names that no C has', odd],
    ['no fields', empty],
    ['4,096 fields in 32 KiB', large],
    ...Array.from({ length: 24 }, (_, i): [string, Format] => [
      `random format ${i}`,
      i % 2 ? randomFormat(random) : randomBkeyFormat(random),
    ]),
  ];
  it.each(formats)('loads %s', (_, format) => {
    const { error, dump } = kernelDump(writeElf(format));
    expect(error).toBe('');
    expect(dump).toContain('; return 0 [file:');
  });
});
