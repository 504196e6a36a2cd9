import { afterAll, describe, expect, test, vi } from 'vitest';
import { assemble } from '../src/bpf/assemble.js';
import { type Contract, contractFor } from '../src/bpf/contract.js';
import { decodeProgram } from '../src/bpf/encode.js';
import { interpret } from '../src/bpf/interpret.js';
import { type Kind, ROWS, type Row, row } from '../src/bpf/isa.js';
import { lower } from '../src/bpf/lower.js';
import { type Instruction, instruction, makeProgram, type Program } from '../src/bpf/program.js';
import { CodeArena } from '../src/exec/arena.js';
import { columnOf } from '../src/format/column.js';
import { defineFormat, type FieldSpec } from '../src/format/define.js';
import { type Format, SIZES, type Size } from '../src/format/model.js';
import { lift } from '../src/jit/lift.js';
import { TIERS } from '../src/jit/target.js';
import { callTrampoline } from '../src/jit/x64/abi.js';
import { Assembler, type Assembly } from '../src/jit/x64/assemble.js';
import { vectorStreamLoop, vectorStrideLoop } from '../src/jit/x64/bulk.js';
import { columnLoop } from '../src/jit/x64/columns.js';
import { cpuProbe } from '../src/jit/x64/cpu.js';
import { unmapAtExit } from '../src/jit/x64/exit.js';
import { allForms, type Form } from '../src/jit/x64/forms.js';
import { lineStrideLoop } from '../src/jit/x64/lines.js';
import { fixedStrideLoop, keyStreamLoop } from '../src/jit/x64/loops.js';
import { assembleX64, compileX64 } from '../src/jit/x64/lower.js';
import { streamsLoop } from '../src/jit/x64/streams.js';
import { tableRecord, tableRun, tableStream, tableStride } from '../src/jit/x64/table.js';
import { assembleNative } from '../src/native/emit.js';
import { unsafeTrust } from '../src/unsafe.js';
import { verify } from '../src/verifier/verify.js';
import { IMMEDIATES, VALUES } from './boundary-values.js';
import { randomBkeyFormat, randomFormat, seeded } from './random-formats.js';
import { hex, type UbpfVector, unhex, vectors } from './vectors.js';
import { differences } from './x64-decoder.js';

const arena = new CodeArena();
afterAll(() => arena.dispose());

/** Runs a program as machine code: r1 = mem, r2 = its length; mem is changed in place. */
function run(program: Program, mem: Uint8Array): bigint {
  const routine = arena.place(compileX64(unsafeTrust(program)));
  const r0 = routine.call([mem.length === 0 ? 0n : mem, BigInt(mem.length)]);
  routine.free();
  return r0;
}

test('3,000 programs give the results that uBPF gave, instruction by instruction as meant', () => {
  const all = vectors<UbpfVector>('ubpf/vectors.jsonl.gz');
  for (const { id, insns, mem, r0, mem_after } of all) {
    const program = decodeProgram(unhex(insns));
    const { bytes, emitted } = assembleX64(program).assembly;
    expect([id, differences(bytes, emitted)]).toEqual([id, []]);
    const memory = unhex(mem);
    expect([id, run(program, memory), hex(memory)]).toEqual([id, BigInt(r0), mem_after]);
  }
  expect(all.length).toBe(3000);
});

const op = (name: string, operands: Parameters<typeof instruction>[1]) => instruction(row(name), operands);

const REGISTERS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

// Memory of a probe: two operands, the registers afterwards, and a place to work on.
const SEEN = 16;
const CELL = 128;
const MEMORY_BYTES = 192;
const SAVED_MEM = -88;

