// The BPF instruction set (RFC 9669, cpu v1-v4, and Linux's load-acquire and store-release) as one table.
// Encoder, decoder, legality, disassembler, assembler and interpreter derive from its rows; no opcode number
// stands anywhere else.
//
//   slot, 8 bytes, little-endian:   63         32 31        16 15   12 11    8 7        0
//                                   |    imm     |    off     |  src  |  dst  | opcode  |
//
//   opcode, arithmetic and jumps:   7       4   3   2   0      loads and stores:   7    5 4    3 2   0
//                                   |  op   | src |class|                          | mode | size |class|
//
// RFC 9669 overloads some opcodes by another field: signed division by off, byte swaps and atomic operations by
// imm, calls and 64-bit immediates by src. Each such meaning is a row of its own, with that field fixed; a
// decoded instruction has only operands left.

import { SIZES, type Size } from '../format/model.js';

/** What an instruction's field means: an operand, or a fixed value (0 where the RFC reserves it). */
export type RegisterUse = 'read' | 'write' | 'readwrite' | number;
export type OffUse = 'displacement' | 'jump' | number;
export type ImmUse = 'value' | 'jump' | 'helper' | number;

export type Kind =
  | 'alu' // dst = dst op operand
  | 'endian' // dst = swapped dst
  | 'load' // dst = *(src + off)
  | 'store' // *(dst + off) = operand
  | 'atomic' // *(dst + off) op= src
  | 'load_imm64' // dst = 64 bits from two slots
  | 'data_address' // dst = the address of data that the program brings along
  | 'jump' // conditional
  | 'goto'
  | 'call'
  | 'exit'
  | 'refused'; // known by name, not part of this machine

/** The kernel verifier's log: `r0 = *(u64 *)(r1 + 8)`; uBPF's assembler: `ldxdw %r0, [%r1+8]`. */
export type Dialect = 'kernel' | 'classic';

export interface Row {
  /** Its place in the table. */
  readonly number: number;
  /** Unique: operation, width and operand, as `add64.imm`, `ldxsw`, `jslt32.reg`. */
  readonly name: string;
  readonly opcode: number;
  readonly kind: Kind;
  /** The operation without width and operand: `add`, `fetch_or`, `jslt`, … */
  readonly op: string;
  /** Width of arithmetic or comparison in bits; of the swapped value for byte swaps. */
  readonly bits: number;
  /** Bytes moved by loads, stores and atomics. */
  readonly size: 0 | Size;
  /** Where the second operand comes from. */
  readonly source: 'imm' | 'reg' | 'none';
  /** Bits that are sign-extended: by mov (8, 16, 32), or by a load (8 * size); otherwise 0. */
  readonly signExtend: number;
  readonly dst: RegisterUse;
  readonly src: RegisterUse;
  readonly off: OffUse;
  readonly imm: ImmUse;
  /** Text in each dialect. %d %s registers, %D %S their 32-bit names, %i %q immediates, %o + off, %j target, %a data. */
  readonly text: Readonly<Record<Dialect, string>>;
  /** For kind 'refused': why. */
  readonly reason?: string | undefined;
}

// Opcode parts, RFC 9669 sections 3 to 5.
const CLASS = {
  ld: 0x00,
  ldx: 0x01,
  st: 0x02,
  stx: 0x03,
  alu32: 0x04,
  jmp64: 0x05,
  jmp32: 0x06,
  alu64: 0x07,
};
const SOURCE = { imm: 0x00, reg: 0x08 };
const MODE = { imm: 0x00, abs: 0x20, ind: 0x40, mem: 0x60, memsx: 0x80, atomic: 0xc0 };
const SIZE: Readonly<Record<Size, number>> = { 4: 0x00, 2: 0x08, 1: 0x10, 8: 0x18 };
/** The letter of each size in names, as in `stxdw`. */
export const SIZE_LETTER = { 1: 'b', 2: 'h', 4: 'w', 8: 'dw' };

