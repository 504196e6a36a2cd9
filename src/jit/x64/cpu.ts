// What the CPU has, and the system lets us use: cpuid and xgetbv (Intel's manual, volume 2, CPUID, and volume 1, 13.1).

import { CPU_WORDS, type MachineCode, type Tier } from '../target.js';
import { Assembler } from './assemble.js';
import { memory, R8, RAX, RBX, RCX, RDI, register } from './operands.js';
import { ownCode } from './own-code.js';

const LEAF_FEATURES = 1;
const LEAF_MORE = 7;
/** Words of the answer. */
const WORD = { features: 0, more: 1, moreStill: 2, saved: 3 };

const OSXSAVE = 27; // leaf 1, ecx
const AVX = 28;
const AVX2 = [5, 3 /* BMI1 */]; // leaf 7, ebx
const AVX512 = [16 /* F */, 17 /* DQ */, 30 /* BW */, 31 /* VL */];
const VBMI = 1; // leaf 7, ecx
// xcr0: what the system saves when it changes threads.
const SAVES_YMM = [1, 2];
const SAVES_ZMM = [5, 6, 7];

/** `u64 probe(u32 *words)`: cpuid 1 ecx, cpuid 7 ebx and ecx, and the low half of xcr0; 0 for what there is not. */
export function cpuProbe(): MachineCode {
  const asm = new Assembler();
  const done = asm.label();
  const write = (word: number, from: number) =>
    asm.emit('mov', memory(32, RDI, word * 4), register(from, 32));
  const cpuid = (leaf: number) => {
    asm.emit('mov', register(RAX, 32), leaf);
    asm.emit('xor', register(RCX, 32), register(RCX, 32));
    asm.emit('cpuid');
  };
  asm.emit('push', register(RBX));
  asm.emit('xor', register(RAX, 32), register(RAX, 32));
  for (let word = 0; word < CPU_WORDS; word++) write(word, RAX);
  cpuid(0);
  asm.emit('mov', register(R8, 32), register(RAX, 32));
  cpuid(LEAF_FEATURES);
  write(WORD.features, RCX);
  asm.emit('test', register(RCX, 32), 2 ** OSXSAVE);
  asm.jump('je', done);
  asm.emit('xor', register(RCX, 32), register(RCX, 32));
  asm.emit('xgetbv');
  write(WORD.saved, RAX);
  asm.emit('cmp', register(R8, 32), LEAF_MORE);
  asm.jump('jb', done);
  cpuid(LEAF_MORE);
  write(WORD.more, RBX);
  write(WORD.moreStill, RCX);
  asm.bind(done);
  asm.emit('xor', register(RAX, 32), register(RAX, 32));
  asm.emit('pop', register(RBX));
  asm.emit('ret');
  return ownCode(asm, 'cpu probe');
}

/** The best tier for what the probe wrote. */
export function tierOf(words: Uint32Array): Tier {
  const has = (word: number, bits: readonly number[]) =>
    bits.every((bit) => ((words[word]! >>> bit) & 1) === 1);
  if (!has(WORD.features, [OSXSAVE, AVX]) || !has(WORD.saved, SAVES_YMM) || !has(WORD.more, AVX2))
    return 'scalar';
  const wide = has(WORD.saved, SAVES_ZMM) && has(WORD.more, AVX512) && has(WORD.moreStill, [VBMI]);
  return wide ? 'avx512' : 'avx2';
}
