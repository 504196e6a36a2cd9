import { describe, expect, it } from 'vitest';
import { ROWS, rowsOf } from '../src/bpf/isa.js';
import { instruction, makeProgram, slotsOf } from '../src/bpf/program.js';
import { assemble, decodeProgram, disassemble, encodeProgram, ProgramError } from '../src/index.js';
import { hex, unhex, vectors } from './vectors.js';

const EXIT = '9500000000000000';

describe('bytes and text of RFC 9669 instructions', () => {
  // Opcodes and fields as in the tables of RFC 9669 and Linux's instruction-set document, not as in our table.
  const cases = `
    0701000016000000                 | r1 += 22
    0f21000000000000                 | r1 += r2
    0412000016000000                 | !src is 1, must be 0
    04020000ffffffff                 | w2 += -1
    1c21000000000000                 | w1 -= w2
    3701000002000000                 | r1 /= 2
    3f21010000000000                 | r1 s/= r2
    9402010003000000                 | w2 s%= 3
    8703000000000000                 | r3 = -r3
    8f03000000000000                 | !0x8f is no opcode
    bf21080000000000                 | r1 = (s8)r2
    bf21200000000000                 | r1 = (s32)r2
    bc21100000000000                 | w1 = (s16)w2
    bc21200000000000                 | !off is 32, must be
    c701000007000000                 | r1 s>>= 7
    d401000010000000                 | r1 = le16 r1
    dc01000040000000                 | r1 = be64 r1
    d701000020000000                 | r1 = bswap32 r1
    df01000020000000                 | !0xdf is no opcode
    d401000011000000                 | !imm is 17, must be 16 or 32 or 64
    7910080000000000                 | r0 = *(u64 *)(r1 + 8)
    9110feff00000000                 | r0 = *(s8 *)(r1 - 2)
    9910feff00000000                 | !0x99 is no opcode
    6201040005000000                 | *(u32 *)(r1 + 4) = 5
    7b2af8ff00000000                 | *(u64 *)(r10 - 8) = r2
    18010000000000000000000001000000 | r1 = 0x100000000 ll
    18110000000000000000000000000000 | !map by fd
    db21000000000000                 | lock *(u64 *)(r1 + 0) += r2
    c321000041000000                 | r2 = atomic_fetch_or((u32 *)(r1 + 0), r2)
    db210000e1000000                 | r2 = atomic64_xchg((u64 *)(r1 + 0), r2)
    db210800f1000000                 | r0 = atomic64_cmpxchg((u64 *)(r1 + 8), r0, r2)
    d312000000010000                 | r2 = load_acquire((u8 *)(r1 + 0))
    cb21000010010000                 | store_release((u16 *)(r1 + 0), r2)
    db21000002000000                 | !imm is 2, must be
    0500000000000000                 | goto +0
    0600000000000000                 | gotol +0
    1d21000000000000                 | if r1 == r2 goto +0
    4601000001000000                 | if w1 & 1 goto +0
    c501000000000080                 | if r1 s< -2147483648 goto +0
    0500010000000000                 | !jump to 2, outside the program of 2 slots
    0500008000000000                 | !jump to -32767
    8500000007000000                 | call 7
    8510000000000000                 | call pc+0
    8520000000000000                 | !kernel functions by BTF id
    e500000000000000                 | !may_goto
    bf21010000000000                 | !addr_space_cast
    2000000000000000                 | !legacy packet access
    0d00000000000000                 | !jump-table
    070a000000000000                 | !r10 is the frame pointer
    dba1000001000000                 | !r10 is the frame pointer
    070b000000000000                 | !r11 does not exist
    0fb1000000000000                 | !r11 does not exist
    0000000000000000                 | !0x00 is no opcode`
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/ *\| /) as [string, string]);

  it.each(cases)('%s  %s', (bytes, text) => {
    const code = unhex(bytes + EXIT);
    if (text.startsWith('!')) {
      expect(() => decodeProgram(code)).toThrow(text.slice(1));
      return;
    }
    const program = decodeProgram(code);
    expect(disassemble(program)).toBe(`${text}\nexit\n`);
    expect(hex(encodeProgram(program))).toBe(hex(code));
    expect(hex(encodeProgram(assemble(disassemble(program))))).toBe(hex(code));
  });
});