// op, code, off, symbol
const ALU: readonly (readonly [string, number, number, string])[] = [
  ['add', 0x00, 0, '+='],
  ['sub', 0x10, 0, '-='],
  ['mul', 0x20, 0, '*='],
  ['div', 0x30, 0, '/='],
  ['sdiv', 0x30, 1, 's/='],
  ['or', 0x40, 0, '|='],
  ['and', 0x50, 0, '&='],
  ['lsh', 0x60, 0, '<<='],
  ['rsh', 0x70, 0, '>>='],
  ['mod', 0x90, 0, '%='],
  ['smod', 0x90, 1, 's%='],
  ['xor', 0xa0, 0, '^='],
  ['mov', 0xb0, 0, '='],
  ['arsh', 0xc0, 0, 's>>='],
];
const NEG = 0x80;
const MOV = 0xb0;
const END = 0xd0;

// op, code, symbol
const JUMP: readonly (readonly [string, number, string])[] = [
  ['jeq', 0x10, '=='],
  ['jgt', 0x20, '>'],
  ['jge', 0x30, '>='],
  ['jset', 0x40, '&'],
  ['jne', 0x50, '!='],
  ['jsgt', 0x60, 's>'],
  ['jsge', 0x70, 's>='],
  ['jlt', 0xa0, '<'],
  ['jle', 0xb0, '<='],
  ['jslt', 0xc0, 's<'],
  ['jsle', 0xd0, 's<='],
];
const JA = 0x00;
const CALL = 0x80;
const EXIT = 0x90;
const JCOND = 0xe0;

// op, imm, symbol; FETCH is bit 0.
const ATOMIC: readonly (readonly [string, number, string])[] = [
  ['add', 0x00, '+='],
  ['or', 0x40, '|='],
  ['and', 0x50, '&='],
  ['xor', 0xa0, '^='],
];
const FETCH = 0x01;
const XCHG = 0xe1;
const CMPXCHG = 0xf1;
const LOAD_ACQUIRE = 0x100;
const STORE_RELEASE = 0x110;

/** A row whose text is in the kernel's dialect only. */
type KernelRow = Omit<Row, 'text' | 'number'> & { readonly text: string };

const blank = {
  bits: 64,
  size: 0,
  source: 'none',
  signExtend: 0,
  dst: 0,
  src: 0,
  off: 0,
  imm: 0,
} as const;

/** The two forms of an operation, whose second operand is an immediate or a register. */
function withOperands(
  row: Omit<KernelRow, 'name' | 'opcode' | 'text'>,
  name: string,
  opcode: number,
  text: (operand: string) => string,
): KernelRow[] {
  const register = row.bits === 64 ? '%s' : '%S';
  return [
    {
      ...row,
      name: `${name}.imm`,
      opcode: opcode | SOURCE.imm,
      source: 'imm',
      imm: 'value',
      text: text('%i'),
    },
    {
      ...row,
      name: `${name}.reg`,
      opcode: opcode | SOURCE.reg,
      source: 'reg',
      src: 'read',
      text: text(register),
    },
  ];
}

function aluRows(): KernelRow[] {
  const rows: KernelRow[] = [];
  for (const bits of [64, 32] as const) {
    const cls = bits === 64 ? CLASS.alu64 : CLASS.alu32;
    const [d, s] = bits === 64 ? ['%d', '%s'] : ['%D', '%S'];
    for (const [op, code, off, symbol] of ALU) {
      const row = {
        ...blank,
        kind: 'alu',
        op,
        bits,
        off,
        dst: op === 'mov' ? 'write' : 'readwrite',
      } as const;
      rows.push(...withOperands(row, `${op}${bits}`, cls | code, (operand) => `${d} ${symbol} ${operand}`));
    }
    rows.push({
      ...blank,
      name: `neg${bits}`,
      opcode: cls | NEG,
      kind: 'alu',
      op: 'neg',
      bits,
      dst: 'readwrite',
      text: `${d} = -${d}`,
    });
    for (const from of [8, 16, 32]) {
      if (from >= bits) continue;
      rows.push({
        ...blank,
        name: `movsx${from}_${bits}`,
        opcode: cls | MOV | SOURCE.reg,
        kind: 'alu',
        op: 'mov',
        bits,
        source: 'reg',
        signExtend: from,
        dst: 'write',
        src: 'read',
        off: from,
        text: `${d} = (s${from})${s}`,
      });
    }
  }
  return rows;
}

