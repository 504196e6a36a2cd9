import { describe, expect, test } from 'vitest';
import { Assembler, type Emitted } from '../src/jit/x64/assemble.js';
import { ByteBuffer } from '../src/jit/x64/byte-buffer.js';
import { encode, formFor, takes } from '../src/jit/x64/encode.js';
import { allForms, type Form, type OperandKind } from '../src/jit/x64/forms.js';
import {
  type Bits,
  Masked,
  MaskedMemory,
  MaskRegister,
  Memory,
  memory,
  type Operand,
  type Register,
  register,
  type VectorBits,
  vector,
} from '../src/jit/x64/operands.js';
import { differences, encodingName, lengthOf } from './x64-decoder.js';
import { hasObjdump, objdumpDifferences } from './x64-objdump.js';

const REGISTERS = Array.from({ length: 16 }, (_, number) => number);
// The last ones are beside the ends of what one byte can say where it counts 64 bytes.
const DISPLACEMENTS = [0, 1, -1, 127, 128, -128, -129, 0x7fff, -0x8000, 2 ** 31 - 1, -(2 ** 31)].concat([
  64,
  -64,
  65,
  127 * 64,
  128 * 64,
  -128 * 64,
  -129 * 64,
]);
const SCALES = [1, 2, 4, 8] as const;
const SP = 4;

/** Every base with every displacement, and every base with every index. */
function memories(bits: Bits | VectorBits): Memory[] {
  const plain = REGISTERS.flatMap((base) => DISPLACEMENTS.map((by) => memory(bits, base, by)));
  const withIndex = REGISTERS.flatMap((base) =>
    REGISTERS.filter((index) => index !== SP).map((index) => {
      const i = base * 16 + index;
      const by = DISPLACEMENTS[i % DISPLACEMENTS.length]!;
      return new Memory(bits, register(base), by, register(index), SCALES[(i >> 1) % 4]!);
    }),
  );
  return [...plain, ...withIndex];
}

/** The ends of the signed and unsigned numbers of 8, 16 and 32 bits, and what lies beside them. */
const NUMBERS = [0, 1, 2, 0x55]
  .concat(
    [7, 8, 15, 16, 31, 32].flatMap((bits) => [2 ** bits - 1, 2 ** bits, -(2 ** bits), -(2 ** bits) + 1]),
  )
  .concat([-1, -2, -129, 0x12345678]);

const WIDE = [0n, 1n, 0xffffffffn, 1n << 32n, 1n << 63n, (1n << 64n) - 1n, 0x123456789abcdef0n];

function registersOf(bits: Bits | VectorBits, form: Form): Register[] {
  if (bits <= 64) return REGISTERS.map((number) => register(number, bits as Bits));
  const count = form.vector?.kind === 'EVEX' ? 32 : 16;
  return Array.from({ length: count }, (_, number) => vector(number, bits as VectorBits));
}

const MASKS = [1, 2, 3, 4, 5, 6, 7].flatMap((mask) => [
  { mask, others: 'clear' as const },
  { mask, others: 'keep' as const },
]);

function operandsOf({ role, bits, maskable }: OperandKind, form: Form): readonly Operand[] {
  const width = bits || form.bits;
  const registers = registersOf(width, form);
  switch (role) {
    case 'r':
      if (!maskable) return registers;
      return [
        ...registers,
        ...registers.flatMap((one) => MASKS.map(({ mask, others }) => new Masked(one, mask, others))),
      ];
    case 'v':
    case 'o':
      return registers;
    case 'k':
      return Array.from({ length: 8 }, (_, number) => new MaskRegister(number));
    case 'rm':
      return [...registers, ...memories(width)];
    case 'm':
      if (maskable)
        return memories(width).flatMap((one, i) => [
          one,
          new MaskedMemory(one, MASKS[i % MASKS.length]!.mask),
        ]);
      return memories(width);
    case 'a':
      return [register(0, width as Bits)];
    case 'cl':
      return [register(1, 8)];
    case '1':
      return [1];
    default:
      return width === 64 && role === 'imm' ? WIDE : NUMBERS;
  }
}

/** Every pair of registers; every operand of each kind with changing others. */
function* operandSets(form: Form): Generator<Operand[]> {
  const lists = form.operands.map((kind) => operandsOf(kind, form));
  const [first = [], second = []] = lists;
  if (lists.length === 2) {
    for (const a of first.slice(0, 16)) for (const b of second.slice(0, 16)) yield [a, b];
  }
  // Of three registers every pair, with the third one changing.
  if (lists.length === 3) {
    const registers = lists.map((list) => list.slice(0, 32));
    for (let i = 0; i < 32 * 32; i++) {
      const [a, b] = [i % 32, i >> 5];
      for (const [x, y, z] of [
        [a, b, a ^ b],
        [a, a ^ b, b],
        [a ^ b, a, b],
      ])
        yield [x!, y!, z!].map((at, j) => registers[j]![at % registers[j]!.length]!);
    }
  }
  const rounds = 3 * Math.max(1, ...lists.map(({ length }) => length));
  for (let i = 0; i < rounds; i++) {
    yield lists.map((list, j) => list[(i + j * (5 + Math.floor(i / list.length))) % list.length]!);
  }
}