/** A program that loads two operands, runs `body`, and writes every register to memory. */
function probe(
  dst: number,
  src: number,
  body: Instruction[],
  pointer?: { in: number; off: number },
): Program {
  const others = REGISTERS.map((r) => op('lddw', { dst: r, value: 0x1111111111111111n * BigInt(r + 1) }));
  const point = pointer && [
    op('ldxdw', { dst: pointer.in, src: 10, off: SAVED_MEM }),
    op('add64.imm', { dst: pointer.in, imm: CELL - pointer.off }),
  ];
  return makeProgram([
    op('stxdw', { dst: 10, src: 1, off: SAVED_MEM }),
    ...others,
    ...[...new Set([src, dst])].flatMap((r) => [
      op('ldxdw', { dst: r, src: 10, off: SAVED_MEM }),
      op('ldxdw', { dst: r, src: r, off: r === dst ? 0 : 8 }),
    ]),
    ...(point ?? []),
    ...body,
    ...REGISTERS.map((r) => op('stxdw', { dst: 10, src: r, off: -8 * (r + 1) })),
    op('ldxdw', { dst: 1, src: 10, off: SAVED_MEM }),
    ...REGISTERS.flatMap((r) => [
      op('ldxdw', { dst: 0, src: 10, off: -8 * (r + 1) }),
      op('stxdw', { dst: 1, src: 0, off: SEEN + 8 * r }),
    ]),
    op('exit', {}),
  ]);
}

/** Runs a probe over pairs of operands in both engines and returns what differs. */
function probeDifferences(program: Program, pairs: readonly [bigint, bigint][]): string[] {
  const { bytes, emitted } = assembleX64(program).assembly;
  const found = differences(bytes, emitted);
  const routine = arena.place(compileX64(unsafeTrust(program)));
  for (const [x, y] of pairs) {
    const memory = new BigUint64Array(MEMORY_BYTES / 8).map((_, i) => 0xf0e1d2c3b4a59687n * BigInt(i + 1));
    memory[0] = x;
    memory[1] = y;
    memory[CELL / 8] = y;
    const expected = new Uint8Array(memory.buffer.slice(0));
    const actual = new Uint8Array(memory.buffer);
    interpret(program, { args: [expected] });
    routine.call([actual]);
    if (!Buffer.from(actual).equals(expected)) found.push(`0x${x.toString(16)}, 0x${y.toString(16)}`);
  }
  routine.free();
  return found;
}

/** `count` pairs of operands, other ones for each `seed`. */
function somePairs(seed: number, count: number): [bigint, bigint][] {
  const at = (i: number) => VALUES[Math.abs(i) % VALUES.length]!;
  return Array.from({ length: count }, (_, i) => [at(seed * 7 + i * 3), at(seed * 11 + i * 5 + (seed >> 4))]);
}

const rowsOfKind = (...kinds: Kind[]) => ROWS.filter(({ kind }) => kinds.includes(kind));
const byRegister = (rows: readonly Row[]) => rows.filter(({ source }) => source === 'reg');
const notByRegister = (rows: readonly Row[]) => rows.filter(({ source }) => source !== 'reg');

