// The x86-64 instruction forms that the back ends emit, each of them somewhere, as one table in the notation of Intel's
// manual (volume 2, "Instruction Format"). Encoder and encoder tests derive from its rows; no opcode number stands
// anywhere else.
//
//   operands   r32 ModRM.reg   rm32 ModRM.rm, register or memory   m32 ModRM.rm, memory   o32 low bits of the opcode
//              a32 al, ax, eax, rax   cl   1   imm8 as wide as the operation   simm8 sign-extended to its width
//              uimm8 a count   imm64   rel8, rel32 a jump   rip32 memory at a distance, ModRM.rm
//              registers of 128, 256 and 512 bits are vectors   v256 VEX.vvvv   k64 ModRM.reg, a mask register
//              {k}{z} may be masked, memory without {z}
//   encoding   66, F0 prefixes   REX.W   hex opcode bytes   +r register in the last of them   /r ModRM
//              /0 … /7 ModRM with that digit as its reg   ib iw id io immediate   cb cd distance of 1 or 4 bytes
//              VEX.256.66.0F38.W1   EVEX.512.F3.0F.W0   prefix with vector length, implied prefix, opcode map and W
//
// A `?` stands for a width: one row each for 32 and 64 bits (REX.W). A `*` stands for the length of a vector: one row
// each for 128 and 256 bits. Among the rows of a mnemonic the first that takes the operands is used, so shorter ones
// come first. Rows are read when their mnemonic is first asked for: all of them would take a millisecond of a process's start.

import type { Bits, VectorBits } from './operands.js';

type Role = 'r' | 'v' | 'k' | 'rm' | 'm' | 'o' | 'a' | 'cl' | '1' | 'imm' | 'simm' | 'uimm' | 'rel' | 'rip';

export interface OperandKind {
  readonly role: Role;
  /** Of the register, memory, immediate or distance; 0 for memory that is only addressed. */
  readonly bits: Bits | VectorBits | 0;
  /** Whether a write mask may be put on it. */
  readonly maskable: boolean;
}

/** The prefix of a vector instruction, its fields as the encoding has them. */
export interface VectorPrefix {
  readonly kind: 'VEX' | 'EVEX';
  /** L: 0 for 128 bits, 1 for 256, 2 for 512. */
  readonly length: number;
  /** pp: the legacy prefix it stands for. */
  readonly implied: number;
  /** mmmmm: the opcode map. */
  readonly map: number;
  readonly w: 0 | 1;
}

export interface Form {
  readonly mnemonic: string;
  readonly operands: readonly OperandKind[];
  /** The row as it is written: operands and encoding. */
  readonly text: string;
  /** Width of the operation: immediates are taken modulo 2^bits. */
  readonly bits: Bits | VectorBits;
  readonly vector: VectorPrefix | undefined;
  readonly prefixes: readonly number[];
  readonly rexW: boolean;
  readonly opcode: readonly number[];
  /** 'r': ModRM.reg is an operand; a number: it is that digit; undefined: there is no ModRM byte. */
  readonly modrm: 'r' | number | undefined;
  readonly immediateBytes: 0 | 1 | 2 | 4 | 8;
  readonly distanceBytes: 0 | 1 | 4;
  readonly places: Places;
}

/** Which of the operands goes where in the encoding; -1: none does. */
export interface Places {
  readonly reg: number;
  readonly rm: number;
  readonly vvvv: number;
  readonly opcode: number;
  readonly immediate: number;
}

/** Condition codes. */
const CONDITIONS = { b: 2, ae: 3, e: 4, ne: 5, be: 6, a: 7, l: 12, ge: 13, le: 14, g: 15 } as const;
export type Condition = keyof typeof CONDITIONS;

type Row = readonly [mnemonic: string, operands: string, encoding: string];

const hex = (opcode: number): string => opcode.toString(16).toUpperCase().padStart(2, '0');

