// Random straight-line programs that move bits from one record to another.

import { row } from '../src/bpf/isa.js';
import { type Instruction, instruction, makeProgram } from '../src/bpf/program.js';
import type { Contract, Program } from '../src/index.js';
import { IMMEDIATES } from './boundary-values.js';
import type { Random } from './random-formats.js';

export const IN = 24;
export const OUT = 24;
/** r1 = OUT bytes to write, r2 = IN bytes to read. */
export const contract: Contract = {
  args: [
    { kind: 'memory', bytes: OUT, access: 'write' },
    { kind: 'memory', bytes: IN, access: 'read' },
  ],
  disjoint: true,
};
const op = (name: string, operands: Parameters<typeof instruction>[1]) => instruction(row(name), operands);
const pick = <T>(random: Random, choices: readonly T[]): T => choices[random(choices.length)]!;

const SIZES = { b: 1, h: 2, w: 4, dw: 8 } as const;
const LETTERS = ['b', 'h', 'w', 'dw'] as const;
const WORK = [0, 3, 4, 5];

/** Stores of a register's low bytes one by one, as compilers make them of unaligned ones. */
function inBytes(src: number, byte: number, count: number): Instruction[] {
  return Array.from({ length: count }, (_, i) => [
    op('mov64.reg', { dst: 6, src }),
    op('rsh64.imm', { dst: 6, imm: 8 * i }),
    op('stxb', { dst: 1, src: 6, off: byte + i }),
  ]).flat();
}

/** Instructions that move bits about, as compilers do: loads, shifts, masks, additions, swaps, stores. */
function randomStep(random: Random): Instruction[] {
  const [dst, src] = [pick(random, WORK), pick(random, WORK)];
  const letter = pick(random, LETTERS);
  const bits = pick(random, [32, 64]);
  const low = (1 << (1 + random(30))) - 1;
  const imm = pick(random, [low, ~low, pick(random, IMMEDIATES), random(2 ** 31), 1 << random(31)]);
  switch (random(15)) {
    case 0:
    case 1:
    case 2:
      return [op(`ldx${letter}`, { dst, src: 2, off: random(IN - SIZES[letter] + 1) })];
    case 3:
      return letter === 'dw'
        ? []
        : [op(`ldxs${letter}`, { dst, src: 2, off: random(IN - SIZES[letter] + 1) })];
    case 4:
    case 5:
      return [op(`stx${letter}`, { dst: 1, src, off: random(OUT - SIZES[letter] + 1) })];
    case 6:
      return [op(`st${letter}`, { dst: 1, imm, off: random(OUT - SIZES[letter] + 1) })];
    case 7:
      return [
        op(pick(random, ['be16', 'be32', 'be64', 'le16', 'le32', 'le64', 'bswap32', 'bswap64']), { dst }),
      ];
    case 8:
      return [op(`${pick(random, ['lsh', 'rsh', 'arsh'])}${bits}.imm`, { dst, imm: random(bits) })];
    case 9:
      return [op(`${pick(random, ['add', 'sub', 'and', 'or', 'xor', 'mul'])}${bits}.imm`, { dst, imm })];
    case 10:
      return [op(`${pick(random, ['add', 'or', 'mov', 'mov', 'xor', 'and'])}${bits}.reg`, { dst, src })];
    case 11:
      return [op(`stx${letter}`, { dst: 10, src, off: -8 - random(8) })];
    case 12:
      return [op(`ldx${letter}`, { dst, src: 10, off: -8 - random(8) })];
    case 13:
      return inBytes(src, random(OUT - 7), pick(random, [2, 4, 6, 8]));
    default:
      return [
        op(pick(random, ['movsx8_32', 'movsx16_64', 'movsx32_64', 'movsx8_64', 'movsx16_32']), { dst, src }),
      ];
  }
}

export function randomProgram(random: Random): Program {
  const start = WORK.map((dst) => op('ldxdw', { dst, src: 2, off: random(IN - 7) }));
  const stack = [-8, -16].map((off) => op('stxdw', { dst: 10, src: 3, off }));
  const steps = Array.from({ length: 2 + random(8) }, () => randomStep(random)).flat();
  const store = op(`stx${pick(random, LETTERS)}`, { dst: 1, src: pick(random, WORK), off: random(OUT - 7) });
  return makeProgram([
    ...start,
    ...stack,
    ...steps,
    store,
    op('mov64.imm', { dst: 0, imm: 7 }),
    op('exit', {}),
  ]);
}
