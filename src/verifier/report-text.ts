// A report as a person reads it.

import type { ReportedCounterexample, SliceLine, VerifierReport } from '../errors.js';

export function reportText(report: VerifierReport): string {
  const { code, reason, slice, counterexample, contract } = report;
  return [
    `${code}: ${reason}\n\n${place(report)}`,
    slice.length > 0 ? section(sliceTitle(report), sliceLines(slice)) : '',
    counterexample ? section('An input on which it happens', inputLines(counterexample)) : '',
    section('What the program may rely on', contract),
  ]
    .filter(Boolean)
    .join('\n');
}

const section = (title: string, lines: readonly string[]): string =>
  `${title}:\n${lines.map((line) => `  ${line}\n`).join('')}`;

/** The instruction, with carets under the operand. */
function place({ insn, instruction, operand }: VerifierReport): string {
  const before = `  ${insn}: `;
  const { text, column, holds } = operand ?? { text: instruction, column: 0, holds: '' };
  const carets = ' '.repeat(before.length + column) + '^'.repeat(text.length);
  return `${before}${instruction}\n${carets}${holds && ` ${holds}`}\n`;
}

function sliceTitle({ code, operand }: VerifierReport): string {
  if (code === 'V-UNWRITTEN') return 'What was written on this way';
  if (!operand) return 'What the loop depends on';
  return `Where ${operand.registers.join(' and ')} ${operand.registers.length > 1 ? 'come' : 'comes'} from`;
}

function sliceLines(slice: readonly SliceLine[]): string[] {
  const digits = Math.max(...slice.map(({ insn }) => String(insn).length));
  const left = slice.map(({ insn, instruction }) => `${String(insn).padStart(digits)}: ${instruction}`);
  const width = Math.max(...left.map(({ length }) => length));
  return slice.map(({ result, times }, i) => {
    const often = times > 1 ? ` (${times} times)` : '';
    return result || often ? `${left[i]!.padEnd(width)} ; ${result}${often}` : left[i]!;
  });
}

function inputLines({ args, helperResults, fault }: ReportedCounterexample): string[] {
  const given = args.flatMap((arg, i) =>
    arg === null ? [] : [`r${i + 1}: ${'number' in arg ? arg.number : bytesText(arg.bytes)}`],
  );
  const results = Object.entries(helperResults).map(
    ([id, result]) => `helper function ${id} returns ${result}`,
  );
  return [...given, ...results, `${fault.message} [${fault.code}]`];
}

/** Hexadecimal bytes, the zeros at the end counted. */
function bytesText(hex: string): string {
  const given = hex.replace(/(00)+$/, '');
  const zeros = (hex.length - given.length) / 2;
  if (zeros < 4) return hex || 'no bytes';
  const count = `${zeros} bytes 00`;
  return given ? `${given}, then ${count}` : count;
}
