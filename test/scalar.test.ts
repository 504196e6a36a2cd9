import { afterAll, describe, expect, test } from 'vitest';
import {
  assemble,
  CodeArena,
  type CompileOptions,
  type Contract,
  compileX64,
  contractFor,
  defineFormat,
  type Format,
  interpret,
  lower,
  referenceUnpack,
  verify,
} from '../src/index.js';
import { type Lifted, lift } from '../src/jit/lift.js';
import { assembleScalar } from '../src/jit/x64/scalar.js';
import { GuardedMemory } from './guarded.js';
import { type Random, randomBkeyFormat, randomBytes, randomFormat, seeded } from './random-formats.js';
import { contract, randomProgram } from './random-programs.js';
import { hex } from './vectors.js';
import { differences } from './x64-decoder.js';

const arena = new CodeArena();
afterAll(() => arena.dispose());

const [source, target] = [new GuardedMemory(4096), new GuardedMemory(4096)];
const EDGES = ['start', 'end'] as const;

/** What the code makes of a record, run at both ends of the memory; 'astray' if it wrote elsewhere. */
function unpacked(format: Format, options: CompileOptions, packed: Uint8Array): string[] {
  const verified = verify(lower(format), contractFor(format));
  const routine = arena.place(compileX64(verified, options));
  const results = EDGES.map((edge) => {
    const input = source.buffer(format.packedBytes, edge);
    const output = target.buffer(format.unpackedBytes, edge);
    input.set(packed);
    target.bytes.fill(0xa5);
    routine.call([output.length === 0 ? 0n : output, input.length === 0 ? 0n : input]);
    const written = hex(output);
    output.fill(0xa5);
    return target.bytes.every((byte) => byte === 0xa5) ? written : 'astray';
  });
  routine.free();
  return results;
}

describe('a format unpacks to what the reference gives, and no byte around either record is touched,', () => {
  test.each([
    ['bcachefs keys', randomBkeyFormat, 1000],
    ['records of any kind', randomFormat, 800],
  ] as const)('for random formats of %s', (_, make, count) => {
    const random = seeded(11);
    for (let i = 0; i < count; i++) {
      const format = make(random);
      const packed = randomBytes(random, format.packedBytes);
      const want = hex(referenceUnpack(format, packed));
      expect([i, unpacked(format, {}, packed)]).toEqual([i, [want, want]]);
      if (i % 10 === 0) expect([i, unpacked(format, { lift: false }, packed)]).toEqual([i, [want, want]]);
    }
  });
});

/** One field of every width at every bit, in records that end with it and in longer ones. */
function* singleFields(random: Random): Generator<Format> {
  for (const order of ['lsb0', 'msb0'] as const) {
    for (let bits = 1; bits <= 64; bits++) {
      for (let at = 0; at < 16; at++) {
        const packedBytes = Math.ceil((at + bits) / 8) + (random(2) === 0 ? 0 : random(9));
        const sizes = ([1, 2, 4, 8] as const).filter((size) => random(2) === 0 || size * 8 >= bits);
        const size = sizes[random(sizes.length)]!;
        const signed = random(3) === 0;
        const offset = [0n, 0n, 5n, -3n, 1n << 31n, 0x1234_5678_9abc_def0n][random(6)]!;
        const fields = [{ name: 'f', bits, at, signed, offset, to: { byte: 0, size } }];
        const rest = [{ value: 0n, to: { byte: size, size: 4 as const } }];
        const constants = random(2) === 0 ? rest : [];
        const unpackedBytes = size + (constants.length > 0 ? 4 : 0);
        yield defineFormat({ packedBytes, unpackedBytes, order, fields, constants });
      }
    }
  }
}

test('so does one field of every width at every place, in either byte order', () => {
  const random = seeded(12);
  for (const format of singleFields(random)) {
    const packed = randomBytes(random, format.packedBytes);
    const want = hex(referenceUnpack(format, packed));
    expect([format.fields[0], unpacked(format, {}, packed)]).toEqual([format.fields[0], [want, want]]);
  }
});

test('a random program leaves the memory as the interpreter does', () => {
  const random = seeded(13);
  let count = 0;
  for (let i = 0; i < 3000; i++) {
    const verified = verify(randomProgram(random), contract);
    if (!lift(verified)) continue;
    count++;
    const [packed, before] = [randomBytes(random, 24), randomBytes(random, 24)];
    const expected = before.slice();
    const { r0 } = interpret(verified.program, { args: [expected, packed] });
    const routine = arena.place(compileX64(verified));
    for (const edge of EDGES) {
      const [input, output] = [source.buffer(24, edge), target.buffer(24, edge)];
      input.set(packed);
      output.set(before);
      expect([i, routine.call([output, input]), hex(output)]).toEqual([i, r0, hex(expected)]);
    }
    routine.free();
  }
  expect(count).toBeGreaterThan(600);
});

test('the bytes are the instructions that were meant', () => {
  const random = seeded(14);
  for (let i = 0; i < 500; i++) {
    const format = i % 2 === 0 ? randomBkeyFormat(random) : randomFormat(random);
    const form = lift(verify(lower(format), contractFor(format)));
    if (!form) continue;
    const { bytes, emitted } = assembleScalar(form as Lifted);
    expect([i, differences(bytes, emitted)]).toEqual([i, []]);
  }
});

describe('what is compiled instruction by instruction', () => {
  const source = 'r3 = *(u64 *)(r2 + 0)\n*(u64 *)(r1 + 0) = r3\nr0 = 0\nexit';
  const code = (given: Contract, options: CompileOptions = {}) =>
    compileX64(verify(assemble(source), given), options);
  const [out, packed] = contract.args;

  test('is told by its map of offsets, which lifted code has not', () => {
    expect(code(contract).offsets).toEqual([]);
    expect(code(contract, { lift: false }).offsets).toEqual([0, 3, 6, 8]);
  });

  test('is what works on memory that may overlap, or is out of reach of 32-bit displacements', () => {
    const far: Contract = { ...contract, args: [out, { kind: 'memory', bytes: 2 ** 31, access: 'read' }] };
    const near: Contract = { ...contract, args: [out, packed], disjoint: false };
    for (const given of [far, near]) expect(code(given).offsets).toEqual([0, 3, 6, 8]);
  });
});