describe('with every register and every pair of registers, and with boundary operands,', () => {
  const arithmetic = rowsOfKind('alu', 'endian');
  test.each(byRegister(arithmetic).map((row) => [row.name, row] as const))('%s', (_, row) => {
    for (const dst of REGISTERS) {
      for (const src of REGISTERS) {
        const program = probe(dst, src, [instruction(row, { dst, src })]);
        expect([dst, src, probeDifferences(program, somePairs(dst * 10 + src, 5))]).toEqual([dst, src, []]);
      }
    }
  });

  test.each(notByRegister(arithmetic).map((row) => [row.name, row] as const))('%s', (_, row) => {
    for (const dst of REGISTERS) {
      for (const imm of row.imm === 'value' ? IMMEDIATES : [0]) {
        const program = probe(dst, dst, [instruction(row, { dst, imm })]);
        expect([dst, imm, probeDifferences(program, somePairs(dst + imm, 5))]).toEqual([dst, imm, []]);
      }
    }
  });

  test.each(rowsOfKind('jump').map((row) => [row.name, row] as const))('%s', (_, row) => {
    const skip = op('mov64.imm', { dst: 5, imm: 77 });
    for (const dst of REGISTERS) {
      for (const other of row.source === 'imm' ? IMMEDIATES : REGISTERS) {
        const src = row.source === 'imm' ? dst : other;
        const program = probe(dst, src, [instruction(row, { dst, src, off: 1, imm: other }), skip]);
        const immediate = BigInt.asUintN(64, BigInt(other));
        const pairs: [bigint, bigint][] = [...somePairs(dst + other, 3), [5n, 5n], [immediate, 1n]];
        expect([dst, other, probeDifferences(program, pairs)]).toEqual([dst, other, []]);
      }
    }
  });

  test.each(rowsOfKind('load', 'store', 'atomic').map((row) => [row.name, row] as const))('%s', (_, row) => {
    const loads = row.op === 'load' || row.op === 'load_acquire';
    for (const dst of REGISTERS) {
      for (const src of REGISTERS) {
        const [base, other] = loads ? [src, dst] : [dst, src];
        // A store of the base would store an address, and a comparison with r0 as the base compare one.
        if ((base === other && !loads) || (base === 0 && row.op === 'cmpxchg')) continue;
        const off = [0, 8, -8, 120, 128, -128, -136, 32760, -32768][(dst + 3 * src) % 9]!;
        const body = [instruction(row, { dst, src, off, imm: -0x12345678 })];
        // The address itself is not for comparing.
        if (base !== other) {
          body.push(op('mov64.imm', { dst: base, imm: 0 }));
        }
        const program = probe(other, base, body, { in: base, off });
        expect([dst, src, probeDifferences(program, somePairs(dst * 10 + src, 4))]).toEqual([dst, src, []]);
      }
    }
  });

  test('cmpxchg exchanges when r0 is what memory holds', () => {
    for (const name of ['cmpxchg.w', 'cmpxchg.dw']) {
      for (const [base, src] of [
        [1, 2],
        [2, 0],
        [9, 8],
        [3, 9],
      ] as const) {
        const set = op('lddw', { dst: 0, value: 0x8765432187654321n });
        const body = [set, op(name, { dst: base, src, off: 0 }), op('mov64.imm', { dst: base, imm: 0 })];
        const program = probe(5, 4, body, { in: base, off: 0 });
        const pairs: [bigint, bigint][] = [
          [1n, 0x8765432187654321n],
          [1n, 0x1111111187654321n],
          [1n, 2n],
        ];
        expect([name, base, src, probeDifferences(program, pairs)]).toEqual([name, base, src, []]);
      }
    }
  });
});

const text = (source: string, mem = new Uint8Array(0)): bigint => run(assemble(source), mem);
const code = (source: string): string => hex(compileX64(unsafeTrust(assemble(source))).bytes);

describe('functions of a program', () => {
  test('keep r6 to r9 and have stacks of their own', () => {
    const source = `
        r6 = 6
        r7 = 7
        r8 = 8
        r9 = 9
        *(u64 *)(r10 - 8) = 1
        *(u64 *)(r10 - 512) = 2
        r1 = 5
        call pc+9
        r1 = *(u64 *)(r10 - 8)
        r0 += r1
        r1 = *(u64 *)(r10 - 512)
        r0 += r1
        r0 += r6
        r0 += r7
        r0 += r8
        r0 += r9
        exit
        r6 = 100
        r7 = 100
        r8 = 100
        r9 = 100
        *(u64 *)(r10 - 8) = 77
        *(u64 *)(r10 - 512) = 77
        r0 = r1
        exit`;
    expect(text(source)).toBe(5n + 1n + 2n + 6n + 7n + 8n + 9n);
  });

  test('may call themselves, and instruction 0', () => {
    const source = `
        if r2 != 0 goto +1      ; called with r1 = 0, r2 = 0 from outside
        r2 = 6
        r6 = r2
        r0 = 1
        if r2 == 1 goto +3
        r2 += -1
        call pc-7
        r0 *= r6
        exit`;
    expect(text(source)).toBe(720n);
  });
});

