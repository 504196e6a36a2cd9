import { describe, expect, it } from 'vitest';
import { SharedEngines } from '../src/engines/shared.js';
import {
  CodeArena,
  createUnpacker,
  defineFormat,
  type EngineName,
  type Format,
  type FormatSpec,
  referenceUnpack,
  type Tier,
  type Unpacker,
} from '../src/index.js';
import type { Engine } from '../src/unpacker.js';
import { randomBkeyFormat, randomBytes, randomFormat, seeded } from './random-formats.js';
import { hex } from './vectors.js';

/** The same format again, as another object. */
function copyOf({ name, packedBytes, unpackedBytes, fields, constants }: Format, changed = {}): Format {
  return defineFormat({ name, packedBytes, unpackedBytes, fields, constants, ...changed } as FormatSpec);
}

const SPEC: FormatSpec = {
  packedBytes: 8,
  unpackedBytes: 8,
  fields: [
    { name: 'low', bits: 12, at: 3, offset: 5n, to: { byte: 0, size: 4 } },
    { name: 'high', bits: 12, at: 17, to: { byte: 4, size: 2 } },
  ],
  constants: [{ value: 7n, to: { byte: 6, size: 2 } }],
};
const FORMAT = defineFormat(SPEC);

describe('unpackers of equal formats', () => {
  it.each(['bpf', 'native'] as const)('have one routine between them (%s)', (engine) => {
    const arena = new CodeArena();
    const first = createUnpacker(FORMAT, { engine, arena });
    const stats = arena.stats();
    const others = [FORMAT, copyOf(FORMAT), copyOf(FORMAT, { name: 'another' })].map((format) => {
      const unpacker = createUnpacker(format, { engine, arena });
      expect(unpacker.format).toBe(format);
      return unpacker;
    });
    expect(arena.stats()).toEqual(stats);
    const packed = randomBytes(seeded(1), 8);
    const want = hex(referenceUnpack(FORMAT, packed));
    for (const unpacker of [first, ...others]) {
      expect(hex(unpacker.unpack(packed))).toBe(want);
      unpacker.dispose();
      unpacker.dispose();
    }
    expect(arena.stats().routines).toBe(stats.routines - 1);
    arena.dispose();
  });

  it('have loops of the format between them', () => {
    const arena = new CodeArena();
    const packed = new Uint8Array(16 * 300);
    const format = randomBkeyFormat(seeded(3));
    const tier = createUnpacker(format, { arena }).tier as Tier;
    const [one, other] = [createUnpacker(format, { arena, tier }), createUnpacker(format, { arena, tier })];
    one.unpackMany(packed.slice(0, 300 * format.packedBytes), 300, { stride: 1 });
    const stats = arena.stats();
    other.unpackMany(packed, 300, { stride: 1 });
    expect(arena.stats()).toEqual(stats);
    arena.dispose();
  });

  it('have their own in each arena, and for each engine and tier', () => {
    const arenas = [new CodeArena(), new CodeArena()];
    const options = [{}, { engine: 'native' as const }, { tier: 'scalar' as const }];
    for (const arena of arenas) {
      createUnpacker(copyOf(FORMAT, { packedBytes: 9 }), { arena });
      for (const each of options) {
        const { routines } = arena.stats();
        createUnpacker(FORMAT, { arena, ...each });
        expect(arena.stats().routines).toBe(routines + 1);
      }
    }
    for (const arena of arenas) arena.dispose();
  });

  it('have none in an arena that was disposed of', () => {
    const arena = new CodeArena();
    const unpacker = createUnpacker(FORMAT, { arena });
    arena.dispose();
    for (let i = 0; i < 2; i++)
      expect(() => createUnpacker(FORMAT, { arena })).toThrow(
        expect.objectContaining({ code: 'A-DISPOSED' }) as Error,
      );
    unpacker.dispose();
    expect(() => createUnpacker(FORMAT, { arena })).toThrow('disposed');
  });

  it('have in a sealed arena what lives there', () => {
    const arena = new CodeArena();
    const unpacker = createUnpacker(FORMAT, { arena });
    arena.seal();
    const other = createUnpacker(copyOf(FORMAT), { arena });
    unpacker.dispose();
    expect(hex(other.unpack(new Uint8Array(8)))).toBe(hex(referenceUnpack(FORMAT, new Uint8Array(8))));
    other.dispose();
    expect(() => createUnpacker(FORMAT, { arena, engine: 'bpf' })).toThrow(
      expect.objectContaining({ code: 'E-SEALED' }) as Error,
    );
    arena.dispose();
  });
});