function arithmeticRows(): Row[] {
  const digits = { add: 0, or: 1, and: 4, sub: 5, xor: 6, cmp: 7 };
  return Object.entries(digits).flatMap(([op, digit]): Row[] => {
    const opcode = (low: number) => hex(digit * 8 + low);
    return [
      [op, 'rm? r?', `${opcode(1)} /r`],
      [op, 'rm? simm8', `83 /${digit} ib`],
      [op, 'a? imm?', `${opcode(5)} i?`],
      [op, 'rm? imm?', `81 /${digit} i?`],
    ];
  });
}

function shiftRows(): Row[] {
  const digits = { shl: 4, shr: 5, sar: 7 };
  return Object.entries(digits).flatMap(([op, digit]): Row[] => [
    [op, 'rm? 1', `D1 /${digit}`],
    [op, 'rm? cl', `D3 /${digit}`],
    [op, 'rm? uimm8', `C1 /${digit} ib`],
  ]);
}

function unaryRows(): Row[] {
  const digits = { not: 2, neg: 3, div: 6, idiv: 7 };
  return Object.entries(digits).map(([op, digit]): Row => [op, 'rm?', `F7 /${digit}`]);
}

const MOVES: readonly Row[] = [
  ['mov', 'rm8 r8', '88 /r'],
  ['mov', 'rm16 r16', '66 89 /r'],
  ['mov', 'rm? r?', '89 /r'],
  ['mov', 'r? rm?', '8B /r'],
  ['mov', 'o32 imm32', 'B8+r id'],
  ['mov', 'rm8 imm8', 'C6 /0 ib'],
  ['mov', 'rm16 imm16', '66 C7 /0 iw'],
  ['mov', 'rm? imm?', 'C7 /0 i?'],
  ['mov', 'o64 imm64', 'REX.W B8+r io'],
  ['movzx', 'r32 rm8', '0F B6 /r'],
  ['movzx', 'r32 rm16', '0F B7 /r'],
  ['movsx', 'r? rm8', '0F BE /r'],
  ['movsx', 'r? rm16', '0F BF /r'],
  ['movsxd', 'r64 rm32', 'REX.W 63 /r'],
  ['cmovb', 'r64 rm64', 'REX.W 0F 42 /r'],
  ['lea', 'r? m', '8D /r'],
  ['lea', 'r64 rip32', 'REX.W 8D /r'],
  ['bswap', 'o?', '0F C8+r'],
  ['xchg', 'rm? r?', '87 /r'],
  ['push', 'o64', '50+r'],
  ['pop', 'o64', '58+r'],
];

const REST: readonly Row[] = [
  ['add', 'a8 imm8', '04 ib'],
  ['add', 'r64 rm64', 'REX.W 03 /r'],
  ['sub', 'r64 rm64', 'REX.W 2B /r'],
  ['cmp', 'r64 rm64', 'REX.W 3B /r'],
  ['rol', 'rm16 uimm8', '66 C1 /0 ib'],
  ['test', 'rm? r?', '85 /r'],
  ['test', 'a8 imm8', 'A8 ib'],
  ['test', 'a? imm?', 'A9 i?'],
  ['test', 'rm8 imm8', 'F6 /0 ib'],
  ['test', 'rm? imm?', 'F7 /0 i?'],
  ['imul', 'r? rm?', '0F AF /r'],
  ['imul', 'r? rm? simm8', '6B /r ib'],
  ['imul', 'r? rm? imm?', '69 /r i?'],
  ['cdq', '', '99'],
  ['cqo', '', 'REX.W 99'],
  ['jmp', 'rel8', 'EB cb'],
  ['jmp', 'rel32', 'E9 cd'],
  ['jmp', 'rm64', 'FF /4'],
  ['call', 'rel32', 'E8 cd'],
  ['call', 'rm64', 'FF /2'],
  ['ret', '', 'C3'],
  ['leave', '', 'C9'],
  ['ud2', '', '0F 0B'],
];

const SYSTEM: readonly Row[] = [
  ['cpuid', '', '0F A2'],
  ['xgetbv', '', 'NP 0F 01 D0'],
  ['sfence', '', 'NP 0F AE F8'],
];

