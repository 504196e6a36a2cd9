import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { assemble } from '../src/bpf/assemble.js';
import type { Contract } from '../src/bpf/contract.js';
import { contractText } from '../src/bpf/contract-text.js';
import { VerifierError } from '../src/errors.js';
import { verifierLog } from '../src/verifier/kernel-log.js';
import { verify } from '../src/verifier/verify.js';
import { vectors } from './vectors.js';
import { decodable, type KernelCase, kernelContract } from './verifier-cases.js';

const contract: Contract = {
  args: [
    { kind: 'memory', bytes: 32, access: 'read' },
    { kind: 'memory', bytes: 8, access: 'write' },
    { kind: 'scalar', max: 100n },
  ],
  disjoint: true,
};

function refusal(text: string, more: Partial<Contract> = {}): VerifierError {
  try {
    verify(assemble(text), { ...contract, ...more }, { maxInstructions: 20_000 });
  } catch (error) {
    if (error instanceof VerifierError) return error;
    throw error;
  }
  return expect.fail('it was accepted');
}

const THROUGH_STACK = `
  r4 = *(u32 *)(r1 + 4)
  *(u64 *)(r10 - 8) = r4
  r0 = 1
  if r4 > 40 goto out
  r5 = *(u64 *)(r10 - 8)
  r0 = 2
  r5 += 1
  r1 += r5
  r0 = *(u8 *)(r1 + 0)
  out: exit`;

