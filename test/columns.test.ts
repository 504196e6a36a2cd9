import { afterAll, describe, expect, it, test } from 'vitest';
import { contractFor } from '../src/bpf/contract.js';
import { lower } from '../src/bpf/lower.js';
import { LazyLoop } from '../src/exec/bulk.js';
import { ColumnLoops } from '../src/exec/columns.js';
import { cpuTier, runsOn } from '../src/exec/cpu.js';
import { columnOf } from '../src/format/column.js';
import {
  CodeArena,
  type Column,
  createUnpacker,
  defineFormat,
  type Format,
  referenceUnpack,
  TIERS,
  type Unpacker,
  type UnpackerOptions,
} from '../src/index.js';
import { lift } from '../src/jit/lift.js';
import { columnLoop } from '../src/jit/x64/columns.js';
import { verify } from '../src/verifier/verify.js';
import { ENGINES_HERE, unpacks } from './engines.js';
import { GuardedMemory } from './guarded.js';
import { type Random, randomBkeyFormat, randomBytes, randomFormat, seeded } from './random-formats.js';

const arena = new CodeArena();
afterAll(() => arena.dispose());
const HERE = TIERS.filter((tier) => runsOn(tier, cpuTier()));
const missing = TIERS.filter((tier) => !HERE.includes(tier));
if (missing.length > 0)
  console.warn(`NOT TESTED: columns by ${missing.join(', ')}, which this CPU has not got`);

const input = new GuardedMemory(2 ** 18);
const outputs = Array.from({ length: 64 }, () => new GuardedMemory(2 ** 12));

/** What a destination's bits say, in the plainest words there are. */
function wantedOf(format: Format, packed: Uint8Array, count: number, stride: number): Map<string, bigint[]> {
  const records = Array.from({ length: count }, (_, i) => {
    const record = referenceUnpack(format, packed.subarray(i * stride));
    return BigInt(`0x0${Buffer.from(record.toReversed()).toString('hex')}`);
  });
  return new Map(
    format.fields.map(({ name, signed, to }) => [
      name,
      records.map((record) => {
        const bits = record >> BigInt(to.byte * 8 + to.bit);
        return signed ? BigInt.asIntN(to.bits, bits) : BigInt.asUintN(to.bits, bits);
      }),
    ]),
  );
}

const valuesOf = (column: Column): bigint[] => Array.from(column as ArrayLike<number | bigint>, BigInt);

const FORMATS: readonly ((random: Random) => Format)[] = [randomBkeyFormat, randomFormat];
const lifted = (format: Format) => lift(verify(lower(format), contractFor(format)));

/** A stride that suits the format, or any other. */
function randomStride(random: Random, { packedBytes }: Format): number {
  if (random(3) === 0) return Math.max(1, packedBytes);
  return 1 + random(random(2) ? 20 : 2 * packedBytes + 8);
}

describe.each(HERE)('by its own loop, tier %s,', (tier) => {
  test('columns of any format, at any stride and count, are right up to the last byte that may be touched', () => {
    let own = 0;
    for (let seed = 0; seed < 200; seed++) {
      const random = seeded(seed);
      const format = FORMATS[seed % 2]!(random);
      const form = lifted(format);
      if (!form || format.fields.length === 0) continue;
      const specs = format.fields.filter(() => random(4) > 0).map(columnOf);
      for (let run = 0; run < 4; run++) {
        const stride = randomStride(random, format);
        const loop = columnLoop(form, specs, stride, tier);
        if (!loop) continue;
        own++;
        const count = 1 + random(70);
        const where = random(2) ? 'start' : 'end';
        const packed = input.buffer((count - 1) * stride + format.packedBytes, where);
        packed.set(randomBytes(random, packed.length));
        const columns = specs.map(({ bytes }, i) => outputs[i]!.buffer(count * bytes, where));
        for (const { bytes } of outputs.slice(0, specs.length)) bytes.fill(0x5a);
        const loops = new ColumnLoops(arena);
        const lazy = () => new LazyLoop(arena, () => loop, 1);
        expect(loops.run([], lazy, { packed, count, stride, columns })).toBe(true);
        loops.free();
        const want = wantedOf(format, packed, count, stride);
        specs.forEach(({ name, bytes }, i) => {
          const is = Array.from({ length: count }, (_, at) =>
            BigInt(
              `0x${Buffer.from(columns[i]!.slice(at * bytes, (at + 1) * bytes).toReversed()).toString('hex')}`,
            ),
          );
          const all = want.get(name)!.map((value) => BigInt.asUintN(bytes * 8, value));
          expect([seed, stride, count, name, is]).toEqual([seed, stride, count, name, all]);
          columns[i]!.fill(0x5a);
          expect([seed, name, outputs[i]!.bytes.every((byte) => byte === 0x5a)]).toEqual([seed, name, true]);
        });
      }
    }
    expect(own).toBeGreaterThan(450);
  });
});

