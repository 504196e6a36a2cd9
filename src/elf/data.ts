// Addresses of data: an LD_IMM64 whose relocation names a variable or a section. Its immediate counts bytes
//
//   against a section          from the section's start
//   against a variable         from the variable (clang), or from its section's start (the assembler of binutils 2.40)

import type { DataSpec } from '../bpf/data.js';
import type { ElfError } from '../errors.js';
import { type Addresses, readAddresses, standAt } from './addresses.js';
import { errorAt, type Place } from './functions.js';
import { isCode, SECTION_FLAG, SECTION_TYPE, type Section, viewOf } from './sections.js';
import {
  type ElfSymbol,
  RELOCATION,
  type Relocation,
  type Relocations,
  relocationError,
  SYMBOL_TYPE,
} from './symbols.js';

/** Bytes of all data of a program: a file of no length may ask for any number of zeros. */
const MAX_DATA_BYTES = 2 ** 24;
const MAX_ALIGNMENT = 4096;
/** Where the immediate's halves are in an LD_IMM64. */
const HALVES = { low: 4, high: 12 } as const;

export const isData = (section: Section): boolean =>
  (section.flags & SECTION_FLAG.alloc) !== 0 && !isCode(section);

/** What an object knows of its data. */
export interface DataParts {
  /** Where addresses stand in each section that has any, by the section's index. */
  readonly addresses: ReadonlyMap<number, Addresses>;
  /** Whether immediates against variables count from their section. */
  readonly fromSection: boolean;
}

export function readDataParts(
  sections: readonly Section[],
  symbols: readonly ElfSymbol[],
  relocations: ReadonlyMap<number, Relocations>,
): DataParts {
  return {
    addresses: readAddresses(sections, symbols),
    fromSection: countsFromSection(sections, relocations),
  };
}

/**
 * The GNU assembler names its section names .shstrtab. Where one that counts from variables wrote them, the start of some variable
 * that does not begin its section is asked for with 0.
 */
function countsFromSection(
  sections: readonly Section[],
  relocations: ReadonlyMap<number, Relocations>,
): boolean {
  if (!sections.some(({ name }) => name === '.shstrtab')) return false;
  for (const [index, here] of relocations) {
    const code = viewOf(sections[index]!.bytes);
    for (const { type, symbol, at } of here.values()) {
      if (type !== RELOCATION.address64 || !isVariable(symbol) || at + HALVES.high > code.byteLength)
        continue;
      if (symbol.value > 0 && code.getInt32(at + HALVES.low, true) === 0) return false;
    }
  }
  return true;
}

const isVariable = ({ type, section }: ElfSymbol): boolean =>
  type !== SYMBOL_TYPE.section && section !== undefined && isData(section);

/** The data sections that a program needs, in the order they are met. */
export class DataSections {
  readonly #parts: DataParts;
  readonly #numbers = new Map<Section, number>();
  #bytes = 0;

  constructor(parts: DataParts) {
    this.#parts = parts;
  }

  /**
   * @param code the function; the LD_IMM64 at `place` is within it
   * @throws ElfError 'E-DATA', 'E-LIMIT' or 'E-RELOC'
   */
  addressOf(relocation: Relocation, code: DataView, place: Place): { section: number; offset: number } {
    const { symbol, addend } = relocation;
    const { section } = symbol;
    if (!section) throw refusal(place, `${symbol.name}, which is not in this object`);
    const counted = addend ?? immediateAt(code, place.at);
    if (counted === undefined)
      throw relocationError(place.section, relocation, 'is added to more than 32 bits');
    const start = addend === undefined && this.#parts.fromSection && isVariable(symbol) ? 0 : symbol.value;
    const offset = start + Number(counted);
    const what = symbol.name === section.name ? section.name : `${symbol.name} in section ${section.name}`;
    const number = this.#numberOf(section, what, place);
    if (offset < 0 || offset > section.size)
      throw refusal(place, `byte ${offset} of section ${section.name}, which has ${section.size} bytes`);
    const addresses = this.#parts.addresses.get(section.index);
    if (addresses && standAt(addresses, offset))
      throw refusal(
        place,
        `${what}, where addresses stand (${addresses.table.name}), as in tables of pointers; data with addresses in it cannot be had`,
      );
    return { section: number, offset };
  }

  specs(): DataSpec[] {
    return [...this.#numbers.keys()].map(({ name, type, size, bytes, flags, alignment }) => ({
      name,
      bytes: type === SECTION_TYPE.nobits ? new Uint8Array(size) : bytes,
      writable: (flags & SECTION_FLAG.write) !== 0,
      alignment,
    }));
  }

  #numberOf(section: Section, what: string, place: Place): number {
    const known = this.#numbers.get(section);
    if (known !== undefined) return known;
    const flaw = flawOf(section);
    if (flaw) throw refusal(place, `${what}, ${flaw}`);
    this.#bytes += section.size;
    if (this.#bytes > MAX_DATA_BYTES) {
      const message = `it takes the address of ${what}, with which the program has ${this.#bytes} bytes of data; the most are ${MAX_DATA_BYTES}`;
      throw errorAt(place, 'E-LIMIT', message);
    }
    this.#numbers.set(section, this.#numbers.size);
    return this.#numbers.size - 1;
  }
}

const refusal = (place: Place, what: string): ElfError =>
  errorAt(place, 'E-DATA', `it takes the address of ${what}`);

/** The 64 bits of an LD_IMM64, unless they are more than 32 bits with their sign. */
function immediateAt(code: DataView, at: number): number | undefined {
  const low = code.getInt32(at + HALVES.low, true);
  const high = code.getInt32(at + HALVES.high, true);
  return high === 0 || (high === -1 && low < 0) ? low : undefined;
}

/** Why a section cannot be had as data. */
function flawOf(section: Section): string | undefined {
  const { name, type, alignment } = section;
  if (isCode(section)) return 'which is code; functions can only be called';
  if (!isData(section) || (type !== SECTION_TYPE.progbits && type !== SECTION_TYPE.nobits))
    return 'which is no section of data';
  if (/^\.?maps(\/|$)/.test(name))
    return 'which is a map; programs have none here, so pass memory as an argument';
  const fits = alignment <= MAX_ALIGNMENT && (alignment & (alignment - 1)) === 0;
  return fits
    ? undefined
    : `whose alignment is ${alignment}; it must be a power of two, at most ${MAX_ALIGNMENT}`;
}
