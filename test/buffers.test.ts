// Buffers whose length a program learns: by comparing addresses with the end, or numbers with the length.

import { afterAll, describe, expect, it } from 'vitest';
import { assemble, CodeArena, type Contract, compileX64, interpret, verify } from '../src/index.js';
import { BY_END, BY_LENGTH, ELEMENT, PACKET, SUM } from './buffer-programs.js';

const arena = new CodeArena({ name: 'buffers' });
afterAll(() => arena.dispose());

/** r0 by the interpreter and by machine code, which have to agree. */
function run(
  text: string,
  contract: Contract,
  buffer: Uint8Array,
  more: (bigint | undefined)[] = [],
): bigint {
  const program = assemble(text);
  const routine = arena.place(compileX64(verify(program, contract)));
  const copy = buffer.slice();
  const { r0 } = interpret(program, { args: [copy, undefined, ...more], contract, strict: true });
  expect(routine.call([buffer, undefined, ...more])).toBe(r0);
  expect(buffer).toEqual(copy);
  routine.free();
  return r0;
}

describe('the end of a buffer', () => {
  it('makes known what lies before it, at constant and at variable offsets', () => {
    const packet = Uint8Array.from({ length: 100 }, (_, i) => i);
    packet[13] = 0x45;
    expect(run(PACKET, BY_END, packet)).toBe(0x25242322n);
    expect(run(PACKET, BY_END, packet.subarray(0, 38))).toBe(0x25242322n);
    expect(run(PACKET, BY_END, packet.subarray(0, 37))).toBe(0n);
    expect(run(PACKET, BY_END, packet.subarray(0, 13))).toBe(0n);
    expect(run(PACKET, BY_END, new Uint8Array())).toBe(0n);
  });

  it.each([
    ['reads before any comparison', 'r0 = *(u8 *)(r1 + 0)\nexit', /of which 0 bytes are known/],
    ['compares with one byte too few', PACKET.replace('r5 += 4', 'r5 += 3'), /may reach past the end/],
    ['takes the wrong way', PACKET.replace('if r5 > r2', 'if r5 <= r2'), /may reach past the end/],
    ['goes back before the beginning', PACKET.replace('(r3 + 0)', '(r1 - 1)'), /begins before/],
    ['forgets that the address moved on', PACKET.replace('(r3 + 0)', '(r5 + 0)'), /may reach past the end/],
    ['compares the end with itself', 'if r2 > r2 goto +1\nr0 = *(u8 *)(r1 + 0)\nr0 = 0\nexit', /may reach/],
    ['reads at the end', 'r0 = *(u8 *)(r2 + 0)\nexit', /may reach past the end/],
    ['writes', PACKET.replace('r0 = *(u32 *)(r3 + 0)', '*(u8 *)(r3 + 0) = 1'), /only be read/],
    [
      'takes an address for one that is not 0',
      'r0 = 0\nif r1 != 0 goto +1\nr0 = r1\nexit',
      /tells something/,
    ],
    ['hands out the end', 'r0 = r2\nexit', /address/],
    [
      'compares with the end of another buffer',
      'r3 += 8\nif r3 > r2 goto +2\nr0 = *(u8 *)(r1 + 0)\nexit\nr0 = 0\nexit',
      /another|same memory|tells something/,
    ],
    [
      'compares only the low half',
      'r3 = r1\nr3 += 4\nif w3 > w2 goto +2\nr0 = *(u8 *)(r1 + 0)\nexit\nr0 = 0\nexit',
      /tells something|may reach/,
    ],
  ])('is not got around by a program that %s', (_, text, message) => {
    const contract: Contract = { args: [...BY_END.args, { kind: 'buffer', access: 'read' }] };
    expect(() => verify(assemble(text), contract)).toThrow(message);
  });

  it('can be walked to, byte by byte', () => {
    const buffer = new Uint8Array(200).fill(3);
    expect(run(SUM, BY_END, buffer)).toBe(600n);
    expect(run(SUM, BY_END, new Uint8Array())).toBe(0n);
  });

  it('gives a proof that a buffer is not empty', () => {
    const contract: Contract = { args: [{ kind: 'buffer', access: 'read', minBytes: 1, maxBytes: 9 }] };
    expect(() => verify(assemble('r0 = 0\nif r1 != 0 goto +1\nr0 = r1\nexit'), contract)).not.toThrow();
    expect(() => verify(assemble('r0 = *(u8 *)(r1 + 0)\nexit'), contract)).not.toThrow();
    expect(() => interpret(assemble('exit'), { args: [new Uint8Array()], contract })).toThrow(/1 are needed/);
    expect(() => interpret(assemble('exit'), { args: [new Uint8Array(10)], contract })).toThrow(/at most 9/);
  });
});