function endianRows(): KernelRow[] {
  const forms = [
    ['le', CLASS.alu32 | END | SOURCE.imm],
    ['be', CLASS.alu32 | END | SOURCE.reg],
    ['bswap', CLASS.alu64 | END | SOURCE.imm],
  ] as const;
  return forms.flatMap(([op, opcode]) =>
    [16, 32, 64].map((bits) => ({
      ...blank,
      name: `${op}${bits}`,
      opcode,
      kind: 'endian' as const,
      op,
      bits,
      dst: 'readwrite' as const,
      imm: bits,
      text: `%d = ${op}${bits} %d`,
    })),
  );
}

function memoryRows(): KernelRow[] {
  const rows: KernelRow[] = [];
  for (const size of SIZES) {
    const letter = SIZE_LETTER[size];
    const at = `*(u${size * 8} *)(%d%o)`;
    const access = { ...blank, size, off: 'displacement' } as const;
    const load = { ...access, kind: 'load', op: 'load', dst: 'write', src: 'read', source: 'reg' } as const;
    const store = { ...access, kind: 'store', op: 'store', dst: 'read' } as const;
    rows.push({
      ...load,
      name: `ldx${letter}`,
      opcode: CLASS.ldx | MODE.mem | SIZE[size],
      text: `%d = *(u${size * 8} *)(%s%o)`,
    });
    if (size < 8) {
      rows.push({
        ...load,
        name: `ldxs${letter}`,
        opcode: CLASS.ldx | MODE.memsx | SIZE[size],
        signExtend: size * 8,
        text: `%d = *(s${size * 8} *)(%s%o)`,
      });
    }
    rows.push(
      {
        ...store,
        name: `st${letter}`,
        opcode: CLASS.st | MODE.mem | SIZE[size],
        source: 'imm',
        imm: 'value',
        text: `${at} = %i`,
      },
      {
        ...store,
        name: `stx${letter}`,
        opcode: CLASS.stx | MODE.mem | SIZE[size],
        source: 'reg',
        src: 'read',
        text: `${at} = %s`,
      },
    );
  }
  rows.push({
    ...blank,
    name: 'lddw',
    opcode: CLASS.ld | MODE.imm | SIZE[8],
    kind: 'load_imm64',
    op: 'lddw',
    source: 'imm',
    dst: 'write',
    imm: 'value',
    text: '%d = %q ll',
  });
  return rows;
}

function atomicRows(): KernelRow[] {
  const rows: KernelRow[] = [];
  for (const size of SIZES) {
    const letter = SIZE_LETTER[size];
    const bits = size * 8;
    const opcode = CLASS.stx | MODE.atomic | SIZE[size];
    const row = { ...blank, opcode, kind: 'atomic', size, bits, source: 'reg', off: 'displacement' } as const;
    rows.push(
      {
        ...row,
        name: `load_acquire.${letter}`,
        op: 'load_acquire',
        dst: 'write',
        src: 'read',
        imm: LOAD_ACQUIRE,
        text: `%d = load_acquire((u${bits} *)(%s%o))`,
      },
      {
        ...row,
        name: `store_release.${letter}`,
        op: 'store_release',
        dst: 'read',
        src: 'read',
        imm: STORE_RELEASE,
        text: `store_release((u${bits} *)(%d%o), %s)`,
      },
    );
    if (size < 4) continue;
    const at = `(u${bits} *)(%d%o)`;
    const name = size === 8 ? 'atomic64' : 'atomic';
    for (const [op, imm, symbol] of ATOMIC) {
      rows.push(
        {
          ...row,
          name: `${op}.${letter}`,
          op,
          dst: 'read',
          src: 'read',
          imm,
          text: `lock *${at} ${symbol} %s`,
        },
        {
          ...row,
          name: `fetch_${op}.${letter}`,
          op: `fetch_${op}`,
          dst: 'read',
          src: 'readwrite',
          imm: imm | FETCH,
          text: `%s = ${name}_fetch_${op}(${at}, %s)`,
        },
      );
    }
    rows.push(
      {
        ...row,
        name: `xchg.${letter}`,
        op: 'xchg',
        dst: 'read',
        src: 'readwrite',
        imm: XCHG,
        text: `%s = ${name}_xchg(${at}, %s)`,
      },
      {
        ...row,
        name: `cmpxchg.${letter}`,
        op: 'cmpxchg',
        dst: 'read',
        src: 'read',
        imm: CMPXCHG,
        text: `r0 = ${name}_cmpxchg(${at}, r0, %s)`,
      },
    );
  }
  return rows;
}