describe('a report', () => {
  it('is read from top to bottom: what, where, whence, an input, and the contract', () => {
    expect(refusal(THROUGH_STACK).text).toBe(`\
V-OOB-READ: 1-byte read at r1+1..42 may reach past the 32 bytes of r1's memory

  8: r0 = *(u8 *)(r1 + 0)
                  ^^^^^^ r1=r1's memory+(1..41)

Where r1 comes from:
  0: r4 = *(u32 *)(r1 + 4)  ; r4=0..4294967295
  1: *(u64 *)(r10 - 8) = r4 ; bytes r10-8 to r10-1 of the stack
  3: if r4 > 40 goto +5     ; not taken: r4=0..40
  4: r5 = *(u64 *)(r10 - 8) ; r5=0..40
  6: r5 += 1                ; r5=1..41
  7: r1 += r5               ; r1=r1's memory+(1..41)

An input on which it happens:
  r1: 000000001f, then 27 bytes 00
  r2: 8 bytes 00
  r3: 0
  instruction 8: 1-byte read at byte 32 of r1's memory, which has 32 bytes [X-OOB]

What the program may rely on:
  r1: 32 bytes that may be read
  r2: 8 bytes that may be written
  r3: a number from 0 to 100
  r4 to r5: not given
  no two pieces of memory overlap
`);
  });

  it('is JSON', () => {
    const error = refusal(THROUGH_STACK);
    expect(JSON.parse(JSON.stringify(error))).toEqual(error.report);
    expect(error.report).toMatchObject({
      code: 'V-OOB-READ',
      insn: 8,
      instruction: 'r0 = *(u8 *)(r1 + 0)',
      operand: { text: 'r1 + 0', column: 13, registers: ['r1'] },
      counterexample: {
        args: [{ bytes: `000000001f${'00'.repeat(27)}` }, { bytes: '00'.repeat(8) }, { number: '0' }],
      },
    });
  });

  it.each([
    [
      'copies and constants',
      'r4 = r3\nr0 = 9\nr4 += 5\nr4 = r4\nr1 += r4\nr0 = *(u8 *)(r1 + 0)\nexit',
      [0, 2, 3, 4],
    ],
    [
      'a branch on a copy',
      'r4 = r3\nr0 = 0\nif r4 > 40 goto +2\nr1 += r3\nr0 = *(u8 *)(r1 + 0)\nexit',
      [2, 3],
    ],
    [
      'the other side of a branch',
      'r4 = *(u8 *)(r1 + 0)\nr5 = *(u8 *)(r1 + 1)\nr5 &= 63\nr0 = 0\nif r4 > r5 goto +2\nr1 += r4\nr0 = *(u8 *)(r1 + 0)\nexit',
      [0, 1, 2, 4, 5],
    ],
    [
      'a call and its return',
      'r6 = r1\nr1 = r3\ncall f\nr6 += r0\nr0 = *(u8 *)(r6 + 0)\nexit\nf: r0 = r1\nr0 += 1\nexit',
      [0, 1, 2, 6, 7, 8, 3],
    ],
    [
      'bytes of the stack',
      '*(u16 *)(r10 - 8) = 3\n*(u8 *)(r10 - 7) = r3\nr4 = *(u16 *)(r10 - 8)\nr1 += r4\nr0 = *(u8 *)(r1 + 0)\nexit',
      [0, 1, 2, 3],
    ],
    [
      'an atomic operation on the stack',
      '*(u64 *)(r10 - 8) = 3\nr4 = r3\nr4 = atomic64_fetch_add((u64 *)(r10 - 8), r4)\nr4 = *(u64 *)(r10 - 8)\nr1 += r4\nr0 = *(u8 *)(r1 + 0)\nexit',
      [0, 1, 2, 3, 4],
    ],
  ] as const)('shows where a value came from: through %s', (_, text, slots) => {
    expect(refusal(text).report.slice.map(({ insn }) => insn)).toEqual(slots);
  });

  it('shows an instruction once, with how often it was walked over', () => {
    const { slice } = refusal(
      'r4 = 0\nr1 += 7\nr4 += 1\nif r4 != 5 goto -3\nr0 = *(u8 *)(r1 + 0)\nexit',
    ).report;
    expect(slice).toEqual([{ insn: 1, instruction: 'r1 += 7', result: "r1=r1's memory+35", times: 5 }]);
  });

  it('shows what was written where a byte of memory is left out, and what a loop depends on', () => {
    const text = '*(u16 *)(r2 + 0) = 0\n*(u8 *)(r10 - 1) = 1\n*(u8 *)(r2 + 3) = 0\nr0 = 0\nexit';
    expect(refusal(text, { writesAll: [1] }).report.slice.map(({ result }) => result)).toEqual([
      "bytes 0 to 1 of r2's memory",
      "byte 3 of r2's memory",
    ]);
    const loop = refusal('r0 = 0\nr4 = r3\nif r4 == 7 goto +1\ngoto -2\nexit');
    expect(loop.code).toBe('V-LOOP');
    expect(loop.report.slice.map(({ insn }) => insn)).toEqual([1, 2]);
  });

  const document = readFileSync(new URL('../docs/verifier.md', import.meta.url), 'utf8');

  it('is the one that the document shows', () => {
    const [, text, shown] = /## Reports[\s\S]*?```bpf\n([\s\S]*?)```[\s\S]*?```\n([\s\S]*?)```/.exec(
      document,
    )!;
    const args: Contract['args'] = [
      { kind: 'memory', bytes: 32, access: 'read' },
      { kind: 'scalar', max: 100n },
    ];
    expect(refusal(text!, { args }).text).toBe(shown);
  });

  const sections = [...document.matchAll(/### (V-[A-Z-]+)\n[\s\S]*?```bpf\n([\s\S]*?)```/g)].map(
    ([, code, text]) => [code!, text!] as const,
  );

  it.each(sections)('of %s points into its instruction', (code, text) => {
    const args: Contract['args'] = [
      { kind: 'memory', bytes: 8, access: 'read' },
      { kind: 'memory', bytes: 8, access: 'write' },
      { kind: 'scalar' },
    ];
    const helpers = { 7: { args: [{ kind: 'scalar', max: 10n }] } } as const;
    const error = refusal(text, {
      args,
      helpers,
      writesAll: code === 'V-UNWRITTEN' ? [1] : [],
      kernelCompatible: code === 'V-KERNEL-RULE' || code === 'V-UNREACHABLE',
    });
    const { report } = error;
    const { instruction, operand, reason, insn, contract } = report;
    expect(report.code).toBe(code);
    expect(error.message).toBe(`instruction ${insn}: ${reason}`);
    expect(instruction).not.toBe('');
    if (operand) expect(instruction.startsWith(operand.text, operand.column)).toBe(true);
    for (const line of contract) expect(error.text).toContain(`  ${line}\n`);
    expect(error.text).toMatch(new RegExp(`^  ${insn}: .*\n +\\^+`, 'm'));
  });

  it('is made for every case that is refused', () => {
    let reports = 0;
    for (const each of vectors<KernelCase>('verifier/cases.jsonl.gz')) {
      const program = decodable(each.insns);
      if (!program || each.witness) continue;
      try {
        verify(program, kernelContract(each, false), { maxInstructions: 5_000 });
      } catch (error) {
        if (!(error instanceof VerifierError)) throw error;
        expect(JSON.parse(JSON.stringify(error))).toEqual(error.report);
        expect(error.text).toContain(error.code);
        reports++;
      }
    }
    expect(reports).toBeGreaterThan(30);
  });
});