function encoded(form: Form, operands: readonly Operand[]): Uint8Array {
  const out = new ByteBuffer();
  encode(form, operands, out);
  return out.take();
}

const FORMS = allForms();
const plainForms = FORMS.filter(({ distanceBytes }) => distanceBytes === 0);
const JUMPS = [
  ...new Set(
    FORMS.filter(({ operands }) => operands.some(({ role }) => role === 'rel')).map(
      ({ mnemonic }) => mnemonic,
    ),
  ),
];

/** Every row with every set of operands, one behind the other. */
function everything(): { bytes: Uint8Array; emitted: Emitted[] } {
  const out = new ByteBuffer();
  const emitted: Emitted[] = [];
  for (const form of plainForms) {
    for (const operands of operandSets(form)) {
      if (!takes(form, operands)) continue;
      const offset = out.length;
      encode(form, operands, out);
      emitted.push({ form, operands, offset, length: out.length - offset });
    }
  }
  return { bytes: out.take(), emitted };
}

describe('every row with every register, boundary displacement and immediate', () => {
  const { bytes, emitted } = everything();

  test('is one of many', () => {
    expect(emitted.length).toBeGreaterThan(100_000);
    expect(new Set(emitted.map(({ form }) => form)).size).toBe(plainForms.length);
  });

  test('decodes to what was meant by iced-x86', () => {
    expect(differences(bytes, emitted).slice(0, 5)).toEqual([]);
  });

  test.skipIf(!hasObjdump)("decodes to what was meant by binutils' objdump", () => {
    expect(objdumpDifferences(bytes, emitted).slice(0, 5)).toEqual([]);
  });
});

test.skipIf(!hasObjdump)('both decoders notice a byte that is not as meant', () => {
  const asm = new Assembler();
  asm.emit('mov', register(0), memory(64, 3, 8));
  asm.emit('add', register(1, 32), 5);
  const { bytes, emitted } = asm.finish();
  for (const [at, mask] of [
    [0, 4], // REX.R
    [2, 8], // ModRM.reg
    [3, 1], // displacement
    [5, 0x28], // the operation
    [6, 0x80], // immediate
  ] as const) {
    const wrong = bytes.slice();
    wrong[at]! ^= mask;
    for (const decoder of [differences, objdumpDifferences]) expect(decoder(wrong, emitted).length).toBe(1);
  }
});

test.skipIf(!hasObjdump)(
  'jumps of both lengths, and addresses of places, lead where objdump says too',
  () => {
    const asm = new Assembler();
    const labels = Array.from({ length: 400 }, () => asm.label());
    labels.forEach((label, i) => {
      asm.bind(label);
      asm.jump(JUMPS[i % JUMPS.length] as Parameters<Assembler['jump']>[0], labels[(i * 7) % labels.length]!);
      if (i % 5 === 0) asm.address((i / 5) % 16, labels[(i * 11) % labels.length]!);
    });
    const { bytes, emitted } = asm.finish();
    expect(differences(bytes, emitted)).toEqual([]);
    expect(objdumpDifferences(bytes, emitted)).toEqual([]);
    expect(new Set(emitted.map(({ form }) => form)).size).toBe(FORMS.length - plainForms.length);
  },
);

test("every row's encoding is written as in the decoder's own table", () => {
  for (const form of plainForms) {
    const operands = [...operandSets(form)].find((operands) => takes(form, operands))!;
    const theirs = encodingName(encoded(form, operands))
      .replace(/^o\d+ /, '')
      .replace(/\+r[bwdo]/, '+r');
    const ours = form.text.replace(/^.*: /, '').replace(/(?<![.\w])(66|F0|REX\.W) /g, '');
    expect(`${form.mnemonic} ${ours}`).toBe(`${form.mnemonic} ${theirs}`);
  }
});

test('of the rows that take the operands the first is the shortest', () => {
  const longer: string[] = [];
  for (const form of plainForms) {
    for (const operands of operandSets(form)) {
      if (!takes(form, operands)) continue;
      const chosen = formFor(form.mnemonic, operands);
      if (lengthOf(chosen, operands) > lengthOf(form, operands))
        longer.push(`${chosen.text} over ${form.text}`);
    }
  }
  expect(longer).toEqual([]);
});

test.each([
  [0n, '31 c0'],
  [1n, 'b8 01 00 00 00'],
  [0x80000000n, 'b8 00 00 00 80'],
  [0xffffffffn, 'b8 ff ff ff ff'],
  [-1n, '48 c7 c0 ff ff ff ff'],
  [-0x80000000n, '48 c7 c0 00 00 00 80'],
  [-0x80000001n, '48 b8 ff ff ff 7f ff ff ff ff'],
  [1n << 32n, '48 b8 00 00 00 00 01 00 00 00'],
])('the constant %s is loaded in the fewest bytes', (value, bytes) => {
  const asm = new Assembler();
  asm.loadImmediate(0, value);
  expect(Buffer.from(asm.finish().bytes).toString('hex')).toBe(bytes.replaceAll(' ', ''));
});

