// Text to program. Each line may be in either dialect: the Linux verifier's log, or uBPF's assembler.
//
//   start:                       a label, alone or before an instruction
//     r0 = *(u64 *)(r1 + 8)      ; comments start with ; # or //
//     if r0 s> 5 goto start      ; a jump names a label or a distance, goto +3
//     ldxdw %r0, [%r1+8]         ; % may be left out
//     jsgt %r0, 5, start
//     exit                       ; the first exit has the label exit, if nothing else has

import { ProgramError } from '../errors.js';
import { type Match, matchesOf } from './grammar.js';
import type { Row } from './isa.js';
import { type Instruction, instruction, makeProgram, type Program, slotsOf } from './program.js';
import { nearestForm, nearestName } from './suggest.js';

interface Operands {
  dst: number;
  src: number;
  off: number;
  imm: number;
  value?: bigint;
}

/** Makes the error about a place in the text. */
type Fail = (message: string) => ProgramError;

/** An instruction as written, before labels have places. */
interface Statement {
  readonly row: Row;
  readonly operands: Operands;
  readonly target: string | undefined;
  readonly slot: number;
  readonly fail: Fail;
}

/**
 * Reads a program from text, in the dialects of `disassemble`, which may be mixed.
 * @throws ProgramError: 'P-SYNTAX' with line and column, counted from 1, in `where`, and in the message the line with a
 *   mark below that column; for what the text says, as `decodeProgram`, with the slot
 */
export function assemble(text: string): Program {
  if (typeof text !== 'string') throw new ProgramError('P-TYPE', 'a program is assembled from a string');
  const labels = new Map<string, number>();
  const statements: Statement[] = [];
  let slot = 0;
  text.split('\n').forEach((source, index) => {
    const code = source.replace(/(;|#|\/\/).*/s, '');
    const failAt = (column: number) => (message: string) => syntax(message, source, index + 1, column);
    let rest = code;
    for (let label = LABEL.exec(rest); label; label = LABEL.exec(rest)) {
      const name = label[1]!;
      const column = code.length - rest.trimStart().length;
      if (labels.has(name)) throw failAt(column)(`label ${excerpt(name)} is defined twice`);
      labels.set(name, slot);
      rest = rest.slice(label[0].length);
    }
    if (rest.trim() === '') return;
    const fail = failAt(code.length - rest.trimStart().length);
    const statement = { ...parse(rest.trim().replace(/\s+/g, ' '), fail), slot, fail };
    statements.push(statement);
    slot += slotsOf(statement.row);
  });
  const firstExit = statements.find(({ row }) => row.kind === 'exit');
  if (firstExit && !labels.has('exit')) labels.set('exit', firstExit.slot);
  return makeProgram(statements.map((statement) => place(statement, labels)));
}

const LABEL = /^\s*([A-Za-z_.][\w.]*)\s*:/;

function parse(text: string, fail: Fail): Pick<Statement, 'row' | 'operands' | 'target'> {
  for (const match of matchesOf(text)) {
    const read = readOperands(match, (message) => fail(`${message} in "${excerpt(text)}"`));
    if (read) return { row: match.row, ...read };
  }
  throw fail(`"${excerpt(text)}" is no instruction${suggestion(nearestForm(text))}`);
}

/** The operands of a match, or undefined where one register stands in two places and the text names two. */
function readOperands(match: Match, fail: Fail): Pick<Statement, 'operands' | 'target'> | undefined {
  const operands: Operands = { dst: 0, src: 0, off: 0, imm: 0 };
  const registers = new Map<string, string>();
  let target: string | undefined;
  for (const [token, text] of match.operands) {
    if ('%d %D %s %S'.includes(token)) {
      const field = token.toLowerCase();
      if ((registers.get(field) ?? text) !== text) return undefined;
      registers.set(field, text!);
      operands[field === '%d' ? 'dst' : 'src'] = registerNumber(text!, fail);
    } else if (token === '%o') {
      operands.off = inRange(number(text ?? '0'), 16, 'displacement', fail);
    } else if (token === '%j') {
      target = text;
    } else if (token === '%q') {
      operands.value = unsigned(number(text!), 64, fail);
    } else {
      operands.imm = immediate(match.row, number(text!), fail);
    }
  }
  return { operands, target };
}

function registerNumber(digits: string, fail: Fail): number {
  const register = Number(digits);
  if (register > 10) throw fail(`register ${excerpt(digits)} does not exist`);
  return register;
}

function number(text: string): bigint {
  const digits = text.replace(/\s+/g, '');
  const magnitude = BigInt(digits.replace(/^[+-]/, ''));
  return digits.startsWith('-') ? -magnitude : magnitude;
}

/** 32 bits, given signed or unsigned where the operation is of 32 bits, and as they are sign-extended otherwise. */
function immediate(row: Row, value: bigint, fail: Fail): number {
  const bits = row.kind === 'store' ? row.size * 8 : row.bits;
  const wraps = bits <= 32 && value >= 0n && value < 1n << 32n;
  const extended = value >= (1n << 64n) - (1n << 31n) && value < 1n << 64n;
  return inRange(wraps || extended ? BigInt.asIntN(32, value) : value, 32, 'immediate', fail);
}

function inRange(value: bigint, bits: number, what: string, fail: Fail): number {
  if (BigInt.asIntN(bits, value) !== value)
    throw fail(`${what} ${excerpt(String(value))} does not fit ${bits} signed bits`);
  return Number(value);
}

function unsigned(value: bigint, bits: number, fail: Fail): bigint {
  if (value < -(1n << BigInt(bits - 1)) || value >= 1n << BigInt(bits))
    throw fail(`${excerpt(String(value))} does not fit ${bits} bits`);
  return BigInt.asUintN(bits, value);
}

function place(
  { row, operands, target, slot, fail }: Statement,
  labels: ReadonlyMap<string, number>,
): Instruction {
  if (target === undefined) return instruction(row, operands);
  const label = labels.get(target);
  if (label === undefined && !/^[+-]/.test(target))
    throw fail(`label ${excerpt(target)} is not defined${suggestion(nearestName(target, labels.keys()))}`);
  const distance = label === undefined ? number(target) : BigInt(label - slot - 1);
  const field = row.off === 'jump' ? 'off' : 'imm';
  return instruction(row, {
    ...operands,
    [field]: inRange(distance, field === 'off' ? 16 : 32, 'jump distance', fail),
  });
}

const suggestion = (nearest: string | undefined): string =>
  nearest === undefined ? '' : `; did you mean ${nearest}?`;

/** Characters of a source line that an error shows to either side. */
const SHOWN = 60;

const excerpt = (text: string): string => (text.length <= SHOWN ? text : `${text.slice(0, SHOWN)}…`);

/** @param column from 0 */
function syntax(message: string, source: string, line: number, column: number): ProgramError {
  const from = Math.max(0, column - SHOWN);
  const before = source.slice(from, column).replace(/\t/g, ' ');
  const shown = `  ${before}${excerpt(source.slice(column).trimEnd())}\n  ${' '.repeat(before.length)}^`;
  return new ProgramError('P-SYNTAX', `line ${line}: ${message}\n${shown}`, { line, column: column + 1 });
}
