import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import {
  ArgumentError,
  type BpfUnpackError,
  CodeArena,
  type Contract,
  compileX64,
  ElfError,
  type ElfObject,
  encodeProgram,
  interpret,
  type Program,
  ProgramError,
  readElf,
  VerifierError,
  verify,
} from '../src/index.js';
import { hostileValue, Random } from './corruptions.js';
import { hex, jsonLines, unhex } from './vectors.js';

const folder = new URL('./objects/', import.meta.url);
const read = (name: string): Uint8Array => new Uint8Array(readFileSync(new URL(name, folder)));
const objects = readdirSync(folder).filter((name) => name.endsWith('.o'));
const expectedText = readFileSync(new URL('expected.jsonl', folder), 'utf8');

/** r0 and memory after a run of the C, compiled by gcc for the machine that made the file. */
interface Expected {
  readonly entry: string;
  readonly memory: string;
  readonly r0: string;
  readonly after: string;
}
const expected = jsonLines<Expected>(expectedText);

const REFUSED = ['swap-gcc.o'];
const runnable = objects.filter((name) => !/^(data|refused)/.test(name) && !REFUSED.includes(name));
const KEPT = /^tally/;
const casesOf = (name: string) => expected.filter(({ entry }) => entry === name.split('-')[0]);
const CONTRACT: Contract = { args: [{ kind: 'memory', bytes: 64, access: 'readwrite' }] };

function failure(work: () => unknown): BpfUnpackError {
  try {
    work();
  } catch (error) {
    return error as BpfUnpackError;
  }
  return expect.fail('it was accepted');
}

describe('an object of each compiler', () => {
  it.each(runnable)('%s does in the interpreter what its C does', (name) => {
    const cases = casesOf(name);
    expect(cases).toHaveLength(8);
    // Variables keep their values between the runs of tally.c only, and the interpreter's never do.
    if (KEPT.test(name)) cases.splice(1);
    const program = readElf(read(name)).program(cases[0]!.entry);
    for (const { memory, r0, after } of cases) {
      const bytes = unhex(memory);
      const result = interpret(program, { args: [bytes], contract: CONTRACT, strict: true });
      expect([`0x${result.r0.toString(16)}`, hex(bytes)]).toEqual([r0, after]);
    }
  });

  it('does the same in machine code, where the verifier proves it', () => {
    const arena = new CodeArena();
    const proven = runnable.filter((name) => {
      const program = readElf(read(name)).program(casesOf(name)[0]!.entry);
      try {
        const code = compileX64(verify(program, CONTRACT));
        const kept = arena.place(code);
        for (const { memory, r0, after } of casesOf(name)) {
          const routine = KEPT.test(name) ? kept : arena.place(code);
          const bytes = unhex(memory);
          expect([`0x${routine.call([bytes]).toString(16)}`, hex(bytes)]).toEqual([r0, after]);
        }
        return true;
      } catch (error) {
        if (error instanceof VerifierError) return false;
        throw error;
      }
    });
    arena.dispose();
    expect(runnable.filter((name) => !proven.includes(name))).toEqual([]);
  });

  const made = spawnSync('gcc', ['--version']).status === 0;
  if (!made) console.warn('NOT TESTED: what the C of test/objects does natively, because there is no gcc');
  it.runIf(made)('has the results that gcc gives here', () => {
    const script = fileURLToPath(new URL('../scripts/objects.mjs', import.meta.url));
    expect(spawnSync(process.execPath, [script, '--native']).stdout.toString()).toBe(expectedText);
  });
});

describe('the functions of an object', () => {
  const functionsOf = (name: string) =>
    readElf(read(name)).functions.map((one) => `${one.section} ${one.global ? '' : 'static '}${one.name}`);

  it('are listed by section and place', () => {
    const apart = ['entry inner', 'entry.main calls'];
    const clang = ['.text second', '.text static first', '.text depth', '.text static third'];
    const gcc = ['.text static first', '.text second', '.text static third', '.text depth'];
    expect(functionsOf('calls-clang-v3.o')).toEqual([...clang, ...apart]);
    expect(functionsOf('calls-gcc.o')).toEqual([...gcc, ...apart]);
  });

  it('can each be begun with; without a name, with the only global one outside of .text', () => {
    const [hash, calls] = [readElf(read('hash-gcc.o')), readElf(read('calls-gcc.o'))];
    expect(encodeProgram(hash.program())).toEqual(encodeProgram(hash.program('hash')));
    expect(interpret(calls.program('first'), { args: [6n] }).r0).toBe(45n);
    expect(calls.program('third').slots).toBe(6 + 9 + 5); // third, second, first: each once
    expect(failure(() => calls.program())).toMatchObject({ code: 'E-NO-FUNCTION' });
    const absent = failure(() => hash.program('absent'));
    expect(absent.message).toBe('0 functions called absent; the object has hash');
  });
});

