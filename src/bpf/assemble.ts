// Text to program, in the dialect of the Linux verifier's log. Each row's own text is the grammar: its
// placeholders become the groups of a pattern.
//
//   start:                       a label, alone or before an instruction
//     r0 = *(u64 *)(r1 + 8)      ; comments start with ; # or //
//     if r0 s> 5 goto start      ; a jump names a label or a distance, goto +3
//     exit

import { ProgramError } from '../errors.js';
import { ROWS, type Row } from './isa.js';
import { type Instruction, instruction, makeProgram, type Program, slotsOf } from './program.js';

interface Pattern {
  readonly row: Row;
  readonly regexp: RegExp;
  /** The placeholder of each group. */
  readonly tokens: readonly string[];
}

/** An instruction as written, before labels have places. */
interface Line {
  readonly row: Row;
  readonly operands: { dst: number; src: number; off: number; imm: number; value?: bigint };
  readonly target: string | undefined;
  readonly slot: number;
  readonly line: number;
  /** Of the instruction's first character, from 0. */
  readonly column: number;
}

/**
 * Reads a program from text.
 * @throws ProgramError: 'P-SYNTAX' with line and column, counted from 1, in `where`; for what the text says, as
 *   `decodeProgram`, with the slot
 */
export function assemble(text: string): Program {
  if (typeof text !== 'string') throw new ProgramError('P-TYPE', 'a program is assembled from a string');
  const labels = new Map<string, number>();
  const lines: Line[] = [];
  let slot = 0;
  text.split('\n').forEach((source, i) => {
    const line = i + 1;
    const code = source.replace(/(;|#|\/\/).*/, '');
    let rest = code;
    for (let label = LABEL.exec(rest); label; label = LABEL.exec(rest)) {
      const name = label[1]!;
      if (labels.has(name)) throw syntax(`label ${name} is defined twice`, line, source.indexOf(name));
      labels.set(name, slot);
      rest = rest.slice(label[0].length);
    }
    if (rest.trim() === '') return;
    const column = code.length - rest.trimStart().length;
    lines.push(parse(rest.trim(), slot, line, column));
    slot += slotsOf(lines.at(-1)!.row);
  });
  return makeProgram(lines.map((line) => place(line, labels)));
}

const LABEL = /^\s*([A-Za-z_.][\w.]*)\s*:/;
const NUMBER = '[+-]?(?:0[xX][0-9a-fA-F]+|\\d+)';
const GROUPS: Readonly<Record<string, string>> = {
  '%d': '[rR](\\d+)',
  '%D': '[wW](\\d+)',
  '%s': '[rR](\\d+)',
  '%S': '[wW](\\d+)',
  '%i': `(${NUMBER})`,
  '%q': `(${NUMBER})`,
  '%o': '\\s*([+-]\\s*(?:0[xX][0-9a-fA-F]+|\\d+))?',
  '%j': '([+-]\\d+|[A-Za-z_.][\\w.]*)',
};

const PATTERNS: readonly Pattern[] = ROWS.map((row) => {
  const tokens: string[] = [];
  const pattern = row.text
    .split(/(%[dDsSiqoj])/)
    .map((part) => {
      const group = GROUPS[part];
      if (group === undefined) return literal(part);
      tokens.push(part);
      return group;
    })
    .join('')
    .replace('pc(', '(?:pc)?('); // `call name` is as good as `call pc+3`
  return { row, tokens, regexp: new RegExp(`^${pattern}$`) };
});

/** A piece of fixed text, with any space where it has one and around its punctuation. */
function literal(text: string): string {
  return text
    .split(/(\s+|[()*,])/)
    .map((part) => {
      if (/^\s+$/.test(part)) return '\\s*';
      const escaped = part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
      return /^[()*,]$/.test(part) ? `\\s*${escaped}\\s*` : escaped;
    })
    .join('');
}

function parse(text: string, slot: number, line: number, column: number): Line {
  for (const { row, regexp, tokens } of PATTERNS) {
    const match = regexp.exec(text);
    if (!match) continue;
    const read = readOperands(row, tokens, match.slice(1), (message) =>
      syntax(`${message} in "${text}"`, line, column),
    );
    if (read) return { row, ...read, slot, line, column };
  }
  throw syntax(`"${text}" is no instruction`, line, column);
}

/** The operands of a match, or undefined where one register stands in two places and the text names two. */
function readOperands(
  row: Row,
  tokens: readonly string[],
  groups: readonly (string | undefined)[],
  fail: (message: string) => ProgramError,
): Pick<Line, 'operands' | 'target'> | undefined {
  const operands: { dst: number; src: number; off: number; imm: number; value?: bigint } = {
    dst: 0,
    src: 0,
    off: 0,
    imm: 0,
  };
  const registers = new Map<string, string>();
  let target: string | undefined;
  for (const [i, token] of tokens.entries()) {
    const group = groups[i];
    if ('%d %D %s %S'.includes(token)) {
      const field = token.toLowerCase();
      if ((registers.get(field) ?? group) !== group) return undefined;
      registers.set(field, group!);
      operands[field === '%d' ? 'dst' : 'src'] = registerNumber(group!, fail);
    } else if (token === '%o') {
      operands.off = inRange(number(group ?? '0'), 16, 'displacement', fail);
    } else if (token === '%j') {
      target = group;
    } else if (token === '%q') {
      operands.value = unsigned(number(group!), 64, fail);
    } else {
      operands.imm = immediate(row, number(group!), fail);
    }
  }
  return { operands, target };
}

function registerNumber(digits: string, fail: (message: string) => ProgramError): number {
  const register = Number(digits);
  if (register > 10) throw fail(`register ${digits} does not exist`);
  return register;
}

function number(text: string): bigint {
  const digits = text.replace(/\s+/g, '');
  const magnitude = BigInt(digits.replace(/^[+-]/, ''));
  return digits.startsWith('-') ? -magnitude : magnitude;
}

/** 32 bits, given signed or unsigned where the operation is of 32 bits, and as they are sign-extended otherwise. */
function immediate(row: Row, value: bigint, fail: (message: string) => ProgramError): number {
  const bits = row.kind === 'store' ? row.size * 8 : row.bits;
  const wraps = bits <= 32 && value >= 0n && value < 1n << 32n;
  const extended = value >= (1n << 64n) - (1n << 31n) && value < 1n << 64n;
  return inRange(wraps || extended ? BigInt.asIntN(32, value) : value, 32, 'immediate', fail);
}

function inRange(value: bigint, bits: number, what: string, fail: (message: string) => ProgramError): number {
  if (BigInt.asIntN(bits, value) !== value) throw fail(`${what} ${value} does not fit ${bits} signed bits`);
  return Number(value);
}

function unsigned(value: bigint, bits: number, fail: (message: string) => ProgramError): bigint {
  if (value < -(1n << BigInt(bits - 1)) || value >= 1n << BigInt(bits))
    throw fail(`${value} does not fit ${bits} bits`);
  return BigInt.asUintN(bits, value);
}

function place(
  { row, operands, target, slot, line, column }: Line,
  labels: ReadonlyMap<string, number>,
): Instruction {
  if (target === undefined) return instruction(row, operands);
  const fail = (message: string) => syntax(message, line, column);
  const label = labels.get(target);
  if (label === undefined && !/^[+-]/.test(target)) throw fail(`label ${target} is not defined`);
  const distance = BigInt(label === undefined ? Number(target) : label - slot - 1);
  const field = row.off === 'jump' ? 'off' : 'imm';
  return instruction(row, {
    ...operands,
    [field]: inRange(distance, field === 'off' ? 16 : 32, 'jump distance', fail),
  });
}

function syntax(message: string, line: number, column: number): ProgramError {
  return new ProgramError('P-SYNTAX', `line ${line}: ${message}`, { line, column: column + 1 });
}
