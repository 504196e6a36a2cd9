import { describe, expect, it, test } from 'vitest';
import { row } from '../src/bpf/isa.js';
import { type Instruction, instruction, makeProgram } from '../src/bpf/program.js';
import {
  assemble,
  bkeyFormatFromBytes,
  type Contract,
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
import { IMMEDIATES } from './boundary-values.js';
import { evaluate } from './lifted.js';
import { type Random, randomBkeyFormat, randomBytes, randomFormat, seeded } from './random-formats.js';
import { type FormatVector, hex, unhex, vectors } from './vectors.js';

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

const IN = 24;
const OUT = 24;
const contract: Contract = {
  args: [
    { kind: 'memory', bytes: OUT, access: 'write' },
    { kind: 'memory', bytes: IN, access: 'read' },
  ],
  disjoint: true,
};
const op = (name: string, operands: Parameters<typeof instruction>[1]) => instruction(row(name), operands);
const pick = <T>(random: Random, choices: readonly T[]): T => choices[random(choices.length)]!;

const SIZES = { b: 1, h: 2, w: 4, dw: 8 } as const;
const LETTERS = ['b', 'h', 'w', 'dw'] as const;
const WORK = [0, 3, 4, 5];

/** Instructions that move bits about, as compilers do: loads, shifts, masks, additions, swaps, stores. */
function randomStep(random: Random): Instruction[] {
  const [dst, src] = [pick(random, WORK), pick(random, WORK)];
  const letter = pick(random, LETTERS);
  const bits = pick(random, [32, 64]);
  const low = (1 << (1 + random(30))) - 1;
  const imm = pick(random, [low, ~low, pick(random, IMMEDIATES), random(2 ** 31), 1 << random(31)]);
  switch (random(12)) {
    case 0:
    case 1:
    case 2:
      return [op(`ldx${letter}`, { dst, src: 2, off: random(IN - SIZES[letter] + 1) })];
    case 3:
      return letter === 'dw'
        ? []
        : [op(`ldxs${letter}`, { dst, src: 2, off: random(IN - SIZES[letter] + 1) })];
    case 4:
    case 5:
      return [op(`stx${letter}`, { dst: 1, src, off: random(OUT - SIZES[letter] + 1) })];
    case 6:
      return [op(`st${letter}`, { dst: 1, imm, off: random(OUT - SIZES[letter] + 1) })];
    case 7:
      return [
        op(pick(random, ['be16', 'be32', 'be64', 'le16', 'le32', 'le64', 'bswap32', 'bswap64']), { dst }),
      ];
    case 8:
      return [op(`${pick(random, ['lsh', 'rsh', 'arsh'])}${bits}.imm`, { dst, imm: random(bits) })];
    case 9:
      return [op(`${pick(random, ['add', 'sub', 'and', 'or', 'xor', 'mul'])}${bits}.imm`, { dst, imm })];
    case 10:
      return [op(`${pick(random, ['add', 'or', 'mov', 'mov', 'xor', 'and'])}${bits}.reg`, { dst, src })];
    default:
      return [
        op(pick(random, ['movsx8_32', 'movsx16_64', 'movsx32_64', 'movsx8_64', 'movsx16_32']), { dst, src }),
      ];
  }
}

function randomProgram(random: Random): Program {
  const start = WORK.map((dst) => op('ldxdw', { dst, src: 2, off: random(IN - 7) }));
  const steps = Array.from({ length: 2 + random(8) }, () => randomStep(random)).flat();
  const store = op(`stx${pick(random, LETTERS)}`, { dst: 1, src: pick(random, WORK), off: random(OUT - 7) });
  return makeProgram([...start, ...steps, store, op('mov64.imm', { dst: 0, imm: 7 }), op('exit', {})]);
}

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
    ['the stack', `${load}\n*(u64 *)(r10 - 8) = r3\nr3 = *(u64 *)(r10 - 8)\n${end}`],
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