const versions = ['clang-v1', 'clang-v2', 'clang-v3', 'clang-v4', 'gcc'];

describe('the data of an object', () => {
  it.each(versions)('goes along with the functions that take its address, by %s', (version) => {
    const object = readElf(read(`data-${version}.o`));
    const first = Uint8Array.of(3, 0, 0, 0);
    for (const [name, section, writable, r0] of [
      ['constant', '.rodata', false, 7n],
      ['variable', '.data', true, 45n],
      ['zeroed', '.bss', true, 0n],
    ] as const) {
      const program = object.program(name);
      expect(program.data.map((data) => [data.name.replace('.cst32', ''), data.writable])).toEqual([
        [section, writable],
      ]);
      expect(interpret(program, { args: [first] }).r0).toBe(r0);
    }
    expect(object.program('neither').data).toEqual([]);
    expect(interpret(object.program('neither'), { args: [Uint8Array.of(8, 0, 0, 0)] }).r0).toBe(9n);
    const data = object.data.filter(({ section }) => /^\.(rodata|data|bss)/.test(section));
    expect(data.map(({ size, writable }) => [size, writable]).sort()).toEqual([
      [32, false],
      [4, true],
      [64, true],
    ]);
    expect(data.find(({ section }) => section === '.data')!.bytes).toEqual(Uint8Array.of(42, 0, 0, 0));
    expect(data.find(({ section }) => section === '.bss')!.bytes).toBe(undefined);
  });

  /** The object with `change` made to the LD_IMM64 of a function, whose relocation is `relocation` bytes into the file. */
  function changed(change: (view: DataView, lddw: number, bss: number) => void): () => unknown {
    const bytes = read('data-clang-v1.o');
    const view = new DataView(bytes.buffer);
    const code = headerOf(bytes, (_, flags) => (flags & 4) !== 0 && flags !== 0) + 64;
    const start = Number(view.getBigUint64(code + 24, true));
    const zeroed = readElf(bytes).functions.findIndex(({ name }) => name === 'zeroed');
    const before = readElf(bytes).functions.slice(0, zeroed);
    let lddw = start + 8 * before.reduce((sum, { slots }) => sum + slots, 0);
    while (bytes[lddw] !== 0x18) lddw += 8;
    change(
      view,
      lddw,
      headerOf(bytes, (type) => type === 8),
    );
    return () => readElf(bytes).program('zeroed');
  }

  it.each<[what: string, code: string, says: string, change: Parameters<typeof changed>[0]]>([
    [
      'far behind its section',
      'E-DATA',
      'byte 65 of section .bss',
      (view, at) => view.setInt32(at + 4, 65, true),
    ],
    [
      'before its section',
      'E-DATA',
      'byte -1 of section .bss',
      (view, at) => view.setInt32(at + 4, -1, true),
    ],
    ['beyond 32 bits', 'E-RELOC', '32 bits', (view, at) => view.setInt32(at + 12, 1, true)],
    [
      'in 2^53 - 1 zeros',
      'E-LIMIT',
      '9007199254740991 bytes',
      (view, _, bss) => view.setBigUint64(bss + 32, 2n ** 53n - 1n, true),
    ],
    [
      'in 2^24 + 1 zeros',
      'E-LIMIT',
      '16777217 bytes',
      (view, _, bss) => view.setUint32(bss + 32, 2 ** 24 + 1, true),
    ],
    [
      'at a strange alignment',
      'E-DATA',
      'alignment is 12',
      (view, _, bss) => view.setUint32(bss + 48, 12, true),
    ],
    [
      'at an alignment of 2^40',
      'E-DATA',
      'alignment is 1099511627776',
      (view, _, bss) => view.setBigUint64(bss + 48, 2n ** 40n, true),
    ],
    [
      'in a section that is not loaded',
      'E-DATA',
      'no section of data',
      (view, _, bss) => view.setUint32(bss + 8, 1, true),
    ],
    ['by a move', 'E-RELOC', 'there is no LD_IMM64', (view, at) => view.setUint8(at, 0xb7)],
    ['of another kind', 'P-UNSUPPORTED', 'map by fd', (view, at) => view.setUint8(at + 1, 0x11)],
  ])('is refused where an address is %s', (_, code, says, change) => {
    const error = failure(changed(change));
    expect([error.code, error.message]).toEqual([code, expect.stringContaining(says)]);
    expect(error.where.insn ?? error.where.byte).toBeGreaterThan(0);
  });

  it('may have pointers just past it, and any power of two up to 4096 as alignment', () => {
    const program = changed((view, at, bss) => {
      view.setInt32(at + 4, 64, true);
      view.setUint32(bss + 48, 4096, true);
    })() as Program;
    expect(program.data[0]!.alignment).toBe(4096);
    const error = failure(() => interpret(program, { args: [new Uint8Array(4)] }));
    expect(error.message).toContain('byte 64 of the data section .bss, which has 64 bytes');
  });

  it('cannot be changed, and is copied for each program', () => {
    const program = readElf(read('data-clang-v1.o')).program('variable');
    program.data[0]!.bytes.fill(0);
    expect(program.data[0]!.bytes).toEqual(Uint8Array.of(42, 0, 0, 0));
    expect(() => Object.assign(program.data[0]!, { size: 0 })).toThrow(TypeError);
    expect(() => Object.assign(program.data, { length: 0 })).toThrow(TypeError);
  });
});

