import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import {
  assemble,
  bkeyFormat,
  contractFor,
  interpret,
  referenceUnpack,
  VerifierError,
  verify,
} from '../src/index.js';

const folder = new URL('../examples/', import.meta.url);
const read = (name: string): string => readFileSync(new URL(name, folder), 'utf8');
const names = readdirSync(folder).flatMap((file) => /^(.*)\.bpf$/.exec(file)?.[1] ?? []);

const format = bkeyFormat({
  keyU64s: 1,
  bitsPerField: [8, 30, 0, 0, 0, 0],
  fieldOffset: [0n, 0n, 0n, 0n, 0n, 0n],
});
const contract = contractFor(format);

function refusal(text: string): VerifierError {
  try {
    verify(assemble(text), contract);
  } catch (error) {
    if (error instanceof VerifierError) return error;
    throw error;
  }
  return expect.fail('it was accepted');
}

describe('examples of refused programs', () => {
  it.each(names)('%s.bpf has the report that is shown', (name) => {
    expect(refusal(read(`${name}.bpf`)).text).toBe(read(`${name}.txt`));
  });

  it('name the byte', () => {
    expect(refusal(read('load-before-key.bpf')).message).toContain('8-byte read at r2-1..7 begins before');
    expect(refusal(read('pad-byte.bpf')).message).toContain("byte 3 of r1's memory");
  });

  it.each([
    [
      'load-before-key',
      (text: string) => text.replace('u64 *)(r2 - 1)', 'u32 *)(r2 + 3)').replace('>>= 34', '>>= 2'),
    ],
    ['pad-byte', (text: string) => text.replace('exit', '*(u8 *)(r1 + 3) = 0\nexit')],
  ])('%s.bpf is accepted with its mistake put right, and unpacks', (name, correct) => {
    const verified = verify(assemble(correct(read(`${name}.bpf`)).replace(/^;.*\n/gm, '')), contract);
    const packed = Uint8Array.of(1, 0x7f, 9, 0x12, 0x34, 0x56, 0x78, 0x9a);
    const out = new Uint8Array(40).fill(0xee);
    interpret(verified.program, { args: [out, packed], contract, strict: true });
    expect(out).toEqual(referenceUnpack(format, packed));
  });

  it('are printed by the script', () => {
    const script = fileURLToPath(new URL('refusals.mjs', folder));
    const printed = execFileSync(process.execPath, [script]).toString();
    expect(printed).toBe(names.map((name) => `${name}.bpf\n\n${read(`${name}.txt`)}\n`).join(''));
  });
});
