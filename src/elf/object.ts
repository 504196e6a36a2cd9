// An object file made by `clang -target bpf -c` or gcc for BPF: its functions, each linked to a program when asked for.

import type { Program } from '../bpf/program.js';
import { requireBytes } from '../bytes.js';
import { ElfError } from '../errors.js';
import { isData, readDataParts } from './data.js';
import { type FunctionRange, readFunctions } from './functions.js';
import { link, type Parts, placeOf } from './link.js';
import { readSections, SECTION_FLAG, SECTION_TYPE, type Section } from './sections.js';
import { readRelocations, readSymbols, SLOT_BYTES } from './symbols.js';

export interface ElfFunction {
  readonly name: string;
  readonly section: string;
  /** Whether other objects may call it. */
  readonly global: boolean;
  /** Length in slots, without what it calls. */
  readonly slots: number;
}

/** A section of data. Programs that take an address in it bring it along, as `program.data`. */
export interface ElfData {
  readonly section: string;
  /** Length in bytes. */
  readonly size: number;
  readonly writable: boolean;
  /** A copy of the contents; undefined for a section of zeros, as .bss, which has none in the file. */
  readonly bytes: Uint8Array | undefined;
}

export class ElfObject {
  readonly functions: readonly ElfFunction[];
  readonly data: readonly ElfData[];
  readonly #ranges: readonly FunctionRange[];
  readonly #parts: Parts;

  /** @internal */
  constructor(sections: readonly Section[]) {
    const symbols = readSymbols(sections);
    this.#ranges = readFunctions(symbols);
    const relocations = readRelocations(sections, symbols);
    this.#parts = {
      sections,
      functions: new Map(this.#ranges.map((range) => [placeOf(range.sectionIndex, range.start), range])),
      relocations,
      data: readDataParts(sections, symbols, relocations),
    };
    this.functions = this.#ranges.map(({ name, section, global, start, end }) => ({
      name,
      section,
      global,
      slots: (end - start) / SLOT_BYTES,
    }));
    this.data = sections
      .filter((section) => isData(section) && section.size > 0)
      .map(({ name, size, flags, type, bytes }) => ({
        section: name,
        size,
        writable: (flags & SECTION_FLAG.write) !== 0,
        bytes: type === SECTION_TYPE.nobits ? undefined : bytes.slice(),
      }));
  }

  /**
   * The program that begins with a function, and ends with all that it calls; with the data sections that these take addresses in.
   * @param name default: the only global function outside of .text, or else the only global one
   * @throws ElfError 'E-NO-FUNCTION' if there is none or more than one of that name; 'E-DATA' for data that cannot be had,
   *   'E-LIMIT', 'E-EXTERN', 'E-CALL', 'E-RELOC' or 'E-FALL-OFF'; ProgramError as `decodeProgram`: with the function, and the slot in it
   */
  program(name?: string): Program {
    return link(this.#choose(name), this.#parts);
  }

  #choose(name: string | undefined): FunctionRange {
    const globals = this.#ranges.filter(({ global }) => global);
    const entries = globals.filter(({ section }) => section !== '.text');
    const named = this.#ranges.filter((range) => range.name === name);
    const found = name !== undefined ? named : entries.length > 0 ? entries : globals;
    if (found.length === 1) return found[0]!;
    const which = name === undefined ? 'to begin with' : `called ${name}`;
    const all = this.#ranges.slice(0, 20).map((range) => range.name);
    const message = `${found.length} functions ${which}; the object has ${all.join(', ') || 'none'}`;
    throw new ElfError('E-NO-FUNCTION', message);
  }
}

/**
 * Reads a BPF object: ELF64, little-endian, not linked. Only what programs are made of is looked at; debug information, BTF and
 * maps are passed over.
 * @throws ArgumentError for what are no bytes; ElfError with the byte offset in the file: 'E-TRUNCATED', 'E-HEADER', 'E-SECTION',
 *   'E-NAME', 'E-SYMBOL', 'E-FUNCTION', 'E-RELOC' or 'E-OVERLAP'
 */
export function readElf(bytes: Uint8Array): ElfObject {
  return new ElfObject(readSections(requireBytes(bytes, 0, 'the object')));
}