/** Each engine, and the engine 'bpf' with each tier that is here. */
const LANES: readonly UnpackerOptions[] = [
  ...ENGINES_HERE.map((engine) => ({ engine })),
  ...HERE.map((tier) => ({ engine: 'bpf' as const, tier })),
];
const FRAME = defineFormat({
  name: 'frame',
  packedBytes: 13,
  unpackedBytes: 24,
  fields: [
    { name: 'low', bits: 4, at: 0, to: { byte: 0, size: 1, bits: 4 } },
    { name: 'high', bits: 4, at: 4, to: { byte: 0, size: 1, bit: 4 } },
    { name: 'temperature', bits: 12, at: 8, signed: true, to: { byte: 1, size: 2, bits: 12 } },
    { name: 'flags', bits: 3, at: 20, to: { byte: 2, size: 1, bit: 4, bits: 3 } },
    { name: 'time', bits: 62, at: 25, offset: -7n, to: { byte: 3, size: 8 } },
    { name: 'port', bits: 16, at: 88, order: 'msb0', to: { byte: 11, size: 2 } },
    { name: 'drift', bits: 7, at: 87, signed: true, offset: 1n << 40n, to: { byte: 13, size: 8 } },
    { name: 'wide', bits: 20, at: 30, to: { byte: 21, size: 2, bits: 16 } },
    { name: '__proto__', bits: 8, at: 0, to: { byte: 23, size: 1 } },
  ],
});

const open: Unpacker[] = [];
function unpackerOf(format: Format, options: UnpackerOptions): Unpacker {
  const unpacker = createUnpacker(format, options);
  open.push(unpacker);
  return unpacker;
}
afterAll(() => {
  for (const unpacker of open) unpacker.dispose();
});

