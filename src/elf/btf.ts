// The BPF Type Format, as far as a program of ours needs types. All but its header and strings is 32-bit words:
//
//   header  0 magic:16, version:8, flags:8 | 4 header length | 8 types: offset, length | 16 strings: offset, length
//   type    0 name | 4 vlen:16, 24 kind:5, 31 kind_flag:1 | 8 size or type | more words by kind

import { ElfError } from '../errors.js';

export const BTF_MAGIC = 0xeb9f;
export const BTF_VERSION = 1;
/** What the kernel takes: bytes of strings (BTF_MAX_NAME_OFFSET), members of a struct (BTF_MAX_VLEN). */
const MAX_STRING_BYTES = 0xffffff;
const MAX_MEMBERS = 0xffff;
const HEADER_BYTES = 24;

const KIND = {
  int: 1,
  pointer: 2,
  array: 3,
  struct: 4,
  func: 12,
  funcProto: 13,
  variable: 14,
  dataSection: 15,
  declTag: 17,
} as const;
const KIND_FLAG = 0x8000_0000;
/** The kernel's verifier checks a global function by itself, a static one with each of its callers. */
const LINKAGE = { static: 0, global: 1 } as const;
const SIGNED = 1;

/** Zero-terminated strings, each once; the empty one is at 0. */
export class StringTable {
  readonly #offsets = new Map<string, number>([['', 0]]);
  readonly #chunks: Uint8Array[] = [Uint8Array.of(0)];
  #length = 1;

  /** Byte offset of a string, which is added if it is new. */
  add(text: string): number {
    const known = this.#offsets.get(text);
    if (known !== undefined) return known;
    const offset = this.#length;
    const bytes = new TextEncoder().encode(`${text}\0`);
    this.#offsets.set(text, offset);
    this.#chunks.push(bytes);
    this.#length += bytes.length;
    return offset;
  }

  encode(): Uint8Array {
    return Uint8Array.from(Buffer.concat(this.#chunks));
  }
}

export interface Member {
  readonly name: string;
  readonly type: number;
  /** First bit in the struct, and how many: 0 for a member that is no bit field. */
  readonly bit: number;
  readonly bits: number;
}

/** Types, each made once and known by its number from then on; 0 is void. */
export class Btf {
  readonly strings = new StringTable();
  readonly #words: number[] = [];
  readonly #ints = new Map<string, number>();
  #types = 0;

  int(bytes: number, signed: boolean): number {
    const name = `${signed ? 's' : 'u'}${bytes * 8}`;
    const known = this.#ints.get(name);
    if (known !== undefined) return known;
    const type = this.#add(name, KIND.int, bytes, [((signed ? SIGNED : 0) << 24) | (bytes * 8)]);
    this.#ints.set(name, type);
    return type;
  }

  pointer(to: number): number {
    return this.#add('', KIND.pointer, to, []);
  }

  array(of: number, count: number): number {
    return this.#add('', KIND.array, 0, [of, this.int(4, false), count]);
  }

  /** @param members in the order of their bits @throws ElfError 'E-LIMIT' for too many */
  struct(name: string, bytes: number, members: readonly Member[]): number {
    if (members.length > MAX_MEMBERS) {
      throw new ElfError(
        'E-LIMIT',
        `a struct of BTF has at most ${MAX_MEMBERS} members, got ${members.length}`,
      );
    }
    const words = members.flatMap((member) => [
      this.strings.add(member.name),
      member.type,
      member.bit | (member.bits << 24),
    ]);
    return this.#add(name, KIND.struct, bytes, words, members.length, KIND_FLAG);
  }

  func(
    name: string,
    returns: number,
    params: readonly (readonly [name: string, type: number])[],
    linkage: keyof typeof LINKAGE = 'global',
  ): number {
    const words = params.flatMap(([param, type]) => [this.strings.add(param), type]);
    const proto = this.#add('', KIND.funcProto, returns, words, params.length);
    return this.#add(name, KIND.func, proto, [], LINKAGE[linkage]);
  }

  /** A word about one parameter of a function. */
  tagParameter(text: string, func: number, parameter: number): void {
    this.#add(text, KIND.declTag, func, [parameter]);
  }

  variable(name: string, type: number): number {
    return this.#add(name, KIND.variable, type, [LINKAGE.global]);
  }

  dataSection(
    name: string,
    bytes: number,
    variables: readonly (readonly [variable: number, offset: number, bytes: number])[],
  ): void {
    this.#add(name, KIND.dataSection, bytes, variables.flat(), variables.length);
  }

  /** @throws ElfError 'E-LIMIT' for more strings than the kernel takes */
  encode(): Uint8Array {
    const strings = this.strings.encode();
    if (strings.length > MAX_STRING_BYTES) {
      throw new ElfError(
        'E-LIMIT',
        `names and lines of BTF have at most ${MAX_STRING_BYTES} bytes, got ${strings.length}`,
      );
    }
    const types = this.#words.length * 4;
    const words = [0, types, types, strings.length];
    return Uint8Array.from(Buffer.concat([btfHeader(HEADER_BYTES, words), wordBytes(this.#words), strings]));
  }

  #add(name: string, kind: number, sizeOrType: number, words: readonly number[], vlen = 0, flag = 0): number {
    this.#words.push(this.strings.add(name), (flag | (kind << 24) | vlen) >>> 0, sizeOrType);
    for (const word of words) this.#words.push(word);
    return ++this.#types;
  }
}

/** Of .BTF and .BTF.ext: magic number, version and length, and where the parts are. */
export function btfHeader(bytes: number, parts: readonly number[]): Uint8Array {
  return wordBytes([BTF_MAGIC | (BTF_VERSION << 16), bytes, ...parts]);
}

/** 32-bit little-endian words. */
export function wordBytes(words: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(words.length * 4);
  const view = new DataView(bytes.buffer);
  words.forEach((word, i) => {
    view.setUint32(i * 4, word >>> 0, true);
  });
  return bytes;
}
