import { describe, expect, it } from 'vitest';
import {
  bkeyFormat,
  bkeyFormatFromBytes,
  defineFormat,
  FormatError,
  type FormatSpec,
  referencePack,
  referenceUnpack,
} from '../src/index.js';
import { type FormatVector, hex, unhex, vectors } from './vectors.js';

const byte0 = { byte: 0, size: 1 } as const;
const record = (spec: Partial<FormatSpec>): FormatSpec => ({
  packedBytes: 2,
  unpackedBytes: 1,
  fields: [],
  ...spec,
});

function failure(make: () => unknown): FormatError {
  try {
    make();
  } catch (error) {
    if (error instanceof FormatError) return error;
    throw error;
  }
  return expect.fail('it was accepted');
}

describe('defineFormat refuses what is not legal, naming the field', () => {
  const field = (change: object) => record({ fields: [{ name: 'f', bits: 8, at: 0, to: byte0, ...change }] });
  const cases: [title: string, spec: unknown, code: string, says: RegExp][] = [
    ['no object at all', undefined, 'bad_argument', /described by an object/],
    ['a negative size', record({ packedBytes: -1 }), 'bad_argument', /packedBytes must be/],
    ['a size that is no number', record({ unpackedBytes: NaN }), 'bad_argument', /unpackedBytes must be/],
    ['a record too large for displacements', record({ packedBytes: 32769 }), 'bad_argument', /0 to 32768/],
    ['fields that are no array', record({ fields: {} as never }), 'bad_argument', /fields must be an array/],
    ['a field without a name', field({ name: '' }), 'bad_argument', /fields\[0\] needs a name/],
    ['65 bits', field({ bits: 65 }), 'bad_argument', /field f: bits must be/],
    ['half a bit', field({ bits: 0.5 }), 'bad_argument', /field f: bits must be/],
    ['a field past the packed record', field({ at: 9 }), 'source_range', /bits 9\.\.17 .* ends at bit 16/],
    ['an empty field past the packed record', field({ bits: 0, at: 17 }), 'source_range', /bits 17\.\.17/],
    [
      'a member past the unpacked record',
      field({ to: { byte: 0, size: 2 } }),
      'destination_range',
      /bytes 0\.\.2/,
    ],
    ['a member of three bytes', field({ to: { byte: 0, size: 3 } }), 'bad_argument', /1, 2, 4 or 8/],
    [
      'bits outside of the member',
      field({ to: { byte: 0, size: 1, bit: 4, bits: 5 } }),
      'bad_argument',
      /to\.bits must be 1 to 4/,
    ],
    ['no destination', field({ to: undefined }), 'bad_argument', /field f: needs a destination/],
    ['an offset that is no bigint', field({ offset: 1 }), 'bad_argument', /field f: offset must be a bigint/],
    ['an offset of 2^64', field({ offset: 1n << 64n }), 'bad_argument', /2\^64 - 1/],
    ['an unknown bit order', field({ order: 'middle' }), 'bad_argument', /'lsb0' or 'msb0'/],
    [
      'a constant that does not fit',
      record({ constants: [{ value: 256n, to: byte0 }] }),
      'bad_argument',
      /constants\[0\]: value .* 8 bits/,
    ],
    [
      'two writers of one bit',
      record({
        fields: [{ name: 'f', bits: 8, at: 0, to: byte0 }],
        constants: [{ value: 0n, to: { byte: 0, size: 1, bit: 7 } }],
      }),
      'overlap',
      /constants\[0\] and field f both write bit 7 of byte 0/,
    ],
    [
      'a byte that nothing writes',
      record({ unpackedBytes: 2, fields: [{ name: 'f', bits: 8, at: 0, to: byte0 }] }),
      'uncovered_byte',
      /byte 1 .* constant 0/,
    ],
  ];
  it.each(cases)('%s', (_, spec, code, says) => {
    const error = failure(() => defineFormat(spec as FormatSpec));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(says);
  });

  it('and an imitation of a format is refused everywhere', () => {
    const real = defineFormat(record({ fields: [{ name: 'f', bits: 8, at: 0, to: byte0 }] }));
    expect(failure(() => referenceUnpack({ ...real } as never, new Uint8Array(2))).message).toMatch(
      /not a format/,
    );
    expect(Object.isFrozen(real) && Object.isFrozen(real.fields) && Object.isFrozen(real.fields[0]!.to)).toBe(
      true,
    );
  });
});

