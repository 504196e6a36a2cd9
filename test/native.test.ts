import { afterAll, expect, test } from 'vitest';
import { CodeArena } from '../src/exec/arena.js';
import { bkeyFormat } from '../src/format/bkey.js';
import { defineFormat } from '../src/format/define.js';
import type { Format } from '../src/format/model.js';
import { referenceUnpack } from '../src/format/reference.js';
import { Memory } from '../src/jit/x64/operands.js';
import { assembleNative, emitNative } from '../src/native/emit.js';
import { type Random, randomBkeyFormat, randomBytes, randomFormat, seeded } from './random-formats.js';
import { differences } from './x64-decoder.js';

const arena = new CodeArena();
afterAll(() => arena.dispose());

const GUARD = 0xa5;
const GUARD_BYTES = 16;

/** What native code makes of some records that the reference does not; also code that is not what was meant. */
function wrongBytes(format: Format, random: Random, records: number): string[] {
  const { bytes, emitted } = assembleNative(format);
  const found = differences(bytes, emitted);
  const routine = arena.place(emitNative(format));
  const { packedBytes, unpackedBytes } = format;
  for (let i = 0; i < records; i++) {
    const packed = i === 0 ? new Uint8Array(packedBytes).fill(0xff) : randomBytes(random, packedBytes);
    const around = new Uint8Array(GUARD_BYTES + unpackedBytes + GUARD_BYTES).fill(GUARD);
    const r0 = routine.call([around.subarray(GUARD_BYTES, GUARD_BYTES + unpackedBytes), packed]);
    const expected = new Uint8Array(around.length).fill(GUARD);
    expected.set(referenceUnpack(format, packed), GUARD_BYTES);
    if (r0 !== 0n || !Buffer.from(around).equals(expected)) {
      found.push(`${Buffer.from(packed).toString('hex')}: ${Buffer.from(around).toString('hex')}`);
    }
  }
  routine.free();
  return found;
}

test('random bkey formats unpack as in the reference', () => {
  for (let seed = 0; seed < 3000; seed++) {
    const random = seeded(seed);
    expect([seed, wrongBytes(randomBkeyFormat(random), random, 3)]).toEqual([seed, []]);
  }
});

test('random formats of every kind unpack as in the reference', () => {
  for (let seed = 0; seed < 6000; seed++) {
    const random = seeded(seed);
    expect([seed, wrongBytes(randomFormat(random), random, 3)]).toEqual([seed, []]);
  }
});

/** The bytes of each record that the code addresses: [first, end) of every access by rsi and by rdi. */
function accesses(format: Format): { packed: [number, number][]; unpacked: [number, number][] } {
  const operands = assembleNative(format).emitted.flatMap(({ operands }) => operands);
  const by = (base: number) =>
    operands
      .filter((operand) => operand instanceof Memory)
      .filter((operand) => operand.base.number === base)
      .map(({ displacement, bits }): [number, number] => [displacement, displacement + bits / 8]);
  return { packed: by(6), unpacked: by(7) };
}

test('no load leaves the packed record, and the stores cover the unpacked one byte by byte', () => {
  for (let seed = 0; seed < 3000; seed++) {
    const random = seeded(seed);
    const format = seed % 2 ? randomFormat(random) : randomBkeyFormat(random);
    const { packed, unpacked } = accesses(format);
    expect(packed.every(([first, end]) => first >= 0 && end <= format.packedBytes)).toBe(true);
    const stores = unpacked.toSorted(([a], [b]) => a - b);
    const ends = [0, ...stores.map(([, end]) => end)];
    expect(stores.map(([first]) => first)).toEqual(ends.slice(0, -1));
    expect(ends.at(-1)).toBe(format.unpackedBytes);
  }
});

// What bcachefs's own emitter took for such formats: 87, 82, 75, 74 and 119 bytes.
test.each([
  ['byte-aligned', [40, 40, 8, 16, 0, 0], [0x1003n, 0x1a2b38n, 0xffffff00n, 0n, 0n, 0n], 87],
  ['not aligned', [27, 43, 0, 13, 0, 0], [0x10000000n, 0x5000n, 0xffffffffn, 0n, 0n, 0n], 82],
  ['as wide as can be', [64, 64, 32, 32, 32, 64], [0n, 0n, 0n, 0n, 0n, 0n], 75],
  ['of one word', [0, 29, 0, 11, 0, 0], [0x123456789abcdef0n, 0x40000000n, 0xffffffffn, 0n, 0n, 0n], 74],
  ['of which a field has nine bytes', [63, 61, 31, 29, 0, 48], [5n, 7n, 0x7fffff00n, 0n, 0n, 0x1000n], 119],
])('a key %s takes no more code than bcachefs made', (_, bitsPerField, fieldOffset, most) => {
  const keyU64s = Math.ceil(bitsPerField.reduce((sum, bits) => sum + bits, 24) / 64);
  const format = bkeyFormat({ keyU64s, bitsPerField, fieldOffset });
  expect(wrongBytes(format, seeded(1), 100)).toEqual([]);
  expect(emitNative(format).length).toBeLessThanOrEqual(most);
});

test('what is no format is refused', () => {
  expect(() => emitNative({ packedBytes: 8 } as Format)).toThrow(/not a format/);
});

test('empty records, and the largest, have code of their own', () => {
  const empty = defineFormat({ packedBytes: 0, unpackedBytes: 0, fields: [] });
  expect(wrongBytes(empty, seeded(1), 2)).toEqual([]);
  const to = { byte: 32767, size: 1 } as const;
  const constants = Array.from({ length: 32767 }, (_, byte) => ({
    value: BigInt(byte % 5),
    to: { byte, size: 1 as const },
  }));
  const fields = [{ name: 'last', bits: 8, at: 32767 * 8, to }];
  const large = defineFormat({ packedBytes: 32768, unpackedBytes: 32768, fields, constants });
  expect(wrongBytes(large, seeded(1), 2)).toEqual([]);
});

test('the code carries the contract of its format, and its label', () => {
  const code = emitNative(defineFormat({ name: 'none', packedBytes: 3, unpackedBytes: 0, fields: [] }));
  expect(code.name).toBe('unpack_none[]');
  expect(code.offsets).toEqual([]);
  expect(code.abi?.args).toMatchObject([
    { kind: 'memory', bytes: 0, access: 'write' },
    { kind: 'memory', bytes: 3, access: 'read' },
  ]);
});
