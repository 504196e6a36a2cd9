import { describe, expect, it } from 'vitest';
import { assemble } from '../src/bpf/assemble.js';
import type { Contract, HelperSpec } from '../src/bpf/contract.js';
import { interpret } from '../src/bpf/interpret.js';
import type { Program } from '../src/bpf/program.js';
import { ArgumentError, type Counterexample, ExecutionError, VerifierError } from '../src/errors.js';
import { verify } from '../src/verifier/verify.js';
import { vectors } from './vectors.js';
import { decodable, type KernelCase, kernelContract } from './verifier-cases.js';

function refusal(program: Program, contract: Contract): VerifierError | undefined {
  try {
    verify(program, contract, { maxInstructions: 50_000 });
    return undefined;
  } catch (error) {
    if (error instanceof VerifierError) return error;
    throw error;
  }
}

/** What strict mode says of the input; 'ran' where it says nothing. */
function replay(program: Program, contract: Contract, found: Counterexample): string {
  const { args, helperResults, maxInstructions } = found;
  const helpers = Object.fromEntries(
    Object.entries(helperResults).map(([id, result]) => {
      return [id, { ...contract.helpers![Number(id)]!, call: () => result }];
    }),
  );
  try {
    const { unwritten } = interpret(program, { args, contract, helpers, strict: true, maxInstructions });
    return unwritten.length > 0 ? 'unwritten' : 'ran';
  } catch (error) {
    if (error instanceof ExecutionError) return `${error.code} ${error.insn}`;
    if (error instanceof ArgumentError && error.code === 'A-HELPER') return error.code;
    throw error;
  }
}

const FAULT: Readonly<Record<string, RegExp>> = {
  'V-OOB-READ': /^X-(OOB|NOT-POINTER)/,
  'V-OOB-WRITE': /^X-(OOB|NOT-POINTER)/,
  'V-READ-ONLY': /^X-(ACCESS|OOB)/,
  'V-WRITE-ONLY': /^X-(ACCESS|OOB)/,
  'V-NOT-POINTER': /^X-NOT-POINTER/,
  'V-UNINIT-REG': /^X-UNINIT-REG/,
  'V-UNINIT-STACK': /^X-UNINIT-STACK/,
  'V-ALIGN': /^X-ALIGN/,
  'V-CALL': /^X-DEPTH/,
  'V-HELPER': /^X-HELPER/,
  'V-HELPER-ARG': /^A-HELPER/,
  'V-FALL-OFF': /^X-FALL-OFF/,
  'V-LOOP': /^X-LIMIT/,
  'V-BUDGET': /^X-LIMIT/,
  'V-UNWRITTEN': /^unwritten/,
};
/** Faults that are not at the instruction that was refused. */
const ELSEWHERE = /^(X-FALL-OFF|X-LIMIT|A-HELPER|unwritten)/;

function expectReplay(program: Program, contract: Contract, error: VerifierError): void {
  const found = error.counterexample!;
  const before = structuredClone(found);
  const said = replay(program, contract, structuredClone(found));
  expect(said).toMatch(FAULT[error.code]!);
  if (!ELSEWHERE.test(said)) expect(said.split(' ')[1]).toBe(String(error.insn));
  expect(found).toEqual(before);
}