describe('what programs cannot have here is refused by name:', () => {
  it.each(versions)('addresses of what is no data, or has addresses in it, by %s', (version) => {
    const object = readElf(read(`refused-${version}.o`));
    for (const [name, says] of [
      ['named', 'where addresses stand (.rel.rodata)'],
      ['external', 'elsewhere, which is not in this object'],
      ['mapped', 'section .maps, which is a map'],
      ['code', 'section entry, which is code'],
    ] as const) {
      const { code, message, where } = failure(() => object.program(name));
      expect([code, where.insn]).toEqual(['E-DATA', expect.any(Number)]);
      expect(message).toContain(`function ${name}, instruction ${where.insn}: it takes the address of`);
      expect(message).toContain(says);
    }
    const first = Uint8Array.of(5, 0, 0, 0);
    expect(interpret(object.program('neither'), { args: [first] }).r0).toBe(6n);
    expect(interpret(object.program('constant'), { args: [first] }).r0).toBe(13n);
  });

  it('any address in a section where addresses stand in what has no name', () => {
    const bytes = read('refused-gcc.o');
    const view = new DataView(bytes.buffer);
    const header = headerOf(bytes, (type) => type === 2);
    let names = Number(view.getBigUint64(header + 24, true));
    const isNames = (at: number) =>
      view.getUint32(at + 8, true) === 32 && view.getUint32(at + 16, true) === 32;
    while (!isNames(names)) names += 24;
    bytes[names + 4] = 0; // a symbol of no type
    const error = failure(() => readElf(bytes).program('constant'));
    expect([error.code, error.message]).toEqual(['E-DATA', expect.stringContaining('where addresses stand')]);
  });

  it('functions of other objects', () => {
    const error = failure(() => readElf(read('swap-gcc.o')).program('swap'));
    expect(error).toMatchObject({ code: 'E-EXTERN', where: { insn: expect.any(Number) } });
    expect(error.message).toContain('__bswap');
  });
});

/** An object of ours with some of its bytes changed; `at` finds where by what the ELF header says. */
function patched(name: string, byte: number, value: number | readonly number[]): Uint8Array {
  const bytes = read(name);
  bytes.set(typeof value === 'number' ? [value] : value, byte);
  return bytes;
}

/** Byte offset of the header of a section. */
function headerOf(bytes: Uint8Array, wanted: (type: number, flags: number, info: number) => boolean): number {
  const view = new DataView(bytes.buffer);
  const table = Number(view.getBigUint64(40, true));
  const found = Array.from({ length: view.getUint16(60, true) }, (_, i) => table + 64 * i).find((at) =>
    wanted(view.getUint32(at + 4, true), view.getUint32(at + 8, true), view.getUint32(at + 44, true)),
  );
  return found ?? expect.fail('the object has no such section');
}