it('offsets so large that sums of them are rounded lead nowhere', () => {
  const text = `
    r4 = 0x1fffffffffffff ll
    r0 = 0
    r1 += r4
    r1 += r3
    if r1 >= r2 goto out
    r0 = *(u16 *)(r1 + 0)
  out:
    exit`;
  const min = 2n ** 64n - 2n ** 53n + 1n;
  const contract: Contract = {
    args: [
      { kind: 'buffer', access: 'read', maxBytes: 100 },
      { kind: 'end', of: 0 },
      { kind: 'scalar', min, max: min + 100n },
    ],
  };
  expect(() => verify(assemble(text), contract)).toThrow(/r1/);
});

describe('the length of a buffer', () => {
  it('makes known what lies within it', () => {
    const buffer = Uint8Array.from({ length: 20 }, (_, i) => i + 1);
    expect(run(ELEMENT, BY_LENGTH, buffer, [12n])).toBe(0x14131211100f0e0dn);
    expect(run(ELEMENT, BY_LENGTH, buffer, [13n])).toBe(0n);
    expect(run(ELEMENT, BY_LENGTH, buffer, [2n ** 64n - 4n])).toBe(0n);
    expect(run(ELEMENT, BY_LENGTH, new Uint8Array(), [0n])).toBe(0n);
  });

  it.each([
    ['lets the sum wrap around', ELEMENT.replace('if r3 >= 1000 goto out', 'r5 = 0')],
    ['compares with one byte too few', ELEMENT.replace('r4 += 8', 'r4 += 7')],
    [
      'compares a signed number',
      ELEMENT.replace('if r3 >= 1000', 'if r3 s>= 1000').replace('r4 > r2', 'r4 s> r2'),
    ],
    ['takes 8 off a length that may be less', ELEMENT.replace('r4 += 8', 'r2 -= 8')],
  ])('is not got around by a program that %s', (_, text) => {
    expect(() => verify(assemble(text), BY_LENGTH)).toThrow(/r1/);
  });

  it('may be made smaller where it is large enough', () => {
    const text = ELEMENT.replace('r4 += 8', 'if r2 < 8 goto out\nr2 -= 8');
    const buffer = Uint8Array.from({ length: 20 }, (_, i) => i + 1);
    expect(run(text, BY_LENGTH, buffer, [12n])).toBe(0x14131211100f0e0dn);
    expect(run(text, BY_LENGTH, buffer, [13n])).toBe(0n);
    expect(run(text, BY_LENGTH, new Uint8Array(7), [0n])).toBe(0n);
  });
});