describe('the table', () => {
  it('has a name for each form, and each form is told from the others by its bytes', () => {
    expect(new Set(ROWS.map(({ name }) => name)).size).toBe(ROWS.length);
    for (const row of ROWS) {
      const fixed = (use: string | number) => (typeof use === 'number' ? use : undefined);
      const twins = rowsOf(row.opcode).filter((other) =>
        (['dst', 'src', 'off', 'imm'] as const).every((field) => {
          const a = fixed(row[field]);
          const b = fixed(other[field]);
          return a === undefined || b === undefined || a === b;
        }),
      );
      expect(twins.map(({ name }) => name)).toEqual([row.name]);
    }
  });

  it('encodes, decodes, prints and reads back every form with every register', () => {
    for (const row of ROWS.filter(({ kind }) => kind !== 'refused')) {
      for (let register = 0; register < 10; register++) {
        const operands = {
          dst: register,
          src: 9 - register,
          off: row.off === 'jump' ? -1 : -7,
          imm: row.imm === 'jump' ? -1 : -5,
        };
        const wide = slotsOf(row) === 2 ? { ...operands, value: 0x8123456789abcdefn } : operands;
        const one = instruction(row, wide);
        const program = makeProgram([one, one]);
        const bytes = encodeProgram(program);
        expect(decodeProgram(bytes).instructions).toEqual([one, one]);
        expect(hex(encodeProgram(assemble(disassemble(program))))).toBe(hex(bytes));
      }
    }
  });

  it('refuses every opcode that has no row, and names it', () => {
    for (let opcode = 0; opcode < 256; opcode++) {
      if (rowsOf(opcode).length > 0) continue;
      const bytes = new Uint8Array(16);
      bytes[0] = opcode;
      expect(() => decodeProgram(bytes)).toThrow(`0x${opcode.toString(16).padStart(2, '0')} is no opcode`);
    }
  });
});

describe('programs that uBPF refuses', () => {
  // Legal by RFC 9669, or wrong only with a contract in hand: the verifier's business.
  const LATER = [
    'jump_r10',
    'jump_out_of_subprogram',
    'call_helper',
    'self_jump',
    'missing_exit_in_subprogram',
  ];

  it('are refused when decoded, with a code and a place', () => {
    const invalid = vectors<{ id: string; cat: string; insns: string }>('ubpf/invalid.jsonl.gz');
    for (const { id, cat, insns } of invalid.filter(({ cat }) => !LATER.includes(cat))) {
      try {
        decodeProgram(unhex(insns));
        expect.fail(`${id} (${cat}) was accepted`);
      } catch (error) {
        expect(error, id).toBeInstanceOf(ProgramError);
        expect((error as ProgramError).code).toMatch(/^P-/);
        expect((error as ProgramError).insn).toBeGreaterThanOrEqual(0);
      }
    }
    expect(invalid.length).toBe(250);
  });
});

describe('assembly text', () => {
  it('has labels, comments and hexadecimal numbers', () => {
    const program = assemble(`
      start:  r0 = 0x10       ; sixteen
      again:
        r0 -= 1               // count down
        if r0 != 0 goto again # and again
        call sum
        exit
      sum:    r0 = 0x100000000 ll
        exit`);
    expect(disassemble(program)).toBe(
      'r0 = 16\nr0 -= 1\nif r0 != 0 goto -2\ncall pc+1\nexit\nr0 = 0x100000000 ll\nexit\n',
    );
  });

  it.each([
    ['r0 = 1\n  r0 ^^ 2', 2, 3, /"r0 \^\^ 2" is no instruction/],
    ['   goto nowhere', 1, 4, /label nowhere is not defined/],
    ['a: a: exit', 1, 1, /label a is defined twice/],
    ['lab:    r11 = 0', 1, 9, /register 11 does not exist/],
    ['r0 = 0x100000000', 1, 1, /immediate 4294967296 does not fit 32 signed bits/],
    ['r0 = 0xffffffff', 1, 1, /immediate 4294967295 does not fit/],
    ['r0 = *(u8 *)(r1 + 32768)', 1, 1, /displacement 32768 does not fit 16 signed bits/],
    ['r0 = *(u8 *)(r1 + 36893488147419103240)', 1, 1, /does not fit 16 signed bits/],
    ['r1 = -r2', 1, 1, /is no instruction/],
    ['r1 = 0x10000000000000000 ll', 1, 1, /does not fit 64 bits/],
  ])('%j is refused at line %i, column %i', (text, line, column, says) => {
    try {
      assemble(text);
      expect.fail('it was accepted');
    } catch (error) {
      expect(error).toMatchObject({ code: 'P-SYNTAX', where: { line, column } });
      expect((error as Error).message).toMatch(says);
    }
  });

  it('takes a 32-bit immediate signed or unsigned where the operation has 32 bits', () => {
    expect(
      disassemble(assemble('w0 = 0xffffffff\nr0 = 0xffffffffffffffff\n*(u32 *)(r1 + 0) = 0xffffffff\nexit')),
    ).toBe('w0 = -1\nr0 = -1\n*(u32 *)(r1 + 0) = -1\nexit\n');
  });
});
