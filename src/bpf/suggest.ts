// What somebody may have meant: the nearest instruction form, or the nearest label.

import { type Dialect, ROWS, type Row } from './isa.js';
import { instruction } from './program.js';
import { instructionText } from './text.js';

/** Longer texts are not compared: the time grows with the length. */
const MAX_CHARACTERS = 80;

/** An example of the instruction form that a text is nearest to, unless none is near. */
export function nearestForm(text: string): string | undefined {
  return nearest(shapeOf(text), FORMS);
}

/** The nearest of some names, unless none is near. */
export function nearestName(name: string, names: Iterable<string>): string | undefined {
  return nearest(
    name,
    [...names].map((candidate) => [candidate, candidate] as const),
  );
}

type Shaped = readonly [name: string, shape: string];

function nearest(shape: string, candidates: readonly Shaped[]): string | undefined {
  if (shape.length > MAX_CHARACTERS) return undefined;
  let best: string | undefined;
  let least = Math.floor(shape.length / 2) + 1;
  for (const [name, other] of candidates) {
    const distance = editDistance(shape, other, least);
    if (distance >= least) continue;
    least = distance;
    best = name;
  }
  return best;
}

const FORMS: readonly Shaped[] = (['kernel', 'classic'] as const).flatMap((dialect) =>
  ROWS.filter(({ kind }) => kind !== 'refused').map((row) => {
    const text = exampleOf(row, dialect);
    return [text, shapeOf(text)] as const;
  }),
);

function exampleOf(row: Row, dialect: Dialect): string {
  const operands = { dst: 1, src: 2, off: row.off === 'jump' ? 3 : 8, imm: row.imm === 'jump' ? 3 : 5 };
  return instructionText(
    instruction(row, { ...operands, ...(row.kind === 'load_imm64' && { value: 5n }) }),
    dialect,
  );
}

/** The text with all registers, and all numbers, alike, and without space. */
function shapeOf(text: string): string {
  return text
    .replace(/\b([rRwW])\d+\b/g, (_, letter: string) => letter.toLowerCase())
    .replace(/(?<!\w)(0[xX][0-9a-fA-F]+|\d+)\b/g, '0')
    .replace(/goto [A-Za-z_.][\w.]*$/, 'goto +0')
    .replace(/\s+/g, '');
}

/** Characters to add, drop or change; `limit` if it is as many or more. */
function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit;
  let above = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const here = [i];
    for (let j = 1; j <= b.length; j++) {
      const changed = above[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      here.push(Math.min(changed, above[j]! + 1, here[j - 1]! + 1));
    }
    above = here;
  }
  return Math.min(above[b.length]!, limit);
}