const BMI: readonly Row[] = [['andn', 'r32 v32 rm32', 'VEX.LZ.0F38.W0 F2 /r']];

const VECTOR_MOVES: readonly Row[] = [
  ['vmovdqu', 'r* m*', 'VEX.*.F3.0F.WIG 6F /r'],
  ['vmovdqu', 'm* r*', 'VEX.*.F3.0F.WIG 7F /r'],
  ['vmovq', 'r128 m64', 'VEX.128.F3.0F.WIG 7E /r'],
  ['vmovq', 'm64 r128', 'VEX.128.66.0F.WIG D6 /r'],
  ['vmovd', 'm32 r128', 'VEX.128.66.0F.W0 7E /r'],
  ['vpextrw', 'm16 r128 uimm8', 'VEX.128.66.0F3A.W0 15 /r ib'],
  ['vpextrb', 'm8 r128 uimm8', 'VEX.128.66.0F3A.W0 14 /r ib'],
  ['vpbroadcastq', 'r256 m64', 'VEX.256.66.0F38.W0 59 /r'],
  ['vbroadcasti128', 'r256 m128', 'VEX.256.66.0F38.W0 5A /r'],
  ['vinserti128', 'r256 v256 m128 uimm8', 'VEX.256.66.0F3A.W0 38 /r ib'],
  ['vinserti32x4', 'r512 v512 m128 uimm8', 'EVEX.512.66.0F3A.W0 38 /r ib'],
  ['vextracti128', 'rm128 r256 uimm8', 'VEX.256.66.0F3A.W0 39 /r ib'],
  ['vmovdqa64', 'r512 rm512', 'EVEX.512.66.0F.W1 6F /r'],
  ['vmovdqu64', 'r512 m512', 'EVEX.512.F3.0F.W1 6F /r'],
  ['vmovdqu64', 'm512 r512', 'EVEX.512.F3.0F.W1 7F /r'],
  ['vmovntdq', 'm512 r512', 'EVEX.512.66.0F.W0 E7 /r'],
  ['vmovdqu8', 'r512{k}{z} m512', 'EVEX.512.F2.0F.W0 6F /r'],
  ['vmovdqu8', 'm512{k}{z} r512', 'EVEX.512.F2.0F.W0 7F /r'],
  ['vzeroupper', '', 'VEX.128.0F.WIG 77'],
  ['kmovq', 'k64 m64', 'VEX.L0.0F.W1 90 /r'],
];

