// Programs with data of their own, put together by hand; objects that have some are the matter of elf.test.ts.

import { describe, expect, it } from 'vitest';
import { dataAddress, makeProgram } from '../src/bpf/program.js';
import {
  assemble,
  CodeArena,
  type Contract,
  compileX64,
  decodeProgram,
  disassemble,
  encodeProgram,
  interpret,
  type Program,
  verify,
} from '../src/index.js';
import { unsafeTrust } from '../src/unsafe.js';
import { hex } from './vectors.js';

const SQUARES = { name: '.rodata', bytes: Uint8Array.of(0, 1, 4, 9, 16, 25, 36, 49), writable: false };
const COUNTER = { name: '.data', bytes: Uint8Array.of(7, 0, 0, 0, 0, 0, 0, 0), writable: true };
const [RODATA, DATA] = [0, 1];

/** Text in which `rX = NAME[offset] ll` takes the address of data. */
function programOf(text: string, data = [SQUARES, COUNTER]): Program {
  const lines = text.trim().split('\n');
  const taking = /^\s*r(\d) = (\S+)\[(\d+)\] ll$/;
  const plain = assemble(lines.map((line) => line.replace(taking, 'r$1 = 0 ll')).join('\n'));
  const taken = lines.flatMap((line) => taking.exec(line) ?? []).filter((_, i) => i % 4 !== 0);
  const instructions = plain.instructions.map((one) => {
    if (one.row.kind !== 'load_imm64') return one;
    const [register, name, offset] = taken.splice(0, 3);
    const section = data.findIndex((candidate) => candidate.name === name);
    return dataAddress(Number(register), section, Number(offset));
  });
  return makeProgram(instructions, data);
}

const NUMBER: Contract = { args: [{ kind: 'scalar' }] };
const LOOKUP = programOf(`
  r2 = .rodata[2] ll
  r1 &= 3
  r2 += r1
  r0 = *(u8 *)(r2 + 1)
  exit`);
const COUNT = programOf(`
  r2 = .data[0] ll
  r1 = atomic64_fetch_add((u64 *)(r2 + 0), r1)
  r0 = r1
  exit`);

/** r0 of a call of machine code, in an arena of its own. */
function compiled(program: Program, args: (bigint | Uint8Array)[], contract = NUMBER): bigint {
  const arena = new CodeArena();
  try {
    return arena.place(compileX64(verify(program, contract))).call(args);
  } finally {
    arena.dispose();
  }
}