describe.each(LANES)('unpackColumns, engine $engine, tier $tier,', (options) => {
  it('gives every field as an array that suits its destination', () => {
    const unpacker = unpackerOf(FRAME, options);
    const random = seeded(7);
    for (const [count, stride] of [
      [0, 13],
      [1, 13],
      [100, 13],
      [41, 1],
      [37, 40],
    ] as const) {
      const packed = randomBytes(random, count === 0 ? 0 : (count - 1) * stride + 13);
      const columns = unpacker.unpackColumns(packed, count, { stride });
      const kinds = Object.entries(columns).map(([name, column]) => [name, column.constructor]);
      expect(kinds).toEqual([
        ['low', Uint8Array],
        ['high', Uint8Array],
        ['temperature', Int16Array],
        ['flags', Uint8Array],
        ['time', BigUint64Array],
        ['port', Uint16Array],
        ['drift', BigInt64Array],
        ['wide', Uint16Array],
        ['__proto__', Uint8Array],
      ]);
      const want = wantedOf(FRAME, packed, count, stride);
      for (const [name, column] of Object.entries(columns))
        expect([count, name, valuesOf(column)]).toEqual([count, name, want.get(name)]);
    }
  });

  it('unpacks random formats as the reference does', () => {
    for (let seed = 0; seed < 40; seed++) {
      const random = seeded(seed);
      const format = FORMATS[seed % 2]!(random);
      if (!unpacks(options.engine!, format)) continue;
      const unpacker = createUnpacker(format, options);
      const stride = randomStride(random, format);
      const count = 1 + random(40);
      const packed = randomBytes(random, (count - 1) * stride + format.packedBytes);
      const columns = unpacker.unpackColumns(packed, count, { stride });
      const want = wantedOf(format, packed, count, stride);
      expect(Object.keys(columns)).toEqual([...want.keys()]);
      for (const [name, column] of Object.entries(columns))
        expect([seed, name, valuesOf(column)]).toEqual([seed, name, want.get(name)]);
      unpacker.dispose();
    }
  });

  it('fills arrays that are given, as far as there are records, and leaves the rest alone', () => {
    const unpacker = unpackerOf(FRAME, options);
    const packed = randomBytes(seeded(3), 13 * 20);
    const port = new Uint16Array(30).fill(0x5a5a);
    const time = new BigUint64Array(new SharedArrayBuffer(8 * 40), 80, 20);
    const given = { port: port.subarray(1, 22), time };
    const columns = unpacker.unpackColumns(packed, 20, { columns: ['time', 'low', 'port'], out: given });
    expect(Object.keys(columns)).toEqual(['time', 'low', 'port']);
    const want = wantedOf(FRAME, packed, 20, 13);
    for (const [name, column] of Object.entries(columns)) expect(valuesOf(column)).toEqual(want.get(name));
    expect([...port]).toEqual([0x5a5a, ...columns.port!, ...new Array(9).fill(0x5a5a)]);
    expect(columns.time!.buffer).toBe(time.buffer);
    expect(unpacker.unpackColumns(packed, 20, { columns: [] })).toEqual({});
  });

  it('goes by the bytes there are, whatever an array says of itself, and runs no code of it', () => {
    const unpacker = unpackerOf(FRAME, options);
    const packed = randomBytes(seeded(9), 13 * 50);
    const lies = <T extends Column>(array: T): T => {
      for (const name of ['constructor', 'buffer', 'byteOffset', 'byteLength', 'length', 'subarray'])
        Object.defineProperty(array, name, { get: () => expect.fail(`${name} was asked for`) });
      return array;
    };
    const around = new Uint16Array(52).fill(0x5a5a);
    const port = new Uint16Array(around.buffer, 2, 50);
    unpacker.unpackColumns(lies(packed.slice()), 50, {
      columns: ['port', 'low'],
      out: { port: lies(port), low: lies(new Uint8Array(60)) },
    });
    const want = wantedOf(FRAME, packed, 50, 13).get('port')!;
    expect(Array.from(around, BigInt)).toEqual([0x5a5an, ...want, 0x5a5an]);
    const short = Object.defineProperty(new Uint16Array(1), 'length', { value: 50 });
    expect(() => unpacker.unpackColumns(packed, 50, { out: { port: short } })).toThrow(/has 1 elements/);
  });

  const both = new Uint8Array(260);
  it.each<[string, (unpacker: Unpacker) => unknown, RegExp]>([
    ['a short buffer', (u) => u.unpackColumns(new Uint8Array(25), 2), /packed has 25 bytes, 26 are needed/],
    ['no buffer', (u) => u.unpackColumns([1] as never, 0), /packed must be a Uint8Array/],
    ['half a record', (u) => u.unpackColumns(both, 0.5), /count must be/],
    ['a stride of 0', (u) => u.unpackColumns(both, 1, { stride: 0 }), /stride must be/],
    [
      'an unknown name',
      (u) => u.unpackColumns(both, 1, { columns: ['x'] }),
      /no field of frame is named x; it has low/,
    ],
    [
      'a name that is none',
      (u) => u.unpackColumns(both, 1, { columns: [7 as never] }),
      /no field .* named 7/,
    ],
    ['a name twice', (u) => u.unpackColumns(both, 1, { columns: ['low', 'low'] }), /low is wanted twice/],
    [
      'names in a string',
      (u) => u.unpackColumns(both, 1, { columns: 'low' as never }),
      /columns must be an array/,
    ],
    ['out that is none', (u) => u.unpackColumns(both, 1, { out: 5 as never }), /out must be an object/],
    [
      'a wrong kind',
      (u) => u.unpackColumns(both, 1, { out: { low: new Int8Array(9) } }),
      /out\.low must be a Uint8Array/,
    ],
    [
      'clamped bytes',
      (u) => u.unpackColumns(both, 1, { out: { low: new Uint8ClampedArray(9) as never } }),
      /out\.low must/,
    ],
    [
      'short columns',
      (u) => u.unpackColumns(both, 2, { out: { port: new Uint16Array(1) } }),
      /out\.port has 1 elements, 2/,
    ],
    [
      'the packed bytes',
      (u) => u.unpackColumns(both, 2, { out: { low: both.subarray(20) } }),
      /overlaps the packed/,
    ],
    [
      'one array twice',
      (u) =>
        u.unpackColumns(both, 2, {
          out: { low: new Uint8Array(both.buffer, 100, 2), high: new Uint8Array(both.buffer, 101) },
        }),
      /overlaps/,
    ],
    [
      'a detached column',
      (u) => u.unpackColumns(both, 1, { out: { low: detached() } }),
      /out\.low is detached/,
    ],
  ])('refuses %s', (_, call, says) => {
    expect(() => call(unpackerOf(FRAME, options))).toThrow(says);
  });

  it('reads every option once, and before anything is looked at', () => {
    const packed = new Uint8Array(13);
    const reads: string[] = [];
    const once = <T extends object>(target: T): T =>
      new Proxy(target, {
        get(from, name) {
          reads.push(String(name));
          if (name === 'low') structuredClone(packed.buffer, { transfer: [packed.buffer] });
          return Reflect.get(from, name);
        },
      });
    const hostile = once({ stride: 13, columns: ['low', 'port'], out: once({ low: new Uint8Array(1) }) });
    expect(() => unpackerOf(FRAME, options).unpackColumns(packed, 1, hostile)).toThrow(
      /packed is detached|has 0 bytes/,
    );
    expect(reads.sort()).toEqual(['columns', 'low', 'out', 'stride']);
  });
});

