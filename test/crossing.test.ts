// The way from JavaScript into machine code: what is passed is what was given, nothing of it is kept, and what cannot be passed is an
// error that says so.

import { afterAll, describe, expect, it } from 'vitest';
import {
  assemble,
  bkeyFormat,
  CodeArena,
  compileX64,
  createUnpacker,
  ENGINES,
  emitNative,
  referenceUnpack,
  verify,
} from '../src/index.js';
import { inChild } from './children.js';
import { randomBytes, seeded } from './random-formats.js';
import { hex } from './vectors.js';

const format = bkeyFormat({
  keyU64s: 2,
  bitsPerField: [27, 43, 0, 13, 0, 0],
  fieldOffset: [0x10000000n, 0x5000n, 0xffffffffn, 0n, 0n, 0n],
});
const arena = new CodeArena({ name: 'crossing' });
const routine = arena.place(emitNative(format));
const unpacker = createUnpacker(format, { engine: 'native', arena });
afterAll(() => arena.dispose());

/** Each way that a record and where it goes are handed over. */
const CALLS: Record<string, (packed: Uint8Array, out: Uint8Array) => unknown> = {
  unpack: (packed, out) => unpacker.unpack(packed, out),
  unpackMany: (packed, out) => unpacker.unpackMany(packed, 1, { out }),
  'routine.call': (packed, out) => routine.call([out, packed]),
};
const WAYS = Object.keys(CALLS);
type Resizable = ArrayBuffer & { resize(length: number): void };
const resizable = (length: number, most: number) =>
  new (ArrayBuffer as unknown as new (length: number, options: object) => Resizable)(length, {
    maxByteLength: most,
  });

describe.each(WAYS)('%s', (way) => {
  const call = CALLS[way]!;

  const buffers: Record<string, (length: number) => Uint8Array> = {
    'a small array of V8’s heap': (length) => new Uint8Array(length),
    'a part of a large one': (length) => new Uint8Array(4096).subarray(1000 + length, 1000 + 2 * length),
    'Node’s Buffer': (length) => Buffer.alloc(length),
    'shared memory': (length) => new Uint8Array(new SharedArrayBuffer(length)),
    'a resizable buffer': (length) => new Uint8Array(resizable(length, 4096)),
    'a resizable buffer that grew': (length) => {
      const buffer = resizable(1, 4096);
      const bytes = new Uint8Array(buffer);
      buffer.resize(length);
      return bytes;
    },
    'more than is needed': (length) => new Uint8Array(length + 7),
    'a class of its own, which lies': (length) =>
      new (class extends Uint8Array {
        override get length() {
          return 1;
        }
        override get byteOffset() {
          return 99;
        }
      })(length),
  };
  it.each(Object.keys(buffers))('takes %s', (kind) => {
    const random = seeded(3);
    for (let i = 0; i < 20; i++) {
      const bytes = randomBytes(random, format.packedBytes);
      const [packed, out] = [buffers[kind]!(format.packedBytes), buffers[kind]!(format.unpackedBytes)];
      Uint8Array.prototype.set.call(packed, bytes);
      call(packed, out);
      const got = new Uint8Array(
        out.buffer,
        Reflect.get(Uint8Array.prototype, 'byteOffset', out),
        format.unpackedBytes,
      );
      expect(hex(got)).toBe(hex(referenceUnpack(format, bytes)));
    }
  });

  const good = { packed: () => new Uint8Array(16), out: () => new Uint8Array(40) };
  const detached = (bytes: Uint8Array) => {
    structuredClone(bytes.buffer, { transfer: [bytes.buffer as ArrayBuffer] });
    return bytes;
  };
  const shrunk = (length: number) => {
    const buffer = resizable(length, 64);
    const bytes = new Uint8Array(buffer, 0, length);
    buffer.resize(length - 1);
    return bytes;
  };
  const both = new SharedArrayBuffer(64);
  const wrong: [string, Uint8Array, Uint8Array, string][] = [
    ['packed bytes that are detached', detached(good.packed()), good.out(), 'A-DETACHED'],
    ['room that is detached', good.packed(), detached(good.out()), 'A-DETACHED'],
    ['too few packed bytes', new Uint8Array(15), good.out(), 'A-LENGTH'],
    ['too little room', good.packed(), new Uint8Array(39), 'A-LENGTH'],
    ['a view that its buffer was shrunk under', shrunk(16), good.out(), 'A-LENGTH'],
    ['room that was shrunk', good.packed(), shrunk(40), 'A-LENGTH'],
    ['room over the packed bytes', new Uint8Array(both, 0, 16), new Uint8Array(both, 8), 'A-OVERLAP'],
    [
      'the same shared memory by another object',
      new Uint8Array(both, 0, 16),
      new Uint8Array(structuredClone(both), 8),
      'A-OVERLAP',
    ],
    ['numbers', 4096 as never, good.out(), 'A-TYPE'],
    ['a DataView', good.packed(), new DataView(new ArrayBuffer(40)) as never, 'A-TYPE'],
    ['words', good.packed(), new Uint32Array(10) as never, 'A-TYPE'],
  ];
  it.each(wrong)('refuses %s', (_, packed, out, code) => {
    expect(() => call(packed, out)).toThrow(expect.objectContaining({ code }));
  });
});