describe('jumps', () => {
  test('to instruction 0 do not enter the frame again', () => {
    const loop = `
        r2 += 1                 ; called with r2 = 0
        r6 = r2
        if r2 != 9 goto -3
        r0 = r6
        exit`;
    expect(text(loop)).toBe(9n);
  });

  test.each([10, 30, 40, 45, 200, 30_000])('over %i instructions land', (count) => {
    const filler = Array.from({ length: count }, () => op('add64.imm', { dst: 0, imm: 1 }));
    const program = makeProgram([
      op('mov64.imm', { dst: 0, imm: 7 }),
      op('jeq64.imm', { dst: 0, imm: 0, off: count + 1 }),
      op('ja', { off: count }),
      ...filler,
      op('jgt64.imm', { dst: 0, imm: 7, off: 1 }),
      op('jeq64.imm', { dst: 0, imm: 7, off: -(count + 2) }),
      op('exit', {}),
    ]);
    const { bytes, emitted } = assembleX64(program).assembly;
    expect(differences(bytes, emitted)).toEqual([]);
    expect(run(program, new Uint8Array(0))).toBe(7n + BigInt(count));
  });

  test('of 32 bits reach further than 16 bits say', () => {
    const filler = Array.from({ length: 100_000 }, () => op('add64.imm', { dst: 0, imm: 1 }));
    const program = makeProgram([
      op('mov64.imm', { dst: 0, imm: 3 }),
      op('gotol', { imm: filler.length }),
      ...filler,
      op('exit', {}),
    ]);
    expect(run(program, new Uint8Array(0))).toBe(3n);
  });
});

// Bytes as Intel's manual gives them.
test.each([
  ['a leaf that keeps to r0 … r5 has no frame', 'r0 = r1\nexit', '4889f8 c3'],
  ['zero is made without an immediate', 'r0 = 0\nexit', '31c0 c3'],
  ['registers that a caller relies on are saved if used', 'r6 = r1\nr0 = r6\nexit', '53 4889fb 4889d8 5b c3'],
  ['r10 has 512 bytes below it', 'r0 = *(u8 *)(r10 - 1)\nexit', '55 4889e5 4881ec00020000 0fb645ff c9 c3'],
  ['a byte mask is a zero extension', 'r1 &= 255\nr0 = r1\nexit', '400fb6ff 4889f8 c3'],
  ['code that could be run off its end stops there', 'r0 = 1', 'b801000000 0f0b'],
])('%s', (_, source, bytes) => {
  expect(code(source)).toBe(bytes.replaceAll(' ', ''));
});

test('the offset map has an entry for each slot, and both of a long immediate', () => {
  const program = assemble('r6 = 0x123456789abcdef0 ll\nr0 = r6\nexit');
  const { offsets, bytes } = compileX64(unsafeTrust(program));
  expect(offsets).toEqual([1, 11, 11, 14]);
  expect(bytes.length).toBe(16);
});

describe('facts that the verifier proved', () => {
  const args: Contract['args'] = [
    { kind: 'scalar' },
    { kind: 'scalar', min: 1n, max: 1000n },
    { kind: 'scalar' },
  ];
  const OPERATIONS = [
    'r0 /= r2',
    'r0 s/= r2',
    'r0 %= r2',
    'r0 s%= r2',
    'w0 /= w2',
    'w0 s/= w2',
    'w0 %= w2',
    'w0 s%= w2',
  ];
  const DIVIDENDS = [0n, 1n, 7n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 63n, 2n ** 64n - 1n];

  test.each(OPERATIONS)(
    'leave out what %s needs for divisors that cannot be, and change no result',
    (operation) => {
      const program = assemble(`r0 = r1\n${operation}\nexit`);
      const plain = compileX64(verify(program, { args }));
      const known = compileX64(verify(program, { args }, { facts: true }));
      expect(known.length).toBeLessThan(plain.length);
      const routine = arena.place(known);
      for (const dividend of DIVIDENDS)
        for (const divisor of [1n, 3n, 1000n]) {
          const given = [dividend, divisor, 0n];
          expect(routine.call(given)).toBe(interpret(program, { args: given }).r0);
        }
      routine.free();
    },
  );

  test.each(['r0 /= r3', 'w0 %= w3', 'r0 s/= r3'])('are not made up: %s takes any divisor', (operation) => {
    const program = assemble(`r0 = r1\n${operation}\nexit`);
    const routine = arena.place(compileX64(verify(program, { args }, { facts: true })));
    for (const divisor of [0n, 2n ** 64n - 1n, 2n ** 32n, 2n ** 31n]) {
      const given = [2n ** 63n, 1n, divisor];
      expect(routine.call(given)).toBe(interpret(program, { args: given }).r0);
    }
    routine.free();
  });
});

