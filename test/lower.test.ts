import { describe, expect, it } from 'vitest';
import {
  bkeyFormatFromBytes,
  contractFor,
  disassemble,
  type Format,
  interpret,
  lower,
  referencePack,
  referenceUnpack,
  verify,
} from '../src/index.js';
import { randomBkeyFormat, randomBytes, randomFormat, seeded } from './random-formats.js';
import { type FormatVector, hex, unhex, vectors } from './vectors.js';

/** What the program makes of a record, run with every check there is. */
function run(
  format: Format,
  packed: Uint8Array,
  merge: boolean,
): { out: string; r0: bigint; unwritten: number } {
  const out = randomBytes(seeded(packed[0] ?? 0), format.unpackedBytes);
  const exact = packed.slice(0, format.packedBytes);
  const { r0, unwritten } = interpret(lower(format, { merge }), {
    args: [out, exact],
    contract: contractFor(format),
    strict: true,
  });
  return { out: hex(out), r0, unwritten: unwritten.length };
}

describe('a lowered format, in the interpreter with every check on, gives what the reference gives', () => {
  it.each(['formats.jsonl.gz', 'real_formats.jsonl.gz'])('for every key of %s, joined and not', (file) => {
    for (const { format: raw, keys } of vectors<FormatVector>(`bcachefs/${file}`)) {
      const format = bkeyFormatFromBytes(unhex(raw.raw));
      for (const { packed, unpacked } of keys) {
        for (const merge of [true, false])
          expect(run(format, unhex(packed), merge)).toEqual({ out: unpacked, r0: 0n, unwritten: 0 });
      }
    }
  });

  it.each([
    ['bcachefs keys', randomBkeyFormat],
    ['records of any kind', randomFormat],
  ])('for 5,000 random formats of %s, each of which verifies', (_, make) => {
    const random = seeded(1);
    for (let i = 0; i < 5000; i++) {
      const format = make(random);
      const packed = randomBytes(random, format.packedBytes);
      const want = { out: hex(referenceUnpack(format, packed)), r0: 0n, unwritten: 0 };
      for (const merge of [true, false]) {
        const text = () => disassemble(lower(format, { merge }));
        if (i % 5 === 0) verify(lower(format, { merge }), contractFor(format));
        const got = run(format, packed, merge);
        if (got.out !== want.out)
          expect.fail(`format ${i} gives ${got.out} instead of ${want.out}:\n${text()}`);
        expect(got).toEqual(want);
      }
    }
  });
});

it('packing what was unpacked gives a record that unpacks to the same, for 10,000 random formats', () => {
  const random = seeded(2);
  for (let i = 0; i < 10_000; i++) {
    const format = i % 2 === 0 ? randomBkeyFormat(random) : randomFormat(random);
    const unpacked = referenceUnpack(format, randomBytes(random, format.packedBytes));
    expect(hex(referenceUnpack(format, referencePack(format, unpacked)))).toBe(hex(unpacked));
  }
});

describe('the code that is chosen', () => {
  const bkey = (line: string) => disassemble(lower(bkeyFormatFromBytes(unhex(line))));
  const identity = `0506404020202040${'00'.repeat(48)}`;

  it('copies a key that is laid out like the unpacked one in five words', () => {
    expect(bkey(identity).match(/= \*\(u64/g)?.length).toBe(5);
    expect(bkey(identity).match(/\n/g)?.length).toBeLessThan(20);
  });

  it('never loads past the end of a one-word key', () => {
    const text = bkey(`0106080810080000${'00'.repeat(48)}`);
    for (const [, size, offset] of text.matchAll(/= \*\(u(\d+) \*\)\(r2 \+ (\d+)\)/g)) {
      expect(Number(offset) + Number(size) / 8).toBeLessThanOrEqual(8);
    }
  });
});