it('a record in a new buffer is that call’s own, by any engine', () => {
  const random = seeded(5);
  for (const engine of ENGINES) {
    const one = createUnpacker(format, { engine });
    const packed = [randomBytes(random, 16), randomBytes(random, 16)];
    const outs = packed.map((bytes) => one.unpack(bytes));
    outs[0]!.fill(0xee);
    expect(hex(outs[1]!)).toBe(hex(referenceUnpack(format, packed[1]!)));
    expect(hex(one.unpack(packed[0]!))).toBe(hex(referenceUnpack(format, packed[0]!)));
    expect(hex(outs[0]!)).toBe('ee'.repeat(40));
    one.dispose();
  }
});

it('numbers of any size come back, through either function of the gate', () => {
  for (const count of [1, 2, 3, 5]) {
    const args = Array.from({ length: count }, () => ({ kind: 'scalar' as const }));
    const last = arena.place(compileX64(verify(assemble(`r0 = r${count}\nexit`), { args })));
    for (const value of [0n, 1n, 2n ** 31n, 2n ** 32n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n]) {
      const given = Array.from({ length: count }, (_, i) => (i === count - 1 ? value : BigInt(i)));
      expect(last.call(given)).toBe(value);
    }
  }
});

it('memory that a contract wants aligned is refused elsewhere', () => {
  const contract = {
    args: [{ kind: 'memory' as const, bytes: 8, access: 'read' as const, align: 8 as const }],
  };
  const aligned = arena.place(compileX64(verify(assemble('r0 = *(u64 *)(r1 + 0)\nexit'), contract)));
  const bytes = new Uint8Array(new ArrayBuffer(64));
  bytes[8] = 5;
  expect(aligned.call([bytes.subarray(8)])).toBe(5n);
  for (const offset of [1, 2, 4, 7])
    expect(() => aligned.call([bytes.subarray(offset)])).toThrow(
      expect.objectContaining({ code: 'A-ALIGN' }),
    );
});

describe('garbage collection', () => {
  const FORMAT = `
    const format = unpack.bkeyFormat({ keyU64s: 2, bitsPerField: [27, 43, 0, 13, 0, 0], fieldOffset: [0n, 0n, 7n, 0n, 0n, 0n] });
    const unpacker = unpack.createUnpacker(format, { engine: 'native' });
    const routine = new CodeArena().place(unpack.emitNative(format));`;

  it('takes buffers that were handed in: none is kept', () => {
    const script = `${FORMAT}
      const handed = [];
      const fresh = (length) => { const bytes = new Uint8Array(length); handed.push(new WeakRef(bytes), new WeakRef(bytes.buffer)); return bytes; };
      const use = () => {
        unpacker.unpack(fresh(16), fresh(40));
        unpacker.unpack(fresh(16));
        unpacker.unpackMany(fresh(16000), 1000, { out: fresh(40000) });
        unpacker.unpackStream(fresh(64), { out: fresh(400) });
        routine.call([fresh(40), fresh(16)]);
        try { routine.call([fresh(39), fresh(16)]); } catch {}
      };
      for (let i = 0; i < 20; i++) use();
      const held = () => handed.filter((ref) => ref.deref() !== undefined).length;
      const later = () => new Promise((resolve) => setTimeout(resolve, 5));
      for (let i = 0; i < 20; i++) { await later(); gc(); await later(); if (held() === 0) break; }
      say([handed.length, held()]);`;
    expect(inChild(script)).toEqual([[440, 0]]);
  });

  it('moves small arrays whenever it likes: they are written where they are', () => {
    const script = `${FORMAT}
      let wrong = 0;
      for (let i = 0; i < 4000; i++) {
        const packed = new Uint8Array(16);
        for (let at = 0; at < 16; at++) packed[at] = i * 31 + at * 7;
        const out = new Uint8Array(40);
        const before = [new Uint8Array(8), new Uint8Array(8)];
        const want = String(unpack.referenceUnpack(format, packed));
        if (i % 3 === 0) routine.call([out, packed]);
        else if (i % 3 === 1) unpacker.unpack(packed, out);
        else out.set(unpacker.unpack(packed));
        if (String(out) !== want || String(before) !== '0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0') wrong++;
      }
      say(wrong);`;
    expect(inChild(script, '--gc-interval=97', '--stress-compaction')).toEqual([0]);
  });
});