function jumpRows(): KernelRow[] {
  const rows: KernelRow[] = [];
  for (const bits of [64, 32] as const) {
    const cls = bits === 64 ? CLASS.jmp64 : CLASS.jmp32;
    const d = bits === 64 ? '%d' : '%D';
    for (const [op, code, symbol] of JUMP) {
      const row = { ...blank, kind: 'jump', op, bits, dst: 'read', off: 'jump' } as const;
      rows.push(
        ...withOperands(row, `${op}${bits}`, cls | code, (operand) => `if ${d} ${symbol} ${operand} goto %j`),
      );
    }
  }
  const call = { ...blank, opcode: CLASS.jmp64 | CALL, kind: 'call' } as const;
  rows.push(
    { ...blank, name: 'ja', opcode: CLASS.jmp64 | JA, kind: 'goto', op: 'ja', off: 'jump', text: 'goto %j' },
    {
      ...blank,
      name: 'gotol',
      opcode: CLASS.jmp32 | JA,
      kind: 'goto',
      op: 'gotol',
      imm: 'jump',
      text: 'gotol %j',
    },
    { ...call, name: 'call.helper', op: 'helper', src: 0, imm: 'helper', text: 'call %i' },
    { ...call, name: 'call.local', op: 'local', src: 1, imm: 'jump', text: 'call pc%j' },
    { ...blank, name: 'exit', opcode: CLASS.jmp64 | EXIT, kind: 'exit', op: 'exit', text: 'exit' },
  );
  return rows;
}

/** What Linux has and this machine has not: named, so that a refusal can say what was met. */
function refusedRows(): KernelRow[] {
  const refused = (
    name: string,
    opcode: number,
    reason: string,
    fixed: Partial<KernelRow> = {},
  ): KernelRow => ({
    ...blank,
    imm: 'value',
    dst: 'readwrite',
    src: 'read',
    off: 'displacement',
    ...fixed,
    name,
    opcode,
    kind: 'refused',
    op: name,
    text: name,
    reason,
  });
  const packet = 'legacy packet access needs a socket buffer, which this machine has not';
  const rows = [
    refused(
      'may_goto',
      CLASS.jmp64 | JCOND,
      'may_goto is a Linux extension whose loop counter this machine has not',
    ),
    refused('gotox', CLASS.jmp64 | JA | SOURCE.reg, 'indirect jumps need a Linux jump-table map'),
    refused('callx', CLASS.jmp64 | CALL | SOURCE.reg, 'indirect calls are not part of RFC 9669'),
    refused('call.btf', CLASS.jmp64 | CALL, 'calls of kernel functions by BTF id need a Linux kernel', {
      src: 2,
    }),
    refused('addr_space_cast', CLASS.alu64 | MOV | SOURCE.reg, 'addr_space_cast needs a Linux arena map', {
      off: 1,
    }),
  ];
  for (const size of SIZES) {
    rows.push(
      refused(`ldabs${SIZE_LETTER[size]}`, CLASS.ld | MODE.abs | SIZE[size], packet),
      refused(`ldind${SIZE_LETTER[size]}`, CLASS.ld | MODE.ind | SIZE[size], packet),
    );
  }
  const pseudo = [
    'map by fd',
    'map value by fd',
    'variable address',
    'code address',
    'map by index',
    'map value by index',
  ];
  pseudo.forEach((what, i) => {
    const reason = `a 64-bit immediate of the kind "${what}" must be relocated before it can be run`;
    rows.push(
      refused(`lddw.${what.replaceAll(' ', '_')}`, CLASS.ld | MODE.imm | SIZE[8], reason, { src: i + 1 }),
    );
  });
  return rows;
}

