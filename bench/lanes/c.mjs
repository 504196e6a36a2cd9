// C compiled for this machine: the decoders in c/ that read the format at run time, and functions with the format inside.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cText, PRELUDE } from './c-text.mjs';
import { NotWritten } from './plan.mjs';

const FOLDER = fileURLToPath(new URL('../c/', import.meta.url));
const RTLD_NOW = 2;
/** What each compiler is asked for; functions start at cache lines, as all routines here do. */
export const FLAGS = {
  '-O2': ['-O2', '-falign-functions=64'],
  '-O3': ['-O3', '-march=native', '-falign-functions=64'],
};
/** Decoders in c/, which know the format at run time only. */
export const GENERAL = ['bitstream', 'table'];

export const hasCompiler = (compiler) => spawnSync(compiler, ['--version']).status === 0;

let libraries;
function dynamic() {
  const koffi = createRequire(import.meta.url)('koffi');
  const lib = koffi.load(null);
  libraries ??= {
    open: lib.func('uintptr_t dlopen(const char *path, int flags)'),
    symbol: lib.func('uintptr_t dlsym(uintptr_t library, const char *name)'),
  };
  return libraries;
}

/** The address of a function of a shared library; 0n if there is no such. */
export function openLibrary(path) {
  const library = dynamic().open(path, RTLD_NOW);
  if (BigInt(library) === 0n) return undefined;
  return (name) => BigInt(dynamic().symbol(library, name));
}

/** Compiles text to a shared library and loads it. */
function build(compiler, flags, text) {
  const folder = mkdtempSync(join(tmpdir(), 'bpf-unpack-bench-'));
  try {
    const source = join(folder, 'rival.c');
    const library = join(folder, 'rival.so');
    writeFileSync(source, text);
    const options = [...flags, '-I', FOLDER, '-w', '-shared', '-fPIC', '-o', library, source];
    const { status, stderr } = spawnSync(compiler, options);
    if (status !== 0) throw new Error(`${compiler} ${flags.join(' ')}: ${stderr}`);
    const sizes = sizesIn(library);
    return { symbol: openLibrary(library), sizes };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Bytes of each function: the entries of an ELF file's symbol tables, 24 bytes each. */
function sizesIn(library) {
  const file = readFileSync(library);
  const word = (at) => Number(file.readBigUInt64LE(at));
  const sections = Array.from({ length: file.readUInt16LE(60) }, (_, i) => word(40) + i * 64);
  const sizes = new Map();
  for (const at of sections) {
    if (file.readUInt32LE(at + 4) !== 11) continue; // SHT_DYNSYM
    const names = word(sections[file.readUInt32LE(at + 40)] + 24);
    for (let entry = word(at + 24); entry < word(at + 24) + word(at + 32); entry += 24) {
      const name = names + file.readUInt32LE(entry);
      sizes.set(file.toString('latin1', name, file.indexOf(0, name)), word(entry + 16));
    }
  }
  return sizes;
}

/**
 * Functions with the formats inside, from one compiler.
 * @returns for each format { unpack, stride, stream?, bytes }, or undefined for one that is not written in C
 */
export function compileFormats(compiler, flags, formats) {
  const texts = formats.map((format, i) => {
    try {
      return cText(format, String(i));
    } catch (error) {
      if (error instanceof NotWritten) return undefined;
      throw error;
    }
  });
  const { symbol, sizes } = build(
    compiler,
    flags,
    PRELUDE + texts.filter((text) => text !== undefined).join(''),
  );
  return formats.map((format, i) => {
    if (texts[i] === undefined) return undefined;
    return {
      unpack: symbol(`unpack_${i}`),
      stride: symbol(`stride_${i}`),
      stream: format.keyU64s === undefined ? undefined : symbol(`stream_${i}`),
      bytes: sizes.get(`unpack_${i}`),
    };
  });
}

/** The decoders in c/: by name, { stride, stream }. */
export function compileGeneral(compiler, flags) {
  const made = GENERAL.map((name) => {
    const { symbol } = build(compiler, flags, readFileSync(join(FOLDER, `${name}.c`), 'utf8'));
    return [name, { stride: symbol(`${name}_stride`), stream: symbol(`${name}_stream`) }];
  });
  return Object.fromEntries(made);
}

const HEADER_FIELDS = 3;

/** A key format as `struct rows` of c/rows.h; undefined for what is not a key format. */
export function rowsOf(format) {
  if (format.keyU64s === undefined) return undefined;
  const rows = Buffer.alloc(8 + 6 * 24);
  rows.writeBigUInt64LE(BigInt(format.keyU64s), 0);
  format.fields.slice(HEADER_FIELDS).forEach(({ offset, bits, at, to }, i) => {
    rows.writeBigUInt64LE(offset, 8 + i * 24);
    for (const [j, value] of [bits, at, to.byte, to.size].entries())
      rows.writeUInt32LE(value, 16 + i * 24 + j * 4);
  });
  return rows;
}