const VECTOR_OPERATIONS: readonly Row[] = [
  ['vpshufb', 'r* v* rm*', 'VEX.*.66.0F38.WIG 00 /r'],
  ['vpsrlvq', 'r* v* rm*', 'VEX.*.66.0F38.W1 45 /r'],
  ['vpsllvq', 'r* v* rm*', 'VEX.*.66.0F38.W1 47 /r'],
  ['vpand', 'r* v* rm*', 'VEX.*.66.0F.WIG DB /r'],
  ['vpor', 'r* v* rm*', 'VEX.*.66.0F.WIG EB /r'],
  ['vpxor', 'r* v* rm*', 'VEX.*.66.0F.WIG EF /r'],
  ['vpaddb', 'r* v* rm*', 'VEX.*.66.0F.WIG FC /r'],
  ['vpaddw', 'r* v* rm*', 'VEX.*.66.0F.WIG FD /r'],
  ['vpaddd', 'r* v* rm*', 'VEX.*.66.0F.WIG FE /r'],
  ['vpaddq', 'r* v* rm*', 'VEX.*.66.0F.WIG D4 /r'],
  ['vpermb', 'r*{k}{z} v* rm*', 'EVEX.*.66.0F38.W0 8D /r'],
  ['vpermb', 'r512{k}{z} v512 rm512', 'EVEX.512.66.0F38.W0 8D /r'],
  ['vpmultishiftqb', 'r* v* rm*', 'EVEX.*.66.0F38.W1 83 /r'],
  ['vpmultishiftqb', 'r512 v512 rm512', 'EVEX.512.66.0F38.W1 83 /r'],
  ['vpandq', 'r512 v512 rm512', 'EVEX.512.66.0F.W1 DB /r'],
  ['vporq', 'r512 v512 rm512', 'EVEX.512.66.0F.W1 EB /r'],
  ['vpxorq', 'r512 v512 rm512', 'EVEX.512.66.0F.W1 EF /r'],
  ['vpaddb', 'r512 v512 rm512', 'EVEX.512.66.0F.WIG FC /r'],
  ['vpaddw', 'r512 v512 rm512', 'EVEX.512.66.0F.WIG FD /r'],
  ['vpaddd', 'r512 v512 rm512', 'EVEX.512.66.0F.W0 FE /r'],
  ['vpaddq', 'r512 v512 rm512', 'EVEX.512.66.0F.W1 D4 /r'],
  ['vpunpcklqdq', 'r256 v256 rm256', 'VEX.256.66.0F.WIG 6C /r'],
  ['vpunpckhqdq', 'r256 v256 rm256', 'VEX.256.66.0F.WIG 6D /r'],
  ['vshufps', 'r256 v256 rm256 uimm8', 'VEX.256.0F.WIG C6 /r ib'],
  ['vpermq', 'r256 rm256 uimm8', 'VEX.256.66.0F3A.W1 00 /r ib'],
  ['vpsrlq', 'v512 rm512 uimm8', 'EVEX.512.66.0F.W1 73 /2 ib'],
  ['vpsllq', 'v512 rm512 uimm8', 'EVEX.512.66.0F.W1 73 /6 ib'],
  ['vpermi2b', 'r512 v512 rm512', 'EVEX.512.66.0F38.W0 75 /r'],
  ['vpternlogq', 'r512 v512 rm512 uimm8', 'EVEX.512.66.0F3A.W1 25 /r ib'],
];

const LOCKED: readonly Row[] = [
  ['lock add', 'm? r?', 'F0 01 /r'],
  ['lock or', 'm? r?', 'F0 09 /r'],
  ['lock and', 'm? r?', 'F0 21 /r'],
  ['lock xor', 'm? r?', 'F0 31 /r'],
  ['lock xadd', 'm? r?', 'F0 0F C1 /r'],
  ['lock cmpxchg', 'm? r?', 'F0 0F B1 /r'],
];

function conditionRows(): Row[] {
  return Object.entries(CONDITIONS).flatMap(([condition, code]): Row[] => [
    [`j${condition}`, 'rel8', `${hex(0x70 + code)} cb`],
    [`j${condition}`, 'rel32', `0F ${hex(0x80 + code)} cd`],
  ]);
}

// An instruction of 64 bits takes a sign-extended immediate of 32.
const WIDTHS = [
  { bits: '32', prefix: '', imm: 'imm32' },
  { bits: '64', prefix: 'REX.W ', imm: 'simm32' },
];

function widen([mnemonic, operands, encoding]: Row): Row[] {
  if (encoding.includes('*'))
    return ['128', '256'].map((bits) => [
      mnemonic,
      operands.replaceAll('*', bits),
      encoding.replace('*', bits),
    ]);
  if (!operands.includes('?')) return [[mnemonic, operands, encoding]];
  return WIDTHS.map(({ bits, prefix, imm }) => [
    mnemonic,
    operands.replace('imm?', imm).replaceAll('?', bits),
    prefix + encoding.replace('i?', 'id'),
  ]);
}

const IMMEDIATE: Readonly<Record<string, Form['immediateBytes']>> = { ib: 1, iw: 2, id: 4, io: 8 };
const DISTANCE: Readonly<Record<string, Form['distanceBytes']>> = { cb: 1, cd: 4 };
const PREFIXES = [0x66, 0xf0];
const VECTOR_LENGTHS = ['128', '256', '512'];
const IMPLIED = ['', '66', 'F3', 'F2'];
const MAPS = ['', '0F', '0F38', '0F3A'];
/** That no prefix is put in front; ours never is. */
const NO_PREFIX = 'NP';

