import { describe, expect, it } from 'vitest';
import { assemble } from '../src/bpf/assemble.js';
import { contractFor } from '../src/bpf/contract.js';
import { decodeProgram } from '../src/bpf/encode.js';
import { interpret } from '../src/bpf/interpret.js';
import { lower } from '../src/bpf/lower.js';
import type { VerifierError } from '../src/errors.js';
import { verify } from '../src/verifier/verify.js';
import { randomFormat, seeded } from './random-formats.js';
import { unhex, vectors } from './vectors.js';
import {
  decodable,
  type KernelCase,
  type KernelRun,
  kernelArgs,
  kernelContract,
  verdict,
} from './verifier-cases.js';
import { contractFrom, smallPrograms } from './verifier-texts.js';

describe('verdicts on small programs', () => {
  const cases = smallPrograms().map((each) => [each.title, each] as const);
  it.each(cases)('%s', (_, { program, contract, code, insn, message }) => {
    const error = verdict(program, contract, { maxInstructions: 10_000 });
    expect(error?.message ?? 'ok').toContain(message);
    expect(error?.code ?? 'ok').toBe(code);
    if (!error) return;
    expect((error as VerifierError).insn).toBe(insn);
    expect(error.message).toMatch(new RegExp(`^instruction ${insn}: `));
  });
});

describe('programs on which the Linux verifier has decided', () => {
  it('what was run on random inputs is accepted, and the interpreter computes the same', () => {
    const all = new Map<string, KernelCase>(
      vectors<KernelCase>('verifier/random.jsonl.gz').map((each) => [each.id, each]),
    );
    let same = 0;
    for (const { id, in: input, out, r0_low32 } of vectors<KernelRun>('verifier/random-runs.jsonl.gz')) {
      const each = all.get(id)!;
      const contract = kernelContract(each, true);
      const program = decodable(each.insns);
      if (!program || verdict(() => program, contract)) continue;
      const args = kernelArgs(each, input);
      const { r0 } = interpret(program, { args, contract, strict: true });
      expect(Number(r0 & 0xffff_ffffn)).toBe(r0_low32);
      expect(args).toEqual(kernelArgs(each, out));
      same++;
    }
    console.log(`${same} runs agree`);
    expect(same).toBeGreaterThanOrEqual(2186);
  });
});

interface InvalidProgram {
  id: string;
  cat?: string;
  insns: string;
}

it('programs that uBPF refuses, or should, are refused by the decoder or the verifier', () => {
  const invalid = [
    ...vectors<InvalidProgram>('ubpf/invalid.jsonl.gz'),
    ...vectors<InvalidProgram>('ubpf/invalid-accepted-by-ubpf.jsonl.gz'),
  ];
  const contract = contractFrom(['r1=mem:64:readwrite', 'r2=num']);
  const count: Record<string, number> = {};
  // Conditional jumps on r10 are legal by RFC 9669.
  for (const { id, cat, insns } of invalid.filter(({ cat }) => cat !== 'jump_r10')) {
    const error = verdict(() => decodeProgram(unhex(insns)), contract);
    if (!error) expect.fail(`${id} (${cat}) is accepted`);
    const code = error.code;
    count[code] = (count[code] ?? 0) + 1;
  }
  expect(count).toEqual({
    'P-ATOMIC': 19,
    'P-EMPTY': 1,
    'P-JUMP-RANGE': 22,
    'P-JUMP-SPLIT': 6,
    'P-LDDW': 17,
    'P-LENGTH': 1,
    'P-OPCODE': 50,
    'P-REGISTER': 11,
    'P-RESERVED': 81,
    'P-UNSUPPORTED': 14,
    'P-WRITE-R10': 6,
    'V-CALL': 6,
    'V-FALL-OFF': 7,
    'V-HELPER': 5,
    'V-LOOP': 3,
    'V-UNINIT-REG': 2,
  });
});

it.each([0, -1, 1.5, Number.NaN, '1000', null])(
  'a limit of %s instructions is refused',
  (maxInstructions) => {
    expect(() => verify(assemble('r0 = 0\nexit'), { args: [] }, { maxInstructions } as object)).toThrow(
      expect.objectContaining({ code: 'A-RANGE', name: 'ArgumentError' }),
    );
  },
);

it('lowered formats verify under their contracts', () => {
  const random = seeded(4);
  for (let i = 0; i < 1000; i++) {
    const format = randomFormat(random);
    const error = verdict(() => lower(format), contractFor(format));
    expect(error?.message).toBeUndefined();
  }
});

it('says what it walked over, with what was known, up to the instruction that failed', () => {
  const program = assemble('r2 = *(u8 *)(r1 + 0)\nr2 &= 31\nr1 += r2\nr0 = *(u64 *)(r1 + 0)\nexit');
  const error = verdict(() => program, contractFrom(['r1=mem:32:read'])) as VerifierError;
  expect(error.message).toBe(
    "instruction 3: 8-byte read at r1+0..39 may reach past the 32 bytes of r1's memory",
  );
  expect(error.log).toBe(
    [
      '0: r2 = *(u8 *)(r1 + 0) ; r2=uninitialised r1=r1+0',
      '1: r2 &= 31 ; r2=0..255',
      '2: r1 += r2 ; r1=r1+0 r2=0..31',
      '3: r0 = *(u64 *)(r1 + 0) ; r0=uninitialised r1=r1+(0..31)',
      '',
    ].join('\n'),
  );
});

it('tells the boundary when a proof rests on aligned arguments', () => {
  const atomic = assemble('r2 = 1\nlock *(u64 *)(r1 + 8) += r2\nr0 = 0\nexit');
  const onStack = assemble('r2 = 1\n*(u64 *)(r10 - 8) = r2\nlock *(u64 *)(r10 - 8) += r2\nr0 = 0\nexit');
  const contract = contractFrom(['r1=mem:16:readwrite']);
  expect(verify(atomic, contract).needsAlignment).toBe(true);
  expect(verify(onStack, contract).needsAlignment).toBe(false);
});
