// Which fields each instruction of a lowered format works for: the lines of its debug information. Instructions
// up to a store are for the fields whose bytes it stores.

import type { Program } from '../bpf/program.js';
import { type Field, type Format, firstBit } from '../format/model.js';

export interface Line {
  /** Slot of the first instruction it is about; it reaches to the next line's. */
  readonly slot: number;
  /** The first field's place in the format, from 1; behind the last field's for what belongs to none. */
  readonly number: number;
  readonly text: string;
}

/** Longer lines are cut: names may have any length. */
const MAX_TEXT = 200;

/** @param program of `lower(format)` */
export function linesOf(format: Format, program: Program): Line[] {
  const lines: Line[] = [];
  const last = format.fields.length + 1;
  const writers = numbersByByte(format);
  let slot = 0;
  program.instructions.forEach(({ row, off }, index) => {
    if (row.kind !== 'store') return;
    const numbers = [...new Set(writers.slice(off, off + row.size).flat())];
    const text = numbers.map((number) => textOf(format.fields[number - 1]!)).join('; ');
    lines.push({ slot, number: numbers[0] ?? last, text: cut(text || `constant at byte ${off}`) });
    slot = program.slotOf(index) + 1;
  });
  return [...lines, { slot, number: last, text: 'return 0' }];
}

/** The numbers of the fields that each byte of the unpacked record has bits of. */
function numbersByByte({ fields, unpackedBytes }: Format): number[][] {
  const numbers = Array.from({ length: unpackedBytes }, (): number[] => []);
  fields.forEach(({ to }, index) => {
    const lastBit = firstBit(to) + to.bits - 1;
    for (let byte = firstBit(to) >> 3; byte <= lastBit >> 3; byte++) numbers[byte]!.push(index + 1);
  });
  return numbers;
}

function textOf({ name, bits, at, order, offset }: Field): string {
  const constant = `0x${offset.toString(16)}`;
  if (bits === 0) return `${name} = ${constant}`;
  const taken = `${bits} ${bits === 1 ? 'bit' : 'bits'} from bit ${at}${order === 'msb0' ? ' (msb0)' : ''}`;
  return `${name} = ${taken}${offset === 0n ? '' : ` + ${constant}`}`;
}

/** No zeros and line ends: it becomes a C string that is printed on a line. */
function cut(text: string): string {
  const clean = text.replace(/\p{Cc}/gu, '?');
  return clean.length <= MAX_TEXT ? clean : `${clean.slice(0, MAX_TEXT)}…`;
}