// Without regular expressions: to read a row for the first time takes a third of the time.
function parse([mnemonic, operands, encoding]: Row): Form {
  const kinds = operands === '' ? [] : operands.split(' ').map(parseOperand);
  const place = (...roles: Role[]) => kinds.findIndex(({ role }) => roles.includes(role));
  const prefixes: number[] = [];
  const opcode: number[] = [];
  let vector: VectorPrefix | undefined;
  let rexW = false;
  let modrm: Form['modrm'];
  let immediateBytes: Form['immediateBytes'] = 0;
  let distanceBytes: Form['distanceBytes'] = place('rip') < 0 ? 0 : 4;
  for (const token of encoding.split(' ')) {
    if (token === 'REX.W') rexW = true;
    else if (token === NO_PREFIX) continue;
    else if (token.startsWith('/')) modrm = token === '/r' ? 'r' : Number(token[1]);
    else if (token in IMMEDIATE) immediateBytes = IMMEDIATE[token]!;
    else if (token in DISTANCE) distanceBytes = DISTANCE[token]!;
    else if (token.includes('.')) vector = parseVector(token);
    else opcode.push(Number.parseInt(token, 16));
  }
  if (opcode.length > 1 && PREFIXES.includes(opcode[0]!)) prefixes.push(opcode.shift()!);
  return Object.freeze({
    mnemonic,
    operands: kinds,
    text: `${mnemonic} ${operands}: ${encoding}`,
    bits: kinds.find(({ bits }) => bits !== 0)?.bits || 64,
    vector,
    prefixes,
    rexW,
    opcode,
    modrm,
    immediateBytes,
    distanceBytes,
    places: {
      reg: place('r', 'k'),
      rm: place('rm', 'm'),
      vvvv: place('v'),
      opcode: place('o'),
      immediate: place('1', 'imm', 'simm', 'uimm'),
    },
  });
}

function parseVector(token: string): VectorPrefix {
  const parts = token.split('.');
  const [kind, length] = parts;
  const place = (list: readonly string[]) => list.findIndex((name) => name !== '' && parts.includes(name, 2));
  return {
    kind: kind as VectorPrefix['kind'],
    length: Math.max(0, VECTOR_LENGTHS.indexOf(length!)),
    implied: Math.max(0, place(IMPLIED)),
    map: place(MAPS),
    w: parts.includes('W1') ? 1 : 0,
  };
}

const MASK = '{k}{z}';
const DIGITS = '0123456789';

function parseOperand(text: string): OperandKind {
  const maskable = text.endsWith(MASK);
  if (text === 'cl') return { role: 'cl', bits: 8, maskable };
  if (text === '1') return { role: '1', bits: 8, maskable };
  const end = maskable ? text.length - MASK.length : text.length;
  let digits = end;
  while (DIGITS.includes(text[digits - 1]!)) digits--;
  const bits = Number(text.slice(digits, end)) as OperandKind['bits'];
  return { role: text.slice(0, digits) as Role, bits, maskable };
}

const rows = new Map<string, Row[]>();
for (const row of [
  ...arithmeticRows(),
  ...shiftRows(),
  ...unaryRows(),
  ...MOVES,
  ...REST,
  ...SYSTEM,
  ...LOCKED,
  ...BMI,
  ...VECTOR_MOVES,
  ...VECTOR_OPERATIONS,
  ...conditionRows(),
]) {
  const others = rows.get(row[0]);
  if (others) others.push(row);
  else rows.set(row[0], [row]);
}

const read = new Map<string, readonly Form[]>();

/** The forms of a mnemonic in the order of preference; none for what is no mnemonic. */
export function formsOf(mnemonic: string): readonly Form[] {
  const known = read.get(mnemonic);
  if (known) return known;
  const forms = (rows.get(mnemonic) ?? []).flatMap(widen).map(parse);
  read.set(mnemonic, forms);
  return forms;
}

/** Every instruction form. */
export const allForms = (): Form[] => [...rows.keys()].flatMap(formsOf);
