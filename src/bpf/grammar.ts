// The grammar of an instruction: each row's own text, in each dialect, with its placeholders as the groups of a pattern.

import { type Dialect, ROWS, type Row } from './isa.js';

export interface Match {
  readonly row: Row;
  /** The placeholder and the text of each operand, in their order; an operand that may be left out has no text. */
  readonly operands: readonly (readonly [token: string, text: string | undefined])[];
}

const DIALECTS: readonly Dialect[] = ['kernel', 'classic'];
const PLACEHOLDERS = /(%[dDsSiqoj])/;

const DIGITS = '(?:0[xX][0-9a-fA-F]+|\\d+)';
const LABEL = '[A-Za-z_.][\\w.]*';
const KERNEL_GROUPS: Readonly<Record<string, string>> = {
  '%d': '[rR](\\d+)',
  '%D': '[wW](\\d+)',
  '%s': '[rR](\\d+)',
  '%S': '[wW](\\d+)',
  '%i': `([+-]?${DIGITS})`,
  '%q': `([+-]?${DIGITS})`,
  '%o': ` ?([+-] ?${DIGITS})?`,
  '%j': `([+-]${DIGITS}|${LABEL})`,
};
const GROUPS: Readonly<Record<Dialect, Readonly<Record<string, string>>>> = {
  kernel: KERNEL_GROUPS,
  classic: {
    ...KERNEL_GROUPS,
    '%d': '%?[rR](\\d+)',
    '%s': '%?[rR](\\d+)',
  },
};

/** Spellings that are read, too: those of bpf_conformance, and those that leave something out. */
const ALSO: Readonly<Record<Dialect, readonly (readonly [RegExp, string])[]>> = {
  kernel: [[/pc(?=%j)/, '']],
  classic: [
    [/^bswap/, 'swap'],
    [/fetch_/, 'fetch '],
    [/^(movsx\d\d?)64/, '$1'],
    [/^call (?=%i)/, 'call helper '],
  ],
};

type Pattern = ReturnType<typeof patternOf>;
let patterns: readonly Pattern[] | undefined;

/** All of them, made at the first use: they take 10 ms, which loading the library need not (measured). */
const makePatterns = (): Pattern[] =>
  DIALECTS.flatMap((dialect) =>
    ROWS.flatMap((row) => {
      const text = row.text[dialect];
      const spellings = new Set([text, ...ALSO[dialect].map(([is, also]) => text.replace(is, also))]);
      return [...spellings].map((spelling) => patternOf(row, spelling, GROUPS[dialect]));
    }),
  );

function patternOf(row: Row, text: string, groups: Readonly<Record<string, string>>) {
  const parts = text.split(PLACEHOLDERS);
  const source = parts.map((part) => groups[part] ?? literal(part)).join('');
  return { row, tokens: parts.filter((part) => part in groups), regexp: new RegExp(`^${source}$`) };
}

/** A piece of fixed text: space is needed between two words, and free around punctuation. */
function literal(text: string): string {
  return text
    .split(/(\s+|[()*,[\]])/)
    .map((part) => {
      if (/^\s+$/.test(part)) return '(?: |(?<![\\w.])|(?![\\w.]))';
      const escaped = part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
      return /^[()*,[\]]$/.test(part) ? ` ?${escaped} ?` : escaped;
    })
    .join('');
}

/** The rows whose text it is. @param text of one instruction, without space at its ends and with no two in a row */
export function* matchesOf(text: string): Generator<Match> {
  for (const { row, tokens, regexp } of (patterns ??= makePatterns())) {
    const match = regexp.exec(text);
    if (match) yield { row, operands: tokens.map((token, i) => [token, match[i + 1]]) };
  }
}