describe('a malformed object', () => {
  const calls = 'calls-clang-v1.o';
  const symtab = headerOf(read(calls), (type) => type === 2);
  const symbols = Number(new DataView(read(calls).buffer).getBigUint64(symtab + 24, true));
  const code = headerOf(read(calls), (_, flags) => (flags & 4) !== 0);
  it.each<[what: string, code: string, bytes: Uint8Array]>([
    ['of no bytes', 'E-TRUNCATED', new Uint8Array()],
    ['of another format', 'E-HEADER', patched(calls, 0, 0)],
    ['of 32 bits', 'E-HEADER', patched(calls, 4, 1)],
    ['of big-endian BPF', 'E-HEADER', patched(calls, 5, 2)],
    ['of another machine', 'E-HEADER', patched(calls, 18, 62)],
    ['that is linked', 'E-HEADER', patched(calls, 16, 2)],
    ['cut short', 'E-TRUNCATED', read(calls).subarray(0, -1)],
    ['whose section table is elsewhere', 'E-TRUNCATED', patched(calls, 47, 255)],
    ['whose section names are none', 'E-SECTION', patched(calls, 62, 0)],
    ['with a section of 2^56 bytes', 'E-SECTION', patched(calls, code + 39, 1)],
    ['with a section behind its end', 'E-TRUNCATED', patched(calls, code + 26, 1)],
    [
      'with two sections in one place',
      'E-OVERLAP',
      patched(calls, code + 24, [...read(calls).subarray(symtab + 24, symtab + 32)]),
    ],
    ['without symbols', 'E-SYMBOL', patched(calls, symtab + 4, 1)],
    ['with a symbol of no section', 'E-SYMBOL', patched(calls, symbols + 24 + 6, [200, 0])],
    ['with a symbol of no name', 'E-NAME', patched(calls, symbols + 24, [255, 255, 255, 255])],
  ])('%s is refused with %s', (_, errorCode, bytes) => {
    const error = failure(() => readElf(bytes));
    expect(error).toBeInstanceOf(ElfError);
    expect(error.code).toBe(errorCode);
  });

  it('whose function runs off its end is refused with E-FALL-OFF', () => {
    const name = 'hash-clang-v1.o';
    const entry = headerOf(read(name), (_, flags) => (flags & 4) !== 0 && flags !== 0) + 64;
    const [offset, size] = [24, 32].map((at) =>
      Number(new DataView(read(name).buffer).getBigUint64(entry + at, true)),
    );
    const error = failure(() => readElf(patched(name, offset! + size! - 8, 0xb7)).program());
    expect([error.code, error.where]).toEqual(['E-FALL-OFF', { insn: size! / 8 - 1 }]);
  });

  it('of no bytes at all is an argument that is wrong', () => {
    expect(failure(() => readElf('object' as never))).toBeInstanceOf(ArgumentError);
  });
});

it.each([
  ['calls', 8],
  ['state', 17],
])('relocations with addends mean what those without mean: %s', (entry, relocations) => {
  const name = `${entry}-clang-v2.o`;
  const original = read(name);
  const from = new DataView(original.buffer);
  const rewritten = new Uint8Array(original.length * 2);
  rewritten.set(original);
  const view = new DataView(rewritten.buffer);
  let end = (original.length + 7) & ~7;
  let count = 0;
  for (let i = 0; i < from.getUint16(60, true); i++) {
    const header = Number(from.getBigUint64(40, true)) + 64 * i;
    const target = Number(from.getBigUint64(40, true)) + 64 * from.getUint32(header + 44, true);
    if (from.getUint32(header + 4, true) !== 9 || (from.getUint32(target + 8, true) & 4) === 0) continue;
    const [table, size] = [24, 32].map((at) => Number(from.getBigUint64(header + at, true))) as [
      number,
      number,
    ];
    view.setUint32(header + 4, 4, true);
    view.setBigUint64(header + 24, BigInt(end), true);
    view.setBigUint64(header + 32, BigInt((size / 16) * 24), true);
    for (let at = table; at < table + size; at += 16, end += 24, count++) {
      const imm = Number(from.getBigUint64(target + 24, true) + from.getBigUint64(at, true)) + 4;
      rewritten.set(original.subarray(at, at + 16), end);
      view.setBigInt64(end + 16, BigInt(from.getInt32(imm, true)), true);
      view.setInt32(imm, 0, true);
    }
  }
  expect(count).toBe(relocations);
  const programOf = (bytes: Uint8Array) => encodeProgram(readElf(bytes).program(entry));
  expect(programOf(rewritten)).toEqual(programOf(original));
});