describe('data of a program', () => {
  it('is read in the interpreter and in machine code', () => {
    for (const [index, square] of [9n, 16n, 25n, 36n].entries()) {
      expect(interpret(LOOKUP, { args: [BigInt(index)], contract: NUMBER, strict: true }).r0).toBe(square);
      expect(compiled(LOOKUP, [BigInt(index)])).toBe(square);
    }
  });

  it('that may be written is as it was at each run of the interpreter, and kept by each placement of code', () => {
    const run = (value: bigint) => interpret(COUNT, { args: [value], contract: NUMBER }).r0;
    expect([run(1n), run(1n)]).toEqual([7n, 7n]);
    const arena = new CodeArena();
    const code = compileX64(verify(COUNT, NUMBER));
    const [one, other] = [arena.place(code), arena.place(code)];
    expect([one.call([5n]), one.call([1n]), one.call([0n])]).toEqual([7n, 12n, 13n]);
    expect(other.call([0n])).toBe(7n);
    arena.replace(one, code);
    expect(one.call([0n])).toBe(7n);
    arena.seal();
    expect([other.call([1n]), other.call([0n])]).toEqual([7n, 8n]);
    arena.dispose();
    expect(COUNT.data[DATA]!.bytes).toEqual(COUNTER.bytes);
  });

  it('stays where it is while other memory comes and goes', () => {
    const arena = new CodeArena();
    const code = compileX64(verify(COUNT, NUMBER));
    const routines = Array.from({ length: 200 }, () => arena.place(code));
    for (let round = 0; round < 50; round++) {
      for (const routine of routines) routine.call([1n]);
      Array.from({ length: 100 }, () => new Uint8Array(1 << 16).fill(round));
    }
    expect(new Set(routines.map((routine) => routine.call([0n])))).toEqual(new Set([57n]));
    arena.dispose();
  });

  it.each([8, 64, 4096])('starts at a multiple of its alignment, %i', (alignment) => {
    const data = [
      { ...SQUARES, alignment },
      { ...COUNTER, alignment: 1 },
    ];
    const aligned = programOf('r0 = .rodata[0] ll\nexit', data);
    const [wide, least] = aligned.data;
    expect([wide!.alignment, least!.alignment]).toEqual([alignment, 8]);
    const arena = new CodeArena();
    for (let i = 0; i < 20; i++)
      expect(arena.place(compileX64(unsafeTrust(aligned))).call([]) % BigInt(alignment)).toBe(0n);
    arena.dispose();
  });

  it('needs no alignment of the arguments for its atomic operations', () => {
    expect(verify(COUNT, NUMBER).needsAlignment).toBe(false);
  });

  it('is given to helper functions', () => {
    const program = programOf(`
      r1 = .rodata[4] ll
      r2 = .data[0] ll
      call 1
      r2 = .data[0] ll
      r0 = *(u64 *)(r2 + 0)
      exit`);
    const helpers = {
      1: {
        args: [
          { kind: 'memory', bytes: 4, access: 'read' },
          { kind: 'memory', bytes: 8, access: 'readwrite' },
        ],
        call(squares: Uint8Array, counter: Uint8Array) {
          counter[0]! += squares.reduce((a, b) => a + b);
          return 0n;
        },
      },
    } as const;
    const contract: Contract = { args: [], helpers };
    expect(interpret(program, { args: [], contract, helpers: helpers as never, strict: true }).r0).toBe(133n);
    const arena = new CodeArena();
    const routine = arena.place(compileX64(verify(program, contract)), { helpers: helpers as never });
    expect([routine.call([]), routine.call([])]).toEqual([133n, 3n]);
    arena.dispose();
  });

  it('that is empty has an address, and nothing at it', () => {
    const program = programOf('r1 = .bss[0] ll\nr0 = 1\nif r1 != 0 goto +1\nr0 = 0\nexit', [
      { name: '.bss', bytes: new Uint8Array(), writable: true },
    ]);
    expect(interpret(program, { args: [] }).r0).toBe(1n);
    expect(compiled(programOf('r1 = .rodata[8] ll\nr0 = 3\nexit'), [0n])).toBe(3n);
  });
});

describe('a program with data', () => {
  it('is printed with the names of its sections, which cannot look like more text', () => {
    expect(disassemble(LOOKUP).split('\n')[0]).toBe('r2 = .rodata[2] ll');
    expect(disassemble(LOOKUP, { dialect: 'classic' }).split('\n')[0]).toBe('lddw %r2, .rodata[2]');
    const data = [{ ...SQUARES, name: '.rodata\nexit; ' }];
    const named = makeProgram([dataAddress(0, RODATA, 3), ...assemble('exit').instructions], data);
    expect(disassemble(named)).toBe('r0 = .rodata_exit__[3] ll\nexit\n');
    expect(() => assemble(disassemble(LOOKUP))).toThrow('no instruction');
  });

  it('is encoded with its addresses as map values by index, which are not decoded', () => {
    const bytes = encodeProgram(COUNT);
    expect(hex(bytes.subarray(0, 16))).toBe('18620000010000000000000000000000');
    expect(hex(encodeProgram(LOOKUP).subarray(0, 16))).toBe('18620000000000000000000002000000');
    expect(() => decodeProgram(bytes)).toThrow(
      'instruction 0 (lddw.map_value_by_index): a 64-bit immediate of the kind "map value by index"',
    );
  });

  it('takes addresses of what it has, and just past it', () => {
    const exit = assemble('r0 = 0\nexit').instructions;
    const taking = (section: number, offset: number) => () =>
      makeProgram([dataAddress(1, section, offset), ...exit], [SQUARES]);
    expect(taking(0, 8)().data).toHaveLength(1);
    for (const absent of [taking(0, 9), taking(1, 0), taking(-1, 0), taking(0, 2 ** 32 - 1)])
      expect(absent).toThrow(expect.objectContaining({ code: 'P-DATA', insn: 0 }));
  });
});

