import { readFileSync } from 'node:fs';
import { describe, expect, it, test } from 'vitest';
import {
  assemble,
  bkeyFormat,
  bkeyFormatFromBytes,
  compileX64,
  contractFor,
  disassemble,
  type Format,
  interpret,
  lower,
  type Program,
  referenceUnpack,
  verify,
} from '../src/index.js';
import { type Lifted, lift } from '../src/jit/lift.js';
import { evaluate } from './lifted.js';
import { randomBkeyFormat, randomBytes, randomFormat, seeded } from './random-formats.js';
import { contract, IN, OUT, randomProgram } from './random-programs.js';
import { type FormatVector, hex, jsonLines, unhex, vectors } from './vectors.js';

const lifted = (format: Format, merge: boolean): Lifted | undefined =>
  lift(verify(lower(format, { merge }), contractFor(format)));

describe('a lowered format, lifted, gives what the reference gives', () => {
  it.each(['formats.jsonl.gz', 'real_formats.jsonl.gz'])('for every key of %s', (file) => {
    for (const { format: raw, keys } of vectors<FormatVector>(`bcachefs/${file}`)) {
      const format = bkeyFormatFromBytes(unhex(raw.raw));
      for (const merge of [true, false]) {
        const form = lifted(format, merge);
        if (!form) expect.fail(`is not lifted: ${raw.raw}`);
        for (const { packed, unpacked } of keys)
          expect(hex(evaluate(form, unhex(packed), new Uint8Array(40)))).toBe(unpacked);
      }
    }
  });

  it.each([
    ['bcachefs keys, all of which have a slice form', randomBkeyFormat, 1],
    ['records of any kind, most of which have one', randomFormat, 0.5],
  ] as const)('for 1,000 random formats of %s', (_, make, least) => {
    const random = seeded(3);
    let count = 0;
    for (let i = 0; i < 1000; i++) {
      const format = make(random);
      const form = lifted(format, i % 4 !== 0);
      if (!form) continue;
      count++;
      const packed = randomBytes(random, format.packedBytes);
      const before = randomBytes(random, format.unpackedBytes);
      const got = hex(evaluate(form, packed, before));
      if (got !== hex(referenceUnpack(format, packed)))
        expect.fail(`format ${i}:\n${disassemble(lower(format, { merge: i % 4 !== 0 }))}`);
    }
    expect(count / 1000).toBeGreaterThanOrEqual(least);
  });
});

test('a random program that is lifted gives what the interpreter gives', () => {
  const random = seeded(5);
  let count = 0;
  for (let i = 0; i < 5000; i++) {
    const program = randomProgram(random);
    const form = lift(verify(program, contract));
    if (!form) continue;
    count++;
    for (let record = 0; record < 3; record++) {
      const packed = randomBytes(random, IN);
      const out = randomBytes(random, OUT);
      const got = hex(evaluate(form, packed, out));
      const { r0 } = interpret(program, { args: [out, packed] });
      if (got !== hex(out))
        expect.fail(`program ${i} gives ${got}, not ${hex(out)}:\n${disassemble(program)}`);
      expect(form.r0).toBe(r0);
    }
  }
  expect(count).toBeGreaterThan(1000);
});

describe('what has no slice form is not lifted:', () => {
  const load = 'r3 = *(u64 *)(r2 + 0)';
  const end = '*(u64 *)(r1 + 0) = r3\nr0 = 0\nexit';
  it.each([
    ['a jump', `${load}\nif r3 == 0 goto +0\n${end}`],
    ['a result that is not constant', `${load}\n*(u64 *)(r1 + 0) = r3\nr0 = r3\nexit`],
    ['a product', `${load}\nr3 *= 3\n${end}`],
    ['slices that overlap', `${load}\nr4 = r3\nr4 <<= 3\nr3 += r4\n${end}`],
    ['the upper bits of a sum', `${load}\nr3 += 5\nr3 >>= 4\n${end}`],
    ['one load of which a bit is stored twice', `${load}\n*(u64 *)(r1 + 8) = r3\n${end}`],
    ['a program that loads nothing', `r3 = 1\n${end}`],
    ['the upper part of a sum without the lower', `${load}\nr3 += 5\nr3 >>= 8\n${end}`],
  ])('%s', (_, source) => {
    expect(lift(verify(assemble(source), contract))).toBeUndefined();
  });

  it('memory that may overlap', () => {
    const program = assemble(`${load}\n${end}`);
    expect(lift(verify(program, contract))).toBeDefined();
    expect(lift(verify(program, { ...contract, disjoint: false }))).toBeUndefined();
  });
});