describe('a corrupted object', () => {
  /** Where the header, the section headers, symbols and relocations have their fields, with their lengths. */
  function fieldsOf(bytes: Uint8Array): [at: number, length: number][] {
    const view = new DataView(bytes.buffer);
    const table = Number(view.getBigUint64(40, true));
    const fields: [number, number][] = [
      [40, 8],
      [60, 2],
      [62, 2],
    ];
    for (let i = 0; i < view.getUint16(60, true); i++) {
      const header = table + 64 * i;
      const lengths = [4, 4, 8, 8, 8, 8, 4, 4, 8, 8];
      for (let at = header, field = 0; field < lengths.length; at += lengths[field++]!)
        fields.push([at, lengths[field]!]);
      const type = view.getUint32(header + 4, true);
      const [start, size] = [24, 32].map((at) => Number(view.getBigUint64(header + at, true))) as [
        number,
        number,
      ];
      const entry = type === 2 ? [4, 1, 1, 2, 8, 8] : type === 9 ? [8, 4, 4] : [];
      if (entry.length === 0) continue;
      for (let at = start; at < start + size; )
        for (const length of entry) fields.push([(at += length) - length, length]);
    }
    return fields;
  }

  /** Reads an object and links each of its functions; how many ways it was refused in. */
  function tryAll(bytes: Uint8Array, codes: Map<string, number>): void {
    const attempt = <T>(work: () => T): T | undefined => {
      try {
        return work();
      } catch (error) {
        if (!(error instanceof ElfError || error instanceof ProgramError)) throw error;
        if (error.code !== 'E-NO-FUNCTION')
          expect(error.where.byte ?? error.where.insn).toBeGreaterThanOrEqual(0);
        codes.set(error.code, (codes.get(error.code) ?? 0) + 1);
        return undefined;
      }
    };
    const object: ElfObject | undefined = attempt(() => readElf(bytes));
    for (const name of [undefined, ...(object?.functions ?? []).map(({ name }) => name)])
      attempt(() => object?.program(name));
  }

  it('is read, or refused with its place: 3,000 of them', () => {
    const random = new Random(3);
    const codes = new Map<string, number>();
    for (let round = 0; round < 3000; round++) {
      const original = read(random.pick(objects));
      const bytes = original.slice();
      const fields = fieldsOf(original);
      for (let changes = 1 + random.below(3); changes > 0; changes--) {
        const aimed = random.below(4) > 0;
        const [at, length] = aimed ? random.pick(fields) : [random.below(bytes.length), 1];
        bytes.set(hostileValue(random, original.slice(at, at + length), []), at);
      }
      tryAll(random.below(10) === 0 ? bytes.slice(0, random.below(bytes.length)) : bytes, codes);
    }
    const named = [
      'E-TRUNCATED',
      'E-HEADER',
      'E-SECTION',
      'E-NAME',
      'E-SYMBOL',
      'E-FUNCTION',
      'E-RELOC',
      'E-OVERLAP',
    ];
    const linked = ['E-NO-FUNCTION', 'E-DATA', 'E-EXTERN', 'E-CALL', 'P-OPCODE'];
    expect([...codes.keys()]).toEqual(expect.arrayContaining([...named, ...linked]));
  });

  it('asks for no more memory and time than its length allows', () => {
    const bytes = read('data-clang-v1.o');
    const bss = headerOf(bytes, (type) => type === 8);
    bytes.fill(255, bss + 32, bss + 38);
    expect(failure(() => readElf(bytes).program('zeroed')).code).toBe('E-LIMIT');
    expect(readElf(bytes).data.find(({ section }) => section === '.bss')).toMatchObject({
      size: 2 ** 48 - 1,
    });
  });
});
