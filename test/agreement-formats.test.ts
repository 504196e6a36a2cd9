// Lowered formats: each is proven here, accepted by the kernel in both ways, and run there. FUZZ_SEED and FUZZ_SECONDS
// make this a longer run, see scripts/fuzz.mjs.

import { describe, expect, it } from 'vitest';
import { type Contract, contractFor } from '../src/bpf/contract.js';
import { disassemble } from '../src/bpf/disassemble.js';
import { lower } from '../src/bpf/lower.js';
import type { Program } from '../src/bpf/program.js';
import { VerifierError } from '../src/errors.js';
import { bkeyFormatFromBytes } from '../src/format/bkey.js';
import type { Format } from '../src/format/model.js';
import { referenceUnpack } from '../src/format/reference.js';
import { KernelMemory, type KernelOptions } from '../src/kernel/kernel.js';
import { verify } from '../src/verifier/verify.js';
import { kernelRuns } from './kernel-available.js';
import { type Random, randomBkeyFormat, randomBytes, randomFormat, seeded } from './random-formats.js';
import { type FormatVector, hex, unhex, vectors } from './vectors.js';

const SEED = Number(process.env.FUZZ_SEED ?? 1);
const SECONDS = Number(process.env.FUZZ_SECONDS ?? 0);
const FORMATS = 300;
const REAL_FORMATS = SECONDS > 0 ? Number.POSITIVE_INFINITY : 150;

const WAYS = ['map values', 'global function'] as const;

/** 'accepted', or why not. */
function ours(program: Program, contract: Contract): string {
  try {
    verify(program, contract);
    return 'accepted';
  } catch (error) {
    if (error instanceof VerifierError) return error.message;
    throw error;
  }
}

/** The same of the kernel; `packed` is what an accepted program is run on, and `run` is told what it gave. */
function theirs(
  program: Program,
  contract: Contract,
  options: KernelOptions,
  run: (out: Uint8Array, call: (packed: Uint8Array) => bigint) => void = () => {},
): string {
  const memory = new KernelMemory(contract, options);
  try {
    const loaded = memory.load(program);
    const [unpacked] = contract.args;
    const out = new Uint8Array(unpacked?.kind === 'memory' ? unpacked.bytes : 0);
    run(out, (packed) => loaded.call([out, packed]));
    loaded.free();
    return 'accepted';
  } catch (error) {
    if (error instanceof VerifierError) return error.message;
    throw error;
  } finally {
    memory.dispose();
  }
}

function requireAccepted(format: Format, random: Random): void {
  const program = lower(format);
  const contract = contractFor(format);
  expect(ours(program, contract)).toBe('accepted');
  for (const as of WAYS) {
    const verdict = theirs(program, contract, { as }, (out, call) => {
      const packed = randomBytes(random, format.packedBytes);
      expect([call(packed), hex(out)]).toEqual([0n, hex(referenceUnpack(format, packed))]);
    });
    if (verdict !== 'accepted') expect.fail(`as ${as}: ${verdict}\n${disassemble(program)}`);
  }
}

/** The contract with one byte less of each memory, in turn. */
function shorter(format: Format): Contract[] {
  const { writesAll, ...contract } = contractFor(format);
  return contract.args.map((_, short) => ({
    ...contract,
    args: contract.args.map((spec, i) =>
      i === short && spec?.kind === 'memory' ? { ...spec, bytes: spec.bytes - 1 } : spec,
    ),
  }));
}

describe.skipIf(!kernelRuns)('the kernel', () => {
  it('accepts every lowered format that is proven here, and unpacks as the reference does', () => {
    const random = seeded(SEED);
    const end = Date.now() + SECONDS * 1000;
    let count = 0;
    for (; count < FORMATS || Date.now() < end; count++) {
      requireAccepted(count % 2 ? randomFormat(random) : randomBkeyFormat(random), random);
    }
    console.log(`${count} random formats: proven here, accepted by the kernel as ${WAYS.join(' and as ')}`);
  });

  it('accepts those of real btree nodes', () => {
    const random = seeded(SEED);
    const real = vectors<FormatVector>('bcachefs/real_formats.jsonl.gz').slice(0, REAL_FORMATS);
    for (const { format } of real) requireAccepted(bkeyFormatFromBytes(unhex(format.raw)), random);
    console.log(`${real.length} formats of real btree nodes: likewise`);
  });

  it('decides as we do where a record is one byte shorter than the format', () => {
    const random = seeded(SEED + 1);
    const count: Record<string, number> = {};
    for (let i = 0; i < FORMATS; i++) {
      const format = i % 2 ? randomFormat(random) : randomBkeyFormat(random);
      const program = lower(format);
      for (const contract of shorter(format)) {
        const [here, there] = [ours(program, contract), theirs(program, contract, { as: WAYS[i % 2]! })];
        if ((here === 'accepted') !== (there === 'accepted'))
          expect.fail(`here: ${here}\nthere: ${there}\n${disassemble(program)}`);
        const verdict = here === 'accepted' ? 'accepted' : 'refused';
        count[verdict] = (count[verdict] ?? 0) + 1;
      }
    }
    // The unpacked record is written to its last byte; the packed one is not always read to its last.
    expect(count.refused).toBeGreaterThan(FORMATS);
    expect(count.accepted).toBeGreaterThan(0);
  });
});
