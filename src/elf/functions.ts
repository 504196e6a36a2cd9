// The functions of an object, as its symbols name them.

import { ElfError } from '../errors.js';
import { isCode, type Section } from './sections.js';
import { type ElfSymbol, SLOT_BYTES, SYMBOL_TYPE } from './symbols.js';

export interface FunctionRange {
  readonly name: string;
  readonly section: string;
  readonly sectionIndex: number;
  readonly global: boolean;
  /** First byte in its section, and the byte behind its last. */
  readonly start: number;
  readonly end: number;
}

/**
 * All functions, aliases too, by section and then by place.
 * @throws ElfError 'E-FUNCTION' for one that is not whole slots of its section, 'E-OVERLAP' for two that share some slots but not all
 */
export function readFunctions(symbols: readonly ElfSymbol[]): FunctionRange[] {
  const bySection = new Map<number, ElfSymbol[]>();
  for (const symbol of symbols.filter(isFunction)) {
    const index = symbol.section!.index;
    const together = bySection.get(index);
    if (together) together.push(symbol);
    else bySection.set(index, [symbol]);
  }
  return [...bySection.values()].flatMap(rangesOf);
}

const isFunction = ({ type, section }: ElfSymbol): boolean =>
  type === SYMBOL_TYPE.func && section !== undefined && isCode(section);

function rangesOf(symbols: readonly ElfSymbol[]): FunctionRange[] {
  const sorted = [...symbols].sort((a, b) => a.value - b.value || a.index - b.index);
  const ranges: FunctionRange[] = [];
  for (const [i, symbol] of sorted.entries()) {
    const range = rangeOf(symbol, sorted[i + 1]);
    const before = ranges.at(-1);
    const alias = before?.start === range.start && before.end === range.end;
    if (before && !alias && range.start < before.end) {
      const message = `functions ${before.name} and ${range.name} of section ${range.section} overlap`;
      throw new ElfError('E-OVERLAP', message, { byte: symbol.byte });
    }
    ranges.push(range);
  }
  return ranges;
}

/** A symbol that gives no size reaches to the next, or to the section's end. */
function rangeOf(symbol: ElfSymbol, next: ElfSymbol | undefined): FunctionRange {
  const { name, global, value: start, byte } = symbol;
  const section = symbol.section!;
  const end = symbol.size > 0 ? start + symbol.size : (next?.value ?? section.size);
  const whole = start % SLOT_BYTES === 0 && end % SLOT_BYTES === 0;
  if (!whole || start >= end || end > section.size) {
    const message = `function ${name}, bytes ${start} to ${end} of section ${section.name} of ${section.size} bytes, is no run of 8-byte slots`;
    throw new ElfError('E-FUNCTION', message, { byte });
  }
  return { name, section: section.name, sectionIndex: section.index, global, start, end };
}

/** An instruction of a function. */
export interface Place {
  readonly range: FunctionRange;
  readonly section: Section;
  /** Byte offset in the function. */
  readonly at: number;
}

export function errorAt({ range, section, at }: Place, code: string, message: string): ElfError {
  const insn = at / SLOT_BYTES;
  const byte = section.offset + range.start + at;
  return new ElfError(code, `function ${range.name}, instruction ${insn}: ${message}`, { insn, byte });
}