describe('the interpreter', () => {
  it.each([
    [
      'X-OOB',
      'r1 = .rodata[8] ll\nr0 = *(u8 *)(r1 + 0)\nexit',
      'byte 8 of the data section .rodata, which has 8',
    ],
    ['X-OOB', 'r1 = .rodata[0] ll\nr0 = *(u8 *)(r1 - 1)\nexit', 'byte -1 of the data section .rodata'],
    ['X-ACCESS', 'r1 = .rodata[0] ll\n*(u8 *)(r1 + 0) = 1\nexit', 'write of the data section .rodata'],
    [
      'X-OOB',
      'r1 = .data[1] ll\n*(u64 *)(r1 + 0) = 1\nexit',
      '8-byte write at byte 1 of the data section .data',
    ],
  ])('stops a program with %s: %j', (code, text, message) => {
    expect(() => interpret(programOf(text), { args: [] })).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(message) }),
    );
  });
});

describe('the verifier', () => {
  const contract: Contract = {
    args: [{ kind: 'memory', bytes: 8, access: 'readwrite' }, { kind: 'scalar' }],
  };
  it.each([
    [
      'V-OOB-READ',
      'r3 = .rodata[0] ll\nr2 &= 15\nr3 += r2\nr0 = *(u8 *)(r3 + 0)\nexit',
      'the 8 bytes of the data section .rodata',
    ],
    ['V-OOB-READ', 'r3 = .rodata[8] ll\nr0 = *(u8 *)(r3 + 0)\nexit', 'reaches past'],
    ['V-OOB-READ', 'r3 = .rodata[0] ll\nr0 = *(u8 *)(r3 - 1)\nexit', '.rodata-1..0'],
    [
      'V-OOB-WRITE',
      'r3 = .data[4] ll\n*(u64 *)(r3 + 0) = 1\nr0 = 0\nexit',
      'the 8 bytes of the data section .data',
    ],
    ['V-READ-ONLY', 'r3 = .rodata[0] ll\n*(u8 *)(r3 + 0) = 1\nr0 = 0\nexit', 'which may only be read'],
    [
      'V-READ-ONLY',
      'r3 = .rodata[0] ll\nlock *(u64 *)(r3 + 0) += r2\nr0 = 0\nexit',
      'which may only be read',
    ],
    ['V-LEAK', 'r0 = .rodata[0] ll\nexit', 'r0 holds an address'],
    ['V-LEAK', 'r3 = .rodata[0] ll\n*(u64 *)(r1 + 0) = r3\nr0 = 0\nexit', "stored in r1's memory"],
    ['V-LEAK', 'r3 = .data[0] ll\n*(u64 *)(r3 + 0) = r1\nr0 = 0\nexit', 'stored in the data section .data'],
    [
      'V-LEAK',
      'r3 = .data[0] ll\nr4 = .rodata[0] ll\nr0 = 0\nif r3 > r4 goto +1\nr0 = 1\nexit',
      'comparison',
    ],
    ['V-POINTER-ARITH', 'r3 = .data[0] ll\nr4 = .rodata[0] ll\nr3 -= r4\nr0 = r3\nexit', 'same memory'],
    ['V-ALIGN', 'r3 = .data[1] ll\nlock *(u32 *)(r3 + 0) += r2\nr0 = 0\nexit', 'multiple of 4'],
    [
      'V-NOT-POINTER',
      'r3 = .data[0] ll\nr3 = *(u64 *)(r3 + 0)\nr0 = *(u8 *)(r3 + 0)\nexit',
      'holds a number',
    ],
  ])('refuses with %s: %j', (code, text, message) => {
    expect(() => verify(programOf(text), contract)).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(message) }),
    );
  });

  it('keeps addresses of data apart where paths meet', () => {
    const either = (first: string) =>
      programOf(`
        r3 = ${first}[0] ll
        if r2 == 0 goto join
        r3 = .data[0] ll
        join: *(u8 *)(r3 + 7) = 1
        r0 = *(u8 *)(r3 + 0)
        exit`);
    expect(compiled(either('.data'), [new Uint8Array(8), 0n], contract)).toBe(7n);
    expect(() => verify(either('.rodata'), contract)).toThrow('which may only be read');
  });

  it('knows nothing of what is in data, so that the program may change it', () => {
    const program = programOf(`
      r3 = .data[0] ll
      r0 = *(u64 *)(r3 + 0)
      if r0 == 7 goto +1
      r0 = 8
      *(u64 *)(r3 + 0) = 8
      exit`);
    const arena = new CodeArena();
    const routine = arena.place(compileX64(verify(program, NUMBER)));
    expect([routine.call([0n]), routine.call([0n])]).toEqual([7n, 8n]);
    arena.dispose();
  });
});