describe('what cannot be compiled is refused:', () => {
  test('a program that was not verified', () => {
    for (const imitation of [assemble('exit'), { program: assemble('exit') }, undefined, null, 1]) {
      expect(() => compileX64(imitation as never)).toThrow(
        expect.objectContaining({ code: 'A-TYPE', name: 'ArgumentError' }),
      );
    }
  });
});

/** Every form that was emitted while `make` ran. */
function formsIn(make: () => void): Set<Form> {
  const finish = vi.spyOn(Assembler.prototype, 'finish');
  make();
  const emitted = finish.mock.results.flatMap(({ value }) => (value as Assembly).emitted);
  finish.mockRestore();
  return new Set(emitted.map(({ form }) => form));
}

/** A program of one instruction, which jumps, if it does, over as many others as its displacement says. */
function programOf(row: Row, dst: number, src: number, off: number, imm: number): Program {
  const distance = row.imm === 'jump' ? off : imm;
  const filler = Array.from({ length: off }, () => op('add64.imm', { dst: 0, imm: 1 }));
  return makeProgram([instruction(row, { dst, src, off, imm: distance }), ...filler, op('exit', {})]);
}

/** Members of one size whose sums wrap, signed ones and others, in records of 32 bytes. */
function sums(size: Size): Format {
  const field = (byte: number): FieldSpec => {
    const signed = byte % 16 === 0;
    return { name: `at ${byte}`, bits: size * 8 - 1, at: byte * 8, signed, offset: 1n, to: { byte, size } };
  };
  const fields = Array.from({ length: 32 / size }, (_, i) => field(i * size));
  const narrow = Array.from({ length: 16 / size }, (_, i) => field(i * size));
  emitLoops(defineFormat({ packedBytes: 16, unpackedBytes: 16, fields: narrow }));
  return defineFormat({ packedBytes: 32, unpackedBytes: 32, fields });
}

/** The loops of a format's own. */
function emitLoops(format: Format): void {
  const lifted = lift(verify(lower(format), contractFor(format)));
  if (!lifted) return;
  for (const tier of ['avx2', 'avx512'] as const) vectorStrideLoop(lifted, tier);
  lineStrideLoop(lifted, format.packedBytes + 1);
  const columns = format.fields.slice(0, 8).map(columnOf);
  for (const tier of TIERS) columnLoop(lifted, columns, format.packedBytes + 1, tier);
  columnLoop(lifted, columns, 1, 'avx512');
  if (!format.keyU64s) return;
  vectorStreamLoop(lifted);
  streamsLoop(lifted);
}

test('every row of the table is emitted by some program, format or loop', () => {
  const runnable = ROWS.filter(({ kind, op }) => kind !== 'refused' && op !== 'helper');
  const forms = formsIn(() => {
    callTrampoline();
    fixedStrideLoop();
    keyStreamLoop();
    for (let seed = 0; seed < 50; seed++) {
      assembleNative(randomFormat(seeded(seed)));
      assembleNative(randomBkeyFormat(seeded(seed)));
    }
    for (const source of ['*(u8 *)(r10 - 1) = 0', 'r0 = r10\nexit']) assembleX64(assemble(source));
    for (const row of runnable) {
      for (const imm of IMMEDIATES) for (const dst of [0, 1]) assembleX64(programOf(row, dst, 2, 0, imm));
      for (const dst of [1, 2]) assembleX64(programOf(row, dst, 0, 50, 1));
    }
    assembleX64(makeProgram([op('lddw', { dst: 0, value: 1n << 32n }), op('exit', {})]));
    cpuProbe();
    unmapAtExit(1n << 40n, 1);
    tableRun();
    for (const kind of ['plain', 'any'] as const) {
      tableRecord(kind);
      tableStride(kind);
      tableStream(kind);
    }
    for (let seed = 0; seed < 300; seed++)
      emitLoops(seed % 3 ? randomFormat(seeded(seed)) : randomBkeyFormat(seeded(seed)));
    for (const size of SIZES) emitLoops(sums(size));
  });
  expect(
    allForms()
      .filter((form) => !forms.has(form))
      .map(({ text }) => text),
  ).toEqual([]);
});