describe('one record, by hand', () => {
  const cases: [title: string, spec: FormatSpec, packed: string, unpacked: string][] = [
    [
      'an IPv4 header: version, length and total length in network order',
      {
        packedBytes: 4,
        unpackedBytes: 4,
        order: 'msb0',
        fields: [
          { name: 'version', bits: 4, at: 0, to: { byte: 0, size: 1 } },
          { name: 'ihl', bits: 4, at: 4, to: { byte: 1, size: 1 } },
          { name: 'length', bits: 16, at: 16, to: { byte: 2, size: 2 } },
        ],
      },
      '45000534',
      '04053405',
    ],
    [
      'a signed 12-bit field plus an offset',
      {
        packedBytes: 2,
        unpackedBytes: 4,
        fields: [{ name: 't', bits: 12, at: 4, signed: true, offset: -1n, to: { byte: 0, size: 4 } }],
      },
      'f07f',
      'fe070000',
    ],
    [
      'its most negative value wraps around nothing',
      {
        packedBytes: 2,
        unpackedBytes: 4,
        fields: [{ name: 't', bits: 12, at: 4, signed: true, offset: -1n, to: { byte: 0, size: 4 } }],
      },
      '0080',
      'fff7ffff',
    ],
    [
      'a sum that wraps to the width of its bit range',
      {
        packedBytes: 1,
        unpackedBytes: 1,
        fields: [{ name: 'low', bits: 4, at: 0, offset: 9n, to: { byte: 0, size: 1, bit: 0, bits: 4 } }],
        constants: [{ value: 0xan, to: { byte: 0, size: 1, bit: 4, bits: 4 } }],
      },
      '0f',
      'a8',
    ],
    [
      '64 bits across nine bytes',
      {
        packedBytes: 9,
        unpackedBytes: 8,
        fields: [{ name: 'wide', bits: 64, at: 3, to: { byte: 0, size: 8 } }],
      },
      'f8ffffffffffffff07',
      'ffffffffffffffff',
    ],
  ];
  it.each(cases)('%s', (_, spec, packed, unpacked) => {
    const format = defineFormat(spec);
    expect(hex(referenceUnpack(format, unhex(packed)))).toBe(unpacked);
    expect(hex(referenceUnpack(format, referencePack(format, unhex(unpacked))))).toBe(unpacked);
  });

  it('a value that the format cannot express is refused, naming the field', () => {
    const format = bkeyFormat({
      keyU64s: 1,
      bitsPerField: [8, 8, 0, 0, 0, 0],
      fieldOffset: [100n, 0n, 7n, 0n, 0n, 0n],
    });
    const key = referenceUnpack(format, unhex('0100050000000000'));
    key[24] = 255;
    key[25] = 1;
    const error = failure(() => referencePack(format, key));
    expect(error).toMatchObject({ code: 'unpackable', where: { field: 'offset', byte: 25 } });
  });
});

describe('bcachefs key formats', () => {
  it('are refused for the reason that bcachefs names', () => {
    const invalid = vectors<{ format: { raw: string }; code: string; reason: string }>(
      'bcachefs/invalid_formats.jsonl.gz',
    );
    for (const { format, code, reason } of invalid) {
      const error = failure(() => bkeyFormatFromBytes(unhex(format.raw)));
      expect(error).toMatchObject({ code, message: reason });
    }
    expect(invalid.length).toBe(100);
  });

  it.each([
    ['bits and offsets missing', {}, /keyU64s must be/],
    ['a fraction of a word', { keyU64s: 1.5, bitsPerField: [], fieldOffset: [] }, /keyU64s must be/],
    [
      'offsets that are numbers',
      { keyU64s: 1, bitsPerField: [0, 0, 0, 0, 0, 0], fieldOffset: [0, 0, 0, 0, 0, 0] },
      /fieldOffset/,
    ],
    [
      'five fields',
      { keyU64s: 1, bitsPerField: [0, 0, 0, 0, 0], fieldOffset: [0n, 0n, 0n, 0n, 0n] },
      /got 5, should be 6/,
    ],
  ])('are refused with %s', (_, spec, says) => {
    expect(failure(() => bkeyFormat(spec as never)).message).toMatch(says);
  });

  it('need 56 bytes', () => {
    expect(failure(() => bkeyFormatFromBytes(new Uint8Array(55))).message).toMatch(/56 bytes, got 55/);
  });

  it.each([
    ['formats.jsonl.gz', 1000],
    ['real_formats.jsonl.gz', 1341],
  ])('%s: the reference unpacks and packs every key as bcachefs does', (file, count) => {
    const formats = vectors<FormatVector>(`bcachefs/${file}`);
    for (const { format: raw, keys } of formats) {
      const format = bkeyFormatFromBytes(unhex(raw.raw));
      for (const { packed, unpacked } of keys) {
        expect(hex(referenceUnpack(format, unhex(packed)))).toBe(unpacked);
        expect(hex(referencePack(format, unhex(unpacked)))).toBe(packed);
      }
    }
    expect(formats.length).toBe(count);
  });
});