test('constants lie behind the code at a cache line, and their address is found', () => {
  for (const before of [1, 50, 57, 58, 200]) {
    const asm = new Assembler();
    const first = asm.constant(Uint8Array.of(1, 2, 3));
    const second = asm.constant(Uint8Array.of(4));
    asm.address(11, asm.constants);
    for (let i = 0; i < before; i++) asm.emit('cdq');
    const { bytes, emitted, offsetOf } = asm.finish();
    const at = offsetOf(asm.constants);
    expect(at).toBe(Math.ceil((before + 7) / 64) * 64);
    expect([first, second, ...bytes.subarray(at)]).toEqual([0, 3, 1, 2, 3, 4]);
    expect(differences(bytes.subarray(0, before + 7), emitted)).toEqual([]);
    expect(emitted[0]!.operands[1]).toBe(at);
  }
});

test('an operand that no row takes is refused', () => {
  const asm = new Assembler();
  const eax = register(0, 32);
  expect(() => asm.emit('add', eax, register(0, 64))).toThrow('no form of add takes');
  expect(() => asm.emit('add', eax, 2 ** 32)).toThrow('no form of add takes');
  expect(() => asm.emit('add', register(0, 64), 2 ** 31)).toThrow('no form of add takes');
  expect(() => asm.emit('add', register(0, 8), 256)).toThrow('no form of add takes');
  expect(() => asm.emit('vpand', vector(16, 256), vector(0, 256), vector(0, 256))).toThrow(
    'no form of vpand',
  );
  expect(() =>
    asm.emit('vpandq', new Masked(vector(1, 512), 1, 'keep'), vector(0, 512), vector(0, 512)),
  ).toThrow('no form of vpandq takes register 1 of 512 bits under k1');
  expect(() => asm.emit('frobnicate')).toThrow('no form of frobnicate takes no operands');
});

/** A jump over `distance` bytes, or back over them. */
function jumpOver(distance: number, mnemonic: 'jmp' | 'je' | 'call', back: boolean) {
  const asm = new Assembler();
  const label = asm.label();
  if (back) asm.bind(label);
  else asm.jump(mnemonic, label);
  for (let i = 0; i < distance; i++) asm.emit('cdq');
  if (back) asm.jump(mnemonic, label);
  else asm.bind(label);
  asm.emit('ret');
  return asm.finish();
}

test.each([
  ['jmp', 127, false, 2],
  ['jmp', 128, false, 5],
  ['jmp', 126, true, 2],
  ['jmp', 127, true, 5],
  ['je', 127, false, 2],
  ['je', 128, false, 6],
  ['je', 126, true, 2],
  ['je', 127, true, 6],
  ['call', 0, false, 5],
  ['call', 0, true, 5],
] as const)('%s over %i bytes (back: %s) takes %i bytes', (mnemonic, distance, back, length) => {
  const { bytes, emitted } = jumpOver(distance, mnemonic, back);
  expect(differences(bytes, emitted)).toEqual([]);
  expect(bytes.length).toBe(length + distance + 1);
});

test('jumps that lengthen each other settle, however many there are', () => {
  for (const jumps of [2, 60, 62, 64, 200, 2000]) {
    const asm = new Assembler();
    const labels = Array.from({ length: jumps }, () => asm.label());
    // Each jump crosses the next 61 or so, which are just in reach as long as all of them are short.
    for (let i = 0; i < jumps; i++) {
      asm.bind(labels[i]!);
      asm.jump(i % 2 ? 'jmp' : 'jne', labels[Math.min(jumps - 1, i + 63)]!);
    }
    for (let i = 0; i < jumps; i++) asm.jump('jl', labels[i]!);
    const { bytes, emitted, offsetOf } = asm.finish();
    expect(differences(bytes, emitted)).toEqual([]);
    expect(labels.map(offsetOf)).toEqual(emitted.slice(0, jumps).map(({ offset }) => offset));
  }
});

test('a jump is short wherever a short one reaches', () => {
  const asm = new Assembler();
  const labels = Array.from({ length: 300 }, () => asm.label());
  labels.forEach((label, i) => {
    asm.bind(label);
    asm.jump(i % 3 ? 'jmp' : 'jae', labels[(i * 7) % labels.length]!);
    if (i % 5 === 0) asm.emit('cdq');
  });
  const { bytes, emitted } = asm.finish();
  expect(differences(bytes, emitted)).toEqual([]);
  for (const { form, operands, offset, length } of emitted) {
    const distance = Number(operands[0] ?? 0) - offset - length;
    if (form.distanceBytes === 4) expect(distance < -124 || distance > 123).toBe(true);
  }
});
