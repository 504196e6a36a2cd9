import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { assemble } from '../src/bpf/assemble.js';
import { decodeProgram } from '../src/bpf/encode.js';
import { interpret } from '../src/bpf/interpret.js';
import type { Program } from '../src/bpf/program.js';
import { BpfUnpackError, type VerifierError } from '../src/errors.js';
import type { ArgSpec, Contract } from '../src/verifier/contract.js';
import { VerifiedProgram } from '../src/verifier/verified.js';
import { verify } from '../src/verifier/verify.js';

const vectors = (name: string) => readFileSync(new URL(`vectors/${name}`, import.meta.url));
const lines = (name: string) =>
  gunzipSync(vectors(name))
    .toString()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
const bytes = (hex: string) => new Uint8Array(Buffer.from(hex, 'hex'));

function contractFrom(words: string[]): Contract {
  const args: (ArgSpec | undefined)[] = [];
  const writesAll: number[] = [];
  for (const word of words) {
    const [name, kind, size, access] = word.split(/[=:]/) as [string, string, string, string];
    const index = Number((name === 'writes' ? kind : name).slice(1)) - 1;
    if (name === 'writes') writesAll.push(index);
    else if (kind === 'mem') args[index] = { kind: 'memory', bytes: Number(size), access: access as 'read' };
    else if (kind === 'num') {
      const [min, max] = (size ?? `0..${(1n << 64n) - 1n}`).split('..').map(BigInt);
      args[index] = { kind: 'scalar', min: min!, max: max! };
    }
  }
  return { args: Array.from(args), writesAll, allowPointerLeaks: words.includes('leaks') };
}

function verdict(program: () => Program, contract: Contract, limits = {}): BpfUnpackError | undefined {
  try {
    expect(VerifiedProgram.is(verify(program(), contract, limits))).toBe(true);
    return undefined;
  } catch (error) {
    if (error instanceof BpfUnpackError) return error;
    throw error;
  }
}

describe('verdicts on small programs', () => {
  const cases = vectors('verifier/verdicts.txt').toString().split(/^== /m).slice(1);
  for (const text of cases) {
    const [title, ...rest] = text.trim().split('\n');
    const spec = /^(r\d=|leaks|writes:)/.test(rest[0]!) ? rest.shift()!.split(' ') : [];
    const [code, slot, ...message] = rest.pop()!.replace('-> ', '').split(' ');
    it(title!, () => {
      const error = verdict(() => assemble(rest.join('\n')), contractFrom(spec), { maxInstructions: 10_000 });
      expect(error?.message ?? 'ok').toContain(message.join(' '));
      expect(error?.code ?? 'ok').toBe(code);
      if (!error) return;
      expect((error as VerifierError).insn).toBe(Number(slot));
      expect(error.message).toMatch(new RegExp(`^instruction ${slot}: `));
    });
  }
});

interface Case {
  id: string;
  insns: string;
  regions: Record<string, { size: number; mode: string; scalar?: boolean }>;
  safe?: boolean | null;
  priv: { accept: boolean };
  strict: { accept: boolean };
  witness: { event: string; input: Record<string, string> } | null;
}

function contractOf({ regions }: Case, allowPointerLeaks: boolean): Contract {
  const args: (ArgSpec | undefined)[] = [undefined, undefined, undefined, undefined, undefined];
  for (const [name, { size, mode, scalar }] of Object.entries(regions)) {
    args[Number(name.slice(1)) - 1] = scalar
      ? { kind: 'scalar' }
      : { kind: 'memory', bytes: size, access: mode === 'ro' ? 'read' : 'readwrite' };
  }
  return { args, allowPointerLeaks };
}

function argsOf({ regions }: Case, input: Record<string, string>): (Uint8Array | bigint)[] {
  const args: (Uint8Array | bigint)[] = [];
  for (const [name, { scalar }] of Object.entries(regions)) {
    const raw = bytes(input[name]!);
    args[Number(name.slice(1)) - 1] = scalar
      ? new DataView(raw.buffer, raw.byteOffset).getBigUint64(0, true)
      : raw;
  }
  return args;
}

/** RFC 9669 defines these, the kernel refuses them: they are safe here. */
const DEFINED = new Set([
  'enc/div imm 0',
  'enc/mod imm 0',
  'enc/sdiv imm 0',
  'enc/lsh64 imm -1',
  'enc/lsh32 imm 32',
  'enc/lsh32 imm -1',
]);

describe('programs on which the Linux verifier has decided', () => {
  for (const [file, wanted] of [
    ['cases', 0.99],
    ['random', 0.97],
  ] as const) {
    it(`${file}: nothing unsafe is accepted, and nearly all that the kernel accepts`, () => {
      const all: Case[] = lines(`verifier/${file}.jsonl.gz`);
      const count = { strict: [0, 0, 0], priv: [0, 0, 0] };
      for (const mode of ['strict', 'priv'] as const) {
        for (const each of all) {
          const error = verdict(() => decodeProgram(bytes(each.insns)), contractOf(each, mode === 'priv'), {
            maxInstructions: 50_000,
          });
          if (!error) {
            const excused = each.witness?.event === 'bad_insn';
            if (each.safe === false && !DEFINED.has(each.id)) expect.fail(`${each.id} is not safe`);
            if (each.witness && !excused) expect.fail(`${each.id} misbehaves: ${each.witness.event}`);
            if (each.witness) replay(each);
          }
          if (each[mode].accept) count[mode][error ? 1 : 0]!++;
          else if (!error) count[mode][2]!++;
        }
        const [both = 0, kernelAlone = 0, weAlone = 0] = count[mode];
        console.log(
          `${file}, ${mode}: kernel accepts ${both + kernelAlone}, of these we accept ${both}; we alone accept ${weAlone}`,
        );
        expect(both / (both + kernelAlone)).toBeGreaterThan(mode === 'strict' ? wanted : 0.95);
      }
    });
  }

  /** An instruction that the kernel calls bad must be one that runs. */
  function replay(each: Case): void {
    const contract = contractOf(each, true);
    interpret(decodeProgram(bytes(each.insns)), {
      args: argsOf(each, each.witness!.input),
      contract,
      strict: true,
    });
  }
});
