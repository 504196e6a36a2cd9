// Imports point one way; see the picture in docs/rationale.md.

import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { bkeyFormat, compileX64, contractFor, lower, verify } from '../src/index.js';

const root = fileURLToPath(new URL('../src/', import.meta.url));
const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));

/** What each part may import, besides itself, errors.ts, bytes.ts and halves.ts. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  'errors.ts': [],
  'bytes.ts': [],
  'halves.ts': [],
  format: [],
  bpf: ['format'],
  elf: ['bpf', 'format'],
  verifier: ['bpf', 'format'],
  jit: ['verifier', 'bpf', 'format'],
  native: [
    'format',
    'jit/target.ts',
    'jit/x64/encode.ts',
    'jit/x64/assemble.ts',
    'jit/x64/operands.ts',
    'bpf/contract.ts',
  ],
  exec: ['jit/target.ts', 'jit/host.ts', 'bpf/contract.ts', 'bpf/arguments.ts', 'bpf/helper.ts'],
  table: ['format', 'jit/target.ts'],
  kernel: ['bpf', 'elf/btf.ts', 'exec/libc.ts'],
  'columns.ts': ['format'],
  'unpacker.ts': ['format', 'columns.ts'],
  engines: ['format', 'bpf', 'verifier/verified.ts', 'jit', 'exec', 'table', 'columns.ts', 'unpacker.ts'],
  'compile.ts': ['format', 'bpf', 'verifier', 'jit', 'native', 'exec', 'table', 'engines', 'unpacker.ts'],
  'unsafe.ts': ['bpf', 'verifier'],
  'index.ts': [
    'format',
    'bpf',
    'elf',
    'verifier',
    'jit',
    'native',
    'exec',
    'kernel',
    'columns.ts',
    'unpacker.ts',
    'compile.ts',
  ],
  zstd: [],
  bcachefs: ['index.ts', 'zstd'],
  cli: ['index.ts', 'bcachefs'],
  'cli.ts': ['cli'],
};

const partOf = (file: string): string => (file.includes('/') ? file.slice(0, file.indexOf('/')) : file);
const imports = (file: string): string[] =>
  [...readFileSync(join(root, file), 'utf8').matchAll(/(?:from|import) '(\.[^']+)\.js'/g)].map(([, path]) =>
    normalize(join(dirname(file), `${path}.ts`)),
  );

describe('the imports of', () => {
  it.each(files)('%s point down', (file) => {
    const part = partOf(file);
    const allowed = [
      'errors.ts',
      'bytes.ts',
      'halves.ts',
      ...(MAY_IMPORT[part] ?? expect.fail(`no rule for ${part}`)),
    ];
    for (const target of imports(file)) {
      const fine = partOf(target) === part || allowed.includes(target) || allowed.includes(partOf(target));
      expect(fine, `${file} imports ${target}`).toBe(true);
    }
  });
});

it('only exec/libc.ts loads koffi, and only the listing loads iced-x86; both at first use', () => {
  const loads = (name: string) =>
    files.filter((file) => readFileSync(join(root, file), 'utf8').includes(`require('${name}')`));
  expect(loads('koffi')).toEqual(['exec/libc.ts']);
  expect(loads('iced-x86')).toEqual(['jit/x64/listing.ts']);
  const importing = files.filter((file) =>
    /^import (?!type).*'(koffi|iced-x86)'/m.test(readFileSync(join(root, file), 'utf8')),
  );
  expect(importing).toEqual([]);
});

it('only the verifier and unsafeTrust make verified programs, and only back ends make machine code', () => {
  const uses = (text: string) =>
    files.filter((file) => readFileSync(join(root, file), 'utf8').includes(`${text}(`)).sort();
  expect(uses('mintVerified')).toEqual(['unsafe.ts', 'verifier/verified.ts', 'verifier/verify.ts']);
  expect(uses('makeCode')).toEqual([
    'jit/target.ts',
    'jit/x64/lower.ts',
    'jit/x64/own-code.ts',
    'native/emit.ts',
  ]);
});

it('an object at hand makes no other of its kind: a proof, a routine, a program or a format cannot be forged', () => {
  const format = bkeyFormat({
    keyU64s: 1,
    bitsPerField: [0, 0, 0, 0, 0, 0],
    fieldOffset: [0n, 0n, 0n, 0n, 0n, 0n],
  });
  const program = lower(format);
  const verified = verify(program, contractFor(format));
  for (const real of [format, program, verified, compileX64(verified)]) {
    const forge = real.constructor as unknown as new (...args: unknown[]) => unknown;
    expect(Object.getOwnPropertyNames(forge).sort()).toEqual(['is', 'length', 'name', 'prototype']);
    for (const args of [[], [{}], [Symbol('proven'), program], [real, real]])
      expect(() => new forge(...args)).toThrow(/is made by/);
  }
});