/** uBPF's text. It has no load-acquire, store-release and refused instructions: they go by the table's names. */
function classicText({ name, kind, op, bits, source, signExtend }: KernelRow): string {
  const width = bits === 32 ? '32' : '';
  const operand = source === 'imm' ? '%i' : '%s';
  switch (kind) {
    case 'alu':
      if (op === 'neg') return `neg${width} %d`;
      return `${signExtend ? `movsx${signExtend}${bits}` : `${op}${width}`} %d, ${operand}`;
    case 'endian':
      return `${name} %d`;
    case 'load':
      return `${name} %d, [%s%o]`;
    case 'store':
      return `${name} [%d%o], ${operand}`;
    case 'atomic':
      if (op === 'load_acquire') return `${name} %d, [%s%o]`;
      return `${op === 'store_release' ? name : `lock ${op}${width}`} [%d%o], %s`;
    case 'load_imm64':
      return `${name} %d, %q`;
    case 'jump':
      return `${op}${width} %d, ${operand}, %j`;
    case 'goto':
      return `${op === 'gotol' ? 'ja32' : op} %j`;
    case 'call':
      return op === 'local' ? 'call local %j' : 'call %i';
    default:
      return name;
  }
}

/**
 * An LD_IMM64 of the kind "map value by index": imm is the number of a data section, and the second slot's an offset in it.
 * It is no row of the table, since bytes and text have no data: only what links an object makes it.
 */
export const DATA_ADDRESS: Row = Object.freeze({
  ...blank,
  number: -1,
  name: 'lddw.data',
  opcode: CLASS.ld | MODE.imm | SIZE[8],
  kind: 'data_address',
  op: 'data',
  source: 'imm',
  dst: 'write',
  src: 6,
  imm: 'value',
  text: Object.freeze({ kernel: '%d = %a ll', classic: 'lddw %d, %a' }),
});

/** Every instruction form. */
export const ROWS: readonly Row[] = [
  ...aluRows(),
  ...endianRows(),
  ...memoryRows(),
  ...atomicRows(),
  ...jumpRows(),
  ...refusedRows(),
].map(finished);

/** The same fields in the same order in all rows: to verify straight lines took twice the time with other shapes. */
function finished(row: KernelRow, number: number): Row {
  return Object.freeze({
    number,
    name: row.name,
    opcode: row.opcode,
    kind: row.kind,
    op: row.op,
    bits: row.bits,
    size: row.size,
    source: row.source,
    signExtend: row.signExtend,
    dst: row.dst,
    src: row.src,
    off: row.off,
    imm: row.imm,
    text: Object.freeze({ kernel: row.text, classic: classicText(row) }),
    reason: row.reason,
  });
}

const byName = new Map(ROWS.map((row) => [row.name, row]));
const byOpcode: readonly (readonly Row[])[] = Array.from({ length: 256 }, (_, opcode) =>
  ROWS.filter((row) => row.opcode === opcode),
);

/** The row of that name; only for names that are written in code. */
export function row(name: string): Row {
  const found = byName.get(name);
  if (!found) throw new Error(`no instruction is called ${name}`);
  return found;
}

/** The rows that share an opcode; empty for an opcode that means nothing. */
export function rowsOf(opcode: number): readonly Row[] {
  return byOpcode[opcode]!;
}

export const REGISTERS = 11;
export const FRAME_POINTER = 10;
/** Bytes of stack below r10 in each frame, as in Linux. */
export const STACK_BYTES = 512;
/** Frames of local calls, as in Linux. */
export const MAX_FRAMES = 8;
/** r6 to r9 belong to the caller of a function, r1 to r5 to nobody. */
export const FIRST_SAVED = 6;

/** Whether a row writes the register named by its dst (or src) field. */
export const writes = (use: RegisterUse): boolean => use === 'write' || use === 'readwrite';
export const reads = (use: RegisterUse): boolean => use === 'read' || use === 'readwrite';