describe('an input on which a refused program faults', () => {
  it.each([
    ['cases', 1, 0.95],
    ['random', 4, 0.9],
  ])('is found for nearly all the %s that are known to misbehave, and replays', (file, every, share) => {
    let refused = 0;
    let found = 0;
    for (const [i, each] of vectors<KernelCase>(`verifier/${file}.jsonl.gz`).entries()) {
      if (i % every !== 0) continue;
      const program = each.witness ? decodable(each.insns) : undefined;
      if (!program) continue;
      const contract = kernelContract(each, true);
      const error = refusal(program, contract);
      if (!error) continue;
      refused++;
      if (!error.counterexample) continue;
      found++;
      expectReplay(program, contract, error);
    }
    console.log(`${file}: found for ${found} of ${refused}`);
    expect(found / refused).toBeGreaterThanOrEqual(share);
  });

  const contract: Contract = {
    args: [
      { kind: 'memory', bytes: 32, access: 'readwrite' },
      { kind: 'memory', bytes: 8, access: 'write' },
      { kind: 'scalar', min: 3n, max: 1000n },
    ],
    writesAll: [1],
    disjoint: true,
  };
  const WRITTEN = '*(u64 *)(r2 + 0) = 0\n';

  it.each([
    [
      'a number of four bytes',
      'r4 = *(u32 *)(r1 + 5)\nif r4 != 0x1234567 goto +1\nr0 = *(u8 *)(r1 + 32)\nr0 = 0\nexit',
    ],
    [
      'in network order',
      'r4 = *(u32 *)(r1 + 5)\nr4 = be32 r4\nif r4 != 0x1234567 goto +1\nr0 = *(u8 *)(r1 + 32)\nr0 = 0\nexit',
    ],
    [
      'a product',
      'r4 = *(u16 *)(r1 + 8)\nr4 *= 77\nif r4 != 154000 goto +1\nr0 = *(u8 *)(r1 + 32)\nr0 = 0\nexit',
    ],
    [
      'a mixture',
      'r4 = *(u64 *)(r1 + 8)\nr4 ^= 0x5555\nr4 += 1234567\nif r4 != 7654321 goto +1\nr0 = *(u8 *)(r1 + 32)\nr0 = 0\nexit',
    ],
    [
      'three in a row',
      'r4 = *(u8 *)(r1 + 0)\nif r4 != 66 goto +6\nr4 = *(u8 *)(r1 + 1)\nif r4 != 80 goto +4\nr4 = *(u8 *)(r1 + 2)\nif r4 != 70 goto +1\nr0 = *(u8 *)(r1 + 32)\nr0 = 0\nexit',
    ],
    ['one number in a range', 'r0 = 0\nif r3 != 741 goto +1\nr0 = *(u8 *)(r1 - 1)\nexit'],
    [
      'an index',
      'r4 = *(u8 *)(r1 + 3)\nr4 &= 63\nr5 = *(u8 *)(r1 + 4)\nr5 &= 7\nr4 += r5\nr1 += r4\nr0 = *(u8 *)(r1 - 38)\nexit',
    ],
    ['the number of rounds', 'r0 = 0\nr1 += 1\nr0 += 1\nif r0 < r3 goto -3\nr0 = *(u8 *)(r1 + 0)\nexit'],
    [
      'a byte of the stack',
      'r4 = *(u8 *)(r1 + 3)\nr4 &= 7\n*(u32 *)(r10 - 8) = 0\nr5 = r10\nr5 += r4\nr0 = *(u8 *)(r5 - 8)\nexit',
    ],
    [
      'a misaligned place',
      'r4 = *(u8 *)(r1 + 3)\nr4 &= 7\nr1 += r4\nr0 = 1\nlock *(u32 *)(r1 + 0) += r0\nexit',
    ],
  ])('is found where it takes %s', (_, text) => {
    const program = assemble(WRITTEN + text);
    const error = refusal(program, contract)!;
    expectReplay(program, contract, error);
    expect(refusal(program, contract)!.counterexample).toEqual(error.counterexample);
  });

  it('is found where a byte is left unwritten on one way only', () => {
    const program = assemble('r0 = 0\n*(u32 *)(r2 + 0) = 0\nif r3 == 99 goto +1\n*(u32 *)(r2 + 4) = 0\nexit');
    const error = refusal(program, contract)!;
    expectReplay(program, contract, error);
    expect(error.counterexample!.args[2]).toBe(99n);
    expect(error.counterexample!.fault.message).toBe("byte 4 of r2's memory is left unwritten");
  });

  it('is found for a loop that some input never leaves', () => {
    const program = assemble(`${WRITTEN}r0 = 0\nif r3 == 500 goto -1\nexit`);
    const error = refusal(program, contract)!;
    expect(error.code).toBe('V-LOOP');
    expectReplay(program, contract, error);
    expect(error.counterexample!.args[2]).toBe(500n);
  });

  const buffer = { kind: 'buffer', access: 'read', maxBytes: 1500 } as const;
  const helpers = (spec: HelperSpec): Contract => ({
    args: [contract.args[0], { kind: 'scalar', max: 40n }],
    helpers: { 7: spec },
  });

  it.each<[string, Contract, string]>([
    [
      'a buffer of one length',
      { args: [buffer, { kind: 'end', of: 0 }] },
      'r3 = r1\nr3 += 14\nr0 = 0\nif r3 > r2 goto +1\nr0 = *(u8 *)(r1 + 14)\nexit',
    ],
    ['an empty buffer', { args: [buffer, { kind: 'end', of: 0 }] }, 'r0 = *(u8 *)(r1 + 0)\nexit'],
    [
      'a length in a buffer',
      { args: [buffer, { kind: 'length', of: 0 }] },
      'r0 = 0\nif r2 < 34 goto +4\nr4 = *(u8 *)(r1 + 14)\nr4 &= 60\nr1 += r4\nr0 = *(u8 *)(r1 + 0)\nexit',
    ],
    [
      'a result of a helper function',
      helpers({ args: [], returns: { max: 40n } }),
      'r6 = r1\ncall 7\nr6 += r0\nr0 = *(u8 *)(r6 + 0)\nexit',
    ],
    [
      'a number that a helper function does not take',
      helpers({ args: [{ kind: 'scalar', max: 39n }] }),
      'r1 = r2\ncall 7\nr0 = 0\nexit',
    ],
    [
      'memory that a helper function reads',
      helpers({ args: [{ kind: 'memory', bytes: 4, access: 'read' }] }),
      'r1 += r2\ncall 7\nr0 = 0\nexit',
    ],
  ])('is found where it takes %s', (_, contract, text) => {
    const program = assemble(text);
    expectReplay(program, contract, refusal(program, contract)!);
  });

  it.each([
    ['an address is handed out', `${WRITTEN}r0 = r1\nexit`],
    [
      'no input comes there',
      `${WRITTEN}r0 = 0\nr4 = r3\nr4 *= r4\nr4 %= 7\nif r4 != 3 goto +1\nr0 = *(u8 *)(r1 + 32)\nexit`,
    ],
  ])('is not told where %s', (_, text) => {
    expect(refusal(assemble(text), contract)!.counterexample).toBeUndefined();
  });

  it('leaves a register alone that the contract does not give', () => {
    const program = assemble('r0 = r2\nexit');
    const gap: Contract = { args: [{ kind: 'scalar' }, undefined, { kind: 'scalar' }] };
    expectReplay(program, gap, refusal(program, gap)!);
  });
});