test('big-endian bits, sign copies, carries and overwritten bytes are told apart', () => {
  const source = `
    r3 = *(u16 *)(r2 + 3)
    r3 = be16 r3
    r3 >>= 4
    *(u32 *)(r1 + 0) = r3
    r4 = *(s8 *)(r2 + 5)
    r4 += -3
    *(u64 *)(r1 + 8) = r4
    *(u8 *)(r1 + 1) = 9
    r0 = 0
    exit`;
  expect(lift(verify(assemble(source), contract))).toEqual({
    input: { index: 1, bytes: IN },
    output: { index: 0, bytes: OUT },
    r0: 0n,
    pieces: [
      {
        byte: 0,
        size: 1,
        slices: [
          { from: 36, bits: 4, to: 0 },
          { from: 24, bits: 4, to: 4 },
        ],
        signed: false,
        plus: 0n,
      },
      { byte: 1, size: 1, slices: [], signed: false, plus: 9n },
      { byte: 2, size: 2, slices: [], signed: false, plus: 0n },
      {
        byte: 8,
        size: 8,
        slices: [{ from: 40, bits: 8, to: 0 }],
        signed: true,
        plus: 0xffff_ffff_ffff_fffdn,
      },
    ],
  });
});

interface Unpacker {
  readonly compiler: string;
  readonly name: string;
  readonly text: string;
}

const UNPACKED: Readonly<Record<string, { out: number; in: number }>> = {
  aligned: { out: 40, in: 16 },
  tight: { out: 40, in: 16 },
  network: { out: 48, in: 20 },
  telemetry: { out: 24, in: 16 },
};

// clang 14 and gcc 12 made these of unpackers.c, with -O2 for cpu v1, v2 and v3.
describe('what compilers make of unpackers in C', () => {
  const path = new URL('./vectors/unpackers/unpackers.jsonl', import.meta.url);
  const unpackers = jsonLines<Unpacker>(readFileSync(path, 'utf8'));

  it.each(unpackers.map((one) => [one.name, one.compiler, one] as const))('%s, %s', (name, _, { text }) => {
    const sizes = UNPACKED[name]!;
    const program = assemble(text);
    const memory = (bytes: number, access: 'read' | 'write') => ({ kind: 'memory', bytes, access }) as const;
    const proven = verify(program, {
      args: [memory(sizes.out, 'write'), memory(sizes.in, 'read')],
      writesAll: [0],
      disjoint: true,
    });
    const form = lift(proven);
    if (!form) expect.fail('is not lifted');
    const random = seeded(6);
    for (let record = 0; record < 50; record++) {
      const packed = randomBytes(random, sizes.in);
      const out = new Uint8Array(sizes.out);
      interpret(program, { args: [out, packed] });
      expect(hex(evaluate(form, packed, new Uint8Array(sizes.out)))).toBe(hex(out));
    }
  });

  it('is, in machine code, what lowered formats are', () => {
    const formats: Readonly<Record<string, Format>> = {
      aligned: bkeyFormat({
        keyU64s: 2,
        bitsPerField: [40, 40, 8, 16, 0, 0],
        fieldOffset: [0x1003n, 0x1a2b38n, 0xffffff00n, 0n, 0n, 0n],
      }),
      tight: bkeyFormat({
        keyU64s: 2,
        bitsPerField: [27, 43, 0, 13, 0, 0],
        fieldOffset: [0x10000000n, 0x5000n, 0xffffffffn, 0n, 0n, 0n],
      }),
    };
    for (const [name, format] of Object.entries(formats)) {
      const code = (program: Program) => hex(compileX64(verify(program, contractFor(format))).bytes);
      const made = unpackers.filter((one) => one.name === name).map(({ text }) => code(assemble(text)));
      expect(new Set(made)).toEqual(new Set([code(lower(format))]));
    }
  });
});
