import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { cpuTier } from '../src/exec/cpu.js';
import { tierOf } from '../src/jit/x64/cpu.js';

const OSXSAVE_AVX = 0x1800_0000;
const AVX2 = 0x28; // with BMI1
const AVX512 = 0xc003_0000;
const VBMI = 2;

test.each([
  ['nothing', [0, 0, 0, 0], 'scalar'],
  ['AVX alone', [OSXSAVE_AVX, 0, 0, 7], 'scalar'],
  ['AVX2', [OSXSAVE_AVX, AVX2, 0, 7], 'avx2'],
  ['AVX2 without BMI1', [OSXSAVE_AVX, 0x20, 0, 7], 'scalar'],
  ['AVX2 whose registers the system does not save', [OSXSAVE_AVX, AVX2, 0, 3], 'scalar'],
  ['AVX2 without xgetbv', [0x1000_0000, AVX2, 0, 7], 'scalar'],
  ['AVX-512 without VBMI', [OSXSAVE_AVX, AVX2 | AVX512, 0, 0xe7], 'avx2'],
  ['AVX-512 without AVX512BW', [OSXSAVE_AVX, AVX2 | 0x8003_0000, VBMI, 0xe7], 'avx2'],
  ['AVX-512 with VBMI', [OSXSAVE_AVX, AVX2 | AVX512, VBMI, 0xe7], 'avx512'],
  ['the same, its registers not saved', [OSXSAVE_AVX, AVX2 | AVX512, VBMI, 0x67], 'avx2'],
])('a CPU with %s', (_, words, tier) => {
  expect(tierOf(Uint32Array.from(words))).toBe(tier);
});

test('this CPU is what the system says of it', () => {
  const flags = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))![1]!.split(' ');
  const has = (...names: string[]) => names.every((name) => flags.includes(name));
  const wide = has('avx512f', 'avx512dq', 'avx512bw', 'avx512vl', 'avx512vbmi');
  expect(cpuTier()).toBe(!has('avx2', 'bmi1') ? 'scalar' : wide ? 'avx512' : 'avx2');
});
