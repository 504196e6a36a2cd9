// Programs as text, with what they give. Each begins with its sentence; r1 is the memory, r2 its length:
//
//   == a sentence
//   mem: 0102030405060708
//   r0 = *(u64 *)(r1 + 0)
//   exit
//   => r0: 0x807060504030201
//   => mem: 0102030405060708          left out where the memory does not change

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { disassemble } from '../src/bpf/disassemble.js';
import type { Program } from '../src/bpf/program.js';
import { hex } from './vectors.js';

const folder = new URL('./vectors/programs/', import.meta.url);

export interface ProgramVector {
  readonly file: string;
  readonly title: string;
  readonly text: string;
  readonly mem: string;
  readonly r0: bigint;
  readonly memAfter: string;
}

/** Every vector of test/vectors/programs. */
export function programVectors(): ProgramVector[] {
  return readdirSync(folder).flatMap((file) => {
    const [, ...blocks] = readFileSync(new URL(file, folder), 'utf8').split(/^== /m);
    return blocks.map((block) => parse(file, block));
  });
}

function parse(file: string, block: string): ProgramVector {
  const [title, ...lines] = block.split('\n');
  const field = (name: string) =>
    lines
      .find((line) => line.startsWith(name))
      ?.slice(name.length)
      .replaceAll(' ', '');
  const text = lines.filter((line) => !/^(mem:|=>|#)/.test(line)).join('\n');
  const mem = field('mem:') ?? '';
  return { file, title: title!, text, mem, r0: BigInt(field('=> r0:')!), memAfter: field('=> mem:') ?? mem };
}

/** Writes a file of one vector, and returns its path. */
export function writeVector(
  file: string,
  vector: {
    title: string;
    program: Program;
    memory: Uint8Array;
    expected: { r0: bigint; memory: Uint8Array };
  },
): string {
  const { title, program, memory, expected } = vector;
  const lines = [
    `== ${title}`,
    `mem: ${hex(memory)}`,
    disassemble(program).trimEnd(),
    `=> r0: 0x${expected.r0.toString(16)}`,
    `=> mem: ${hex(expected.memory)}`,
  ];
  const url = new URL(file, folder);
  writeFileSync(url, `${lines.join('\n')}\n`);
  return fileURLToPath(url);
}