describe('arguments', () => {
  it('that are derived are left out', () => {
    const program = assemble('r0 = 0\nexit');
    const length = { args: [new Uint8Array(4), 4n], contract: { args: BY_LENGTH.args.slice(0, 2) } };
    expect(() => interpret(program, length)).toThrow(/is the length of args\[0\] .*leave it undefined/);
    const shorter = { args: [new Uint8Array(4)], contract: { args: BY_LENGTH.args.slice(0, 2) } };
    expect(interpret(program, shorter).r0).toBe(0n);
  });

  it.each([
    [[{ kind: 'end', of: 1 }], /is the end of args\[1\], which is no buffer/],
    [[{ kind: 'scalar' }, { kind: 'length', of: 0 }], /which is no buffer/],
    [[{ kind: 'length', of: undefined }], /which is no buffer/],
    [
      [
        { kind: 'buffer', access: 'read' },
        { kind: 'end', of: [0] },
      ],
      /which is no buffer/,
    ],
    [
      [
        { kind: 'buffer', access: 'read' },
        { kind: 'end', of: '0' },
      ],
      /which is no buffer/,
    ],
    [[{ kind: 'memory', bytes: 1, access: 5n }], /access must be/],
    [[{ kind: 'scalar', min: Symbol('one') }], /min and max must be bigints/],
    [[{ kind: 'buffer', access: 'rw' }], /access must be/],
    [[{ kind: 'buffer', access: 'read', minBytes: 2, maxBytes: 1 }], /minBytes 2 is more/],
    [[{ kind: 'memory', bytes: 8, access: 'read', align: 3 }], /align must be 1, 2, 4 or 8/],
    [[{ kind: 'thing' }], /kind must be/],
  ])('of contract %# are refused', (args, message) => {
    expect(() => verify(assemble('exit'), { args } as unknown as Contract)).toThrow(message);
  });

  it('are aligned as the contract says, and atomic operations rest on no more', () => {
    const text = 'r0 = 1\nlock *(u32 *)(r1 + 4) += r0\nexit';
    const aligned = (align: 1 | 4 | 8): Contract => ({
      args: [{ kind: 'memory', bytes: 8, access: 'readwrite', align }],
    });
    expect(() => verify(assemble(text), aligned(1))).toThrow(/aligned to 1 only/);
    const routine = arena.place(compileX64(verify(assemble(text), aligned(4))));
    const memory = new Uint8Array(16);
    expect(routine.call([memory.subarray(4)])).toBe(1n);
    expect(memory[8]).toBe(1);
    expect(() => routine.call([memory.subarray(2)])).toThrow(/multiple of 4/);
  });
});

describe('contracts that ask for what Linux takes', () => {
  const loose: Contract = { args: [{ kind: 'memory', bytes: 8, access: 'read' }, { kind: 'scalar' }] };
  it.each([
    ['w2 <<= 32\nr0 = 0\nexit', /shift by 32; it has to be by 0 to 31/],
    ['r2 s>>= -1\nr0 = 0\nexit', /shift by -1/],
    ['r2 %= 0\nr0 = 0\nexit', /division by 0/],
    ['*(u32 *)(r10 - 7) = 1\nr0 = 0\nexit', /4 bytes of the stack/],
    [
      '*(u8 *)(r10 - 300) = 1\ncall one\nr0 = 0\nexit\none: *(u8 *)(r10 - 209) = 1\nr0 = 0\nexit',
      /chain of calls uses 528 bytes/,
    ],
  ])('refuse %j, which is accepted otherwise', (text, message) => {
    expect(() => verify(assemble(text), loose)).not.toThrow();
    expect(() => verify(assemble(text), { ...loose, kernelCompatible: true })).toThrow(message);
  });

  it('have their own limit of instructions', () => {
    const text = 'r0 = 0\nr0 = 1\nr0 = 2\nexit';
    const limited = { ...loose, maxInstructions: 3 };
    expect(() => verify(assemble(text), limited)).toThrow(/3 instructions were walked/);
    expect(() => interpret(assemble(text), { args: [new Uint8Array(8), 0n], contract: limited })).toThrow(
      /3 instr/,
    );
    expect(() => verify(assemble(text), limited, { maxInstructions: 4 })).not.toThrow();
    expect(() => verify(assemble(text), { ...loose, maxInstructions: 0 })).toThrow(/whole number from 1/);
  });
});