function detached(): Uint8Array {
  const gone = new Uint8Array(8);
  structuredClone(gone.buffer, { transfer: [gone.buffer] });
  return gone;
}

it.each(HERE)('records so far apart that no loop reaches them have columns, too, tier %s', (tier) => {
  const stride = 2 ** 24 + 1;
  const packed = new Uint8Array(stride + 13).fill(0x5d);
  const columns = unpackerOf(FRAME, { engine: 'bpf', tier }).unpackColumns(packed, 2, { stride });
  const want = wantedOf(FRAME, packed, 2, stride);
  for (const [name, column] of Object.entries(columns)) expect(valuesOf(column)).toEqual(want.get(name));
});

it('two fields of one name cannot both be columns, and other fields can', () => {
  const field = (at: number) => ({ name: 'twin', bits: 8, at, to: { byte: at / 8, size: 1 as const } });
  const format = defineFormat({
    packedBytes: 3,
    unpackedBytes: 3,
    fields: [field(0), field(8), { ...field(16), name: 'other' }],
  });
  const unpacker = unpackerOf(format, { engine: 'reference' });
  expect(() => unpacker.unpackColumns(Uint8Array.of(1, 2, 3), 1)).toThrow(
    /several fields of record are named twin/,
  );
  expect(unpacker.unpackColumns(Uint8Array.of(1, 2, 3), 1, { columns: ['other'] })).toEqual({
    other: Uint8Array.of(3),
  });
});

it.skipIf(!HERE.includes('avx2'))(
  'loops for columns are made when many records have gone by, and the last few are kept',
  () => {
    const home = new CodeArena();
    const unpacker = createUnpacker(FRAME, { arena: home });
    const before = home.stats().routines;
    const packed = new Uint8Array(13 * 6000);
    unpacker.unpackColumns(packed, 6000);
    expect(home.stats().routines).toBe(before);
    unpacker.unpackColumns(packed, 6000);
    expect(home.stats().routines).toBe(before + 1);
    for (let stride = 1; stride < 13; stride++) unpacker.unpackColumns(packed, 6000, { stride });
    for (let stride = 1; stride < 13; stride++) unpacker.unpackColumns(packed, 6000, { stride });
    const eager = createUnpacker(FRAME, { arena: home, tier: 'avx2' });
    const made = home.stats().routines;
    for (let stride = 1; stride < 13; stride++) eager.unpackColumns(packed, 60, { stride });
    expect(home.stats().routines).toBe(made + 4);
    eager.dispose();
    unpacker.dispose();
    expect(home.stats().routines).toBe(before - 1);
    home.dispose();
  },
);