const [low, high] = SPEC.fields as [FormatSpec['fields'][number], FormatSpec['fields'][number]];
const CHANGES: readonly [string, Partial<FormatSpec>][] = [
  ['bits', { fields: [{ ...low, bits: 13 }, high] }],
  ['at', { fields: [{ ...low, at: 4 }, high] }],
  ['order', { fields: [{ ...low, order: 'msb0' }, high] }],
  ['signed', { fields: [{ ...low, signed: true }, high] }],
  ['offset', { fields: [{ ...low, offset: 1n << 40n }, high] }],
  [
    'destination',
    {
      fields: [low, { ...high, to: { byte: 6, size: 2 } }],
      constants: [{ value: 7n, to: { byte: 4, size: 2 } }],
    },
  ],
  ['bits of a destination', { fields: [low, { ...high, to: { byte: 4, size: 2, bits: 15 } }] }],
  ['value of a constant', { constants: [{ value: 7n << 8n, to: { byte: 6, size: 2 } }] }],
  ['packed length', { packedBytes: 9 }],
  [
    'unpacked length',
    { unpackedBytes: 9, constants: [...SPEC.constants!, { value: 0n, to: { byte: 8, size: 1 } }] },
  ],
  ['name of a field', { fields: [{ ...low, name: 'lower' }, high] }],
];

it.each(CHANGES)('a format with another %s has a routine of its own', (_, change) => {
  const arena = new CodeArena();
  createUnpacker(FORMAT, { arena });
  const { routines } = arena.stats();
  const format = defineFormat({ ...SPEC, ...change });
  const packed = randomBytes(seeded(2), format.packedBytes);
  const unpacker = createUnpacker(format, { arena });
  expect(arena.stats().routines).toBe(routines + 1);
  expect(hex(unpacker.unpack(packed))).toBe(hex(referenceUnpack(format, packed)));
  arena.dispose();
});

it('whatever is made and disposed of, every unpacker unpacks its format, and an arena ends as it began', () => {
  const random = seeded(7);
  const arena = new CodeArena();
  const formats = Array.from({ length: 40 }, (_, i) =>
    i % 2 ? randomBkeyFormat(random) : randomFormat(random),
  );
  const first = createUnpacker(formats[0]!, { arena, engine: 'native' });
  const { routines, codeBytes } = arena.stats();
  const live: Unpacker[] = [];
  for (let step = 0; step < 4000; step++) {
    const format = formats[random(formats.length)]!;
    const options = { arena, engine: (['bpf', 'native'] as const)[random(2)]! };
    if (random(2) === 0) live.push(createUnpacker(random(2) ? format : sameAs(format), options));
    else if (live.length > 0) live.splice(random(live.length), 1)[0]!.dispose();
    const any = live[random(Math.max(1, live.length))];
    if (!any) continue;
    const packed = randomBytes(random, any.format.packedBytes);
    expect(hex(any.unpack(packed))).toBe(hex(referenceUnpack(any.format, packed)));
  }
  for (const unpacker of live) unpacker.dispose();
  expect(arena.stats()).toMatchObject({ routines, codeBytes });
  first.dispose();
  arena.dispose();
});

const sameAs = (format: Format): Format => (format.keyU64s === undefined ? copyOf(format) : format);

it('an arena of the process keeps so many engines that nobody uses, those that were used last', () => {
  const random = seeded(9);
  const formats = Array.from({ length: 12 }, () => randomFormat(random));
  const engines = new SharedEngines(4);
  const made: { format: Format; disposed: boolean }[] = [];
  const idle: Format[] = [];
  const users = new Map<Format, Engine[]>();
  const make = (format: Format) => () => {
    const one = { format, disposed: false };
    made.push(one);
    const dispose = () => {
      expect(one.disposed).toBe(false);
      one.disposed = true;
    };
    return { engine: { name: 'bpf' as EngineName, dispose } as Engine, isPlaced: () => true };
  };
  for (let step = 0; step < 3000; step++) {
    const format = formats[random(formats.length)]!;
    const held = users.get(format) ?? [];
    users.set(format, held);
    if (random(2) === 0) {
      const known = held.length > 0 || idle.includes(format);
      const count = made.length;
      held.push(engines.take(format, 'bpf', undefined, make(format)));
      expect(made.length - count).toBe(known ? 0 : 1);
      if (idle.includes(format)) idle.splice(idle.indexOf(format), 1);
    } else if (held.length > 0) {
      held.pop()!.dispose();
      if (held.length === 0 && idle.push(format) > 4) idle.shift();
    }
    const alive = made.filter(({ disposed }) => !disposed).map((one) => one.format);
    const wanted = formats.filter((one) => users.get(one)?.length || idle.includes(one));
    expect(new Set(alive)).toEqual(new Set(wanted));
    expect(alive.length).toBe(wanted.length);
  }
});