describe('a contract in words', () => {
  it.each([
    [{ args: [] }, ['r1 to r5: not given']],
    [
      {
        args: [
          undefined,
          { kind: 'memory', bytes: 1, access: 'readwrite' },
          { kind: 'scalar' },
          { kind: 'scalar', min: 4n, max: 4n },
        ],
      },
      [
        'r1: not given',
        'r2: 1 byte that may be read and written',
        'r3: any number',
        'r4: the number 4',
        'r5: not given',
      ],
    ],
    [
      {
        args: [
          { kind: 'memory', bytes: 8, access: 'write' },
          { kind: 'memory', bytes: 0, access: 'read' },
          { kind: 'scalar', min: 2n },
        ],
        writesAll: [0],
        allowPointerLeaks: true,
      },
      [
        'r1: 8 bytes that may be written, each of which must be written',
        'r2: 0 bytes that may be read',
        'r3: a number from 2 up',
        'r4 to r5: not given',
        'the pieces of memory may overlap',
        'r0 and memory may be given addresses',
      ],
    ],
  ] as const)('%#', (contract, lines) => {
    expect(contractText(contract as unknown as Contract)).toEqual(lines);
  });
});

describe("the log in the Linux verifier's format", () => {
  it('has each instruction with what it left, branches, and what it took', () => {
    const text = 'r4 = *(u8 *)(r1 + 3)\nr0 = 0\nif r4 > 16 goto +2\nr1 += r4\nr0 = *(u16 *)(r1 + 2)\nexit';
    expect(verifierLog(assemble(text), contract)).toBe(`\
0: R1=rdonly_mem(sz=32) R2=mem(sz=8) R3=scalar(smin=smin32=0,smax=umax=smax32=umax32=100,var_off=(0x0; 0x7f)) R10=fp0
0: (71) r4 = *(u8 *)(r1 +3)             ; R1=rdonly_mem(sz=32) R4_w=scalar(smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff))
1: (b7) r0 = 0                          ; R0_w=0
2: (25) if r4 > 0x10 goto pc+2          ; R4=scalar(smin=smin32=0,smax=umax=smax32=umax32=16,var_off=(0x0; 0x1f))
3: (0f) r1 += r4                        ; R1_w=rdonly_mem(sz=32,smin=smin32=0,smax=umax=smax32=umax32=16,var_off=(0x0; 0x1f)) R4=scalar(smin=smin32=0,smax=umax=smax32=umax32=16,var_off=(0x0; 0x1f))
4: (69) r0 = *(u16 *)(r1 +2)            ; R0_w=scalar(smin=smin32=0,smax=umax=smax32=umax32=65535,var_off=(0x0; 0xffff))
5: (95) exit

from 2 to 5: safe
processed 6 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
`);
  });

  it('ends with the reason of a refusal', () => {
    const lines = verifierLog(assemble('r2 = r10\nr0 = *(u64 *)(r2 - 8)\nexit'), contract).split('\n');
    expect(lines.slice(1)).toEqual([
      '0: (bf) r2 = r10                        ; R2_w=fp0 R10=fp0',
      '1: (79) r0 = *(u64 *)(r2 -8)',
      '8-byte read of the stack, where byte r10-8 was not written on this path',
      'processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0',
      '',
    ]);
  });

  it('keeps the last lines, as many as are asked for', () => {
    const program = assemble(`${'r0 = 1\n'.repeat(100)}exit`);
    const lines = verifierLog(program, contract, { maxLines: 3 }).trimEnd().split('\n');
    expect(lines.length).toBe(3);
    expect(lines[1]).toBe('100: (95) exit');
    expect(() => verifierLog(program, contract, { maxLines: 0 })).toThrow(
      expect.objectContaining({ code: 'A-RANGE' }),
    );
  });

  it('has only lines of known forms', () => {
    const forms = [
      /^$/,
      /^\d+: (frame\d: )?R\d.*$/,
      /^\d+: \([\da-f]{2}\) .*$/,
      /^(from \d+ to )?\d+: (safe|(frame\d: )?R\d.*)$/,
      /^processed \d+ insns \(limit \d+\) /,
    ];
    for (const each of vectors<KernelCase>('verifier/cases.jsonl.gz')) {
      const program = decodable(each.insns);
      if (!program) continue;
      const lines = verifierLog(program, kernelContract(each, true), { maxInstructions: 2000 }).split('\n');
      const strange = lines.filter((line) => !forms.some((form) => form.test(line)));
      // One reason at most.
      expect(strange.length, strange.join('\n')).toBeLessThanOrEqual(1);
    }
  });
});
