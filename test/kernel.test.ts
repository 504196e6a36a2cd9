// The Linux kernel as an engine, where it lets us.

import { afterAll, describe, expect, it } from 'vitest';
import { assemble } from '../src/bpf/assemble.js';
import type { Contract } from '../src/bpf/contract.js';
import { decodeProgram } from '../src/bpf/encode.js';
import { dataAddress, makeProgram } from '../src/bpf/program.js';
import { VerifierError } from '../src/errors.js';
import { KernelMemory } from '../src/kernel/kernel.js';
import { kernelVerdict } from '../src/kernel/verdict.js';
import { kernelRuns } from './kernel-available.js';
import { hex, type UbpfVector, unhex, vectors } from './vectors.js';
import { ubpfContract } from './verifier-cases.js';

const memories = new Map<string, KernelMemory>();
afterAll(() => {
  for (const memory of memories.values()) memory.dispose();
});

/** One set of maps for each contract. */
function memoryFor(contract: Contract): KernelMemory {
  const key = JSON.stringify(contract, (_, value) => (typeof value === 'bigint' ? String(value) : value));
  let memory = memories.get(key);
  if (!memory) memories.set(key, (memory = new KernelMemory(contract)));
  return memory;
}

function call(text: string, contract: Contract, args: (Uint8Array | bigint)[]): bigint {
  const program = memoryFor(contract).load(assemble(text));
  try {
    return program.call(args);
  } finally {
    program.free();
  }
}

describe.skipIf(!kernelRuns)('the kernel', () => {
  it('is given no program with data', () => {
    const data = [{ name: '.bss', bytes: new Uint8Array(8), writable: true }];
    const program = makeProgram([dataAddress(1, 0, 0), ...assemble('r0 = 0\nexit').instructions], data);
    expect(() => memoryFor({ args: [] }).load(program)).toThrow('the program brings data along (.bss)');
  });

  it('returns all 64 bits of r0', () => {
    expect(call('r0 = 0xfedcba9876543210 ll\nexit', { args: [] }, [])).toBe(0xfedcba9876543210n);
  });

  it('is given memory, numbers and the address 0 for no memory', () => {
    const contract: Contract = {
      args: [
        { kind: 'memory', bytes: 8, access: 'write' },
        { kind: 'memory', bytes: 3, access: 'read' },
        { kind: 'scalar' },
        { kind: 'memory', bytes: 0, access: 'read' },
      ],
    };
    const out = new Uint8Array(9).fill(9);
    const text = 'r0 = *(u8 *)(r2 + 2)\n*(u64 *)(r1 + 0) = r3\nr0 += r4\nexit';
    expect(call(text, contract, [out, Uint8Array.of(1, 2, 3), 0x8000000000000001n, new Uint8Array(0)])).toBe(
      3n,
    );
    expect(hex(out)).toBe('010000000000008009');
  });

  it('refuses what its verifier refuses, by slot and with its log', () => {
    const contract: Contract = { args: [{ kind: 'memory', bytes: 8, access: 'read' }] };
    for (const [text, insn, says] of [
      ['r2 = 1 ll\nr0 = *(u64 *)(r1 + 1)\nexit', 2, /invalid access to map value/],
      ['*(u8 *)(r1 + 0) = 1\nr0 = 0\nexit', 0, /write into map forbidden/],
      ['r0 = r5\nexit', 0, /R5 !read_ok/],
      ['r0 = 1 ll\ngoto +1\nr0 = 2\nexit', 3, /unreachable insn/],
    ] as const) {
      expect(() => memoryFor(contract).load(assemble(text))).toThrow(
        expect.objectContaining({
          code: 'V-KERNEL',
          where: { insn },
          message: expect.stringMatching(says),
          log: expect.stringContaining('processed'),
        }),
      );
    }
  });

  it('is told the range of a number, and nothing of numbers without one', () => {
    const memory = { kind: 'memory', bytes: 8, access: 'read' } as const;
    const text = 'r1 += r2\nr0 = *(u8 *)(r1 - 3)\nexit';
    const range: Contract = { args: [memory, { kind: 'scalar', min: 3n, max: 10n }] };
    const bytes = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
    for (const r2 of [3n, 10n]) expect(call(text, range, [bytes, r2])).toBe(r2 - 2n);
    for (const [min, max, insn] of [
      [2n, 10n, 1],
      [3n, 11n, 1],
      [0n, 2n ** 64n - 1n, 0],
    ] as const) {
      const wider: Contract = { args: [memory, { kind: 'scalar', min, max }] };
      expect(kernelVerdict(assemble(text), wider)).toMatchObject({
        accepted: false,
        error: { code: 'V-KERNEL', insn },
      });
    }
  });

  it('tells what it walked, how much machine code it made, how long that took, and its log', () => {
    const program = assemble('r0 = 1\nr0 += 2\nexit');
    const loaded = memoryFor({ args: [] }).load(program, { log: true });
    const { walked, jitBytes } = loaded.info();
    expect(walked).toBeGreaterThanOrEqual(3);
    // Where the kernel's JIT is on, with its own prologue and epilogue.
    if (jitBytes > 0) expect(jitBytes).toBeGreaterThan(8);
    expect(jitBytes).toBeLessThan(100);
    expect(loaded.loadMicroseconds).toBeGreaterThan(0);
    expect(loaded.log).toMatch(/\(07\) r0 \+= 2[\s\S]*processed \d+ insns/);
    loaded.free();
    expect(() => loaded.info()).toThrow(expect.objectContaining({ code: 'A-DISPOSED' }));
    expect(kernelVerdict(program, { args: [] })).toMatchObject({ accepted: true, walked, jitBytes, log: '' });
  });

  it('does not run its own helper functions for those of a contract', () => {
    const helpers = { 5: { args: [] } };
    const text = 'call 5\nr0 = 0\nexit';
    expect(kernelVerdict(assemble(text), { args: [] })).toMatchObject({ accepted: true });
    expect(() => kernelVerdict(assemble(text), { args: [], helpers })).toThrow(
      expect.objectContaining({ code: 'E-KERNEL', name: 'EngineError' }),
    );
  });

  it('wants the arguments of the contract, and what has not been freed', () => {
    const memory = new KernelMemory({ args: [{ kind: 'memory', bytes: 8, access: 'read' }] });
    const program = memory.load(assemble('r0 = 0\nexit'));
    expect(() => program.call([new Uint8Array(7)])).toThrow(expect.objectContaining({ code: 'A-LENGTH' }));
    expect(() => program.call([])).toThrow(expect.objectContaining({ code: 'A-ARGS' }));
    memory.dispose();
    memory.dispose();
    expect(() => program.call([new Uint8Array(8)])).toThrow(expect.objectContaining({ code: 'A-DISPOSED' }));
    expect(() => memory.load(assemble('exit'))).toThrow(expect.objectContaining({ code: 'A-DISPOSED' }));
    program.free();
    program.free();
    expect(() => program.call([new Uint8Array(8)])).toThrow(expect.objectContaining({ code: 'A-DISPOSED' }));
  });

  it('gives what uBPF gives for every program of uBPF that it accepts', () => {
    let accepted = 0;
    for (const vector of vectors<UbpfVector>('ubpf/vectors.jsonl.gz')) {
      const { id, insns, mem, r0, mem_after } = vector;
      const memory = unhex(mem);
      const run = () => memoryFor(ubpfContract(vector)).load(decodeProgram(unhex(insns)));
      const program = acceptedBy(run);
      if (!program) continue;
      accepted++;
      expect([id, program.call([memory, BigInt(memory.length)]), hex(memory)]).toEqual([
        id,
        BigInt(r0),
        mem_after,
      ]);
      program.free();
    }
    expect(accepted).toBeGreaterThan(1000);
  });
});

describe.skipIf(!kernelRuns)('the kernel, with the program as a global function,', () => {
  const as = 'global function';
  const contract: Contract = {
    args: [
      { kind: 'memory', bytes: 16, access: 'write' },
      { kind: 'memory', bytes: 9, access: 'read' },
      { kind: 'scalar', max: 3n },
      undefined,
      { kind: 'memory', bytes: 0, access: 'read' },
      // r4 is not given
    ],
  };

  it('accepts loads and stores at any alignment, without a test for null', () => {
    const memory = new KernelMemory(contract, { as });
    const program = memory.load(
      assemble('r0 = *(u64 *)(r2 + 1)\n*(u64 *)(r1 + 3) = r0\n*(u32 *)(r1 + 11) = r3\nr0 += r5\nexit'),
    );
    const out = new Uint8Array(16).fill(9);
    const packed = Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7, 8);
    expect(program.call([out, packed, 3n, 0n, new Uint8Array(0)])).toBe(0x0807060504030201n);
    expect(hex(out)).toBe('09090901020304050607080300000009');
    program.free();
    memory.dispose();
  });

  it('checks it for any caller: sizes hold, ranges of numbers do not', () => {
    const verdict = (text: string) => kernelVerdict(assemble(text), contract, { as });
    expect(verdict('r0 = *(u64 *)(r2 + 1)\nexit')).toMatchObject({ accepted: true });
    expect(verdict('r0 = 0\nr0 = *(u64 *)(r2 + 2)\nexit')).toMatchObject({
      accepted: false,
      error: { code: 'V-KERNEL', insn: 1, message: expect.stringContaining('invalid access to memory') },
    });
    expect(verdict('r2 += r3\nr0 = *(u8 *)(r2 + 0)\nexit')).toMatchObject({ accepted: false });
    expect(kernelVerdict(assemble('r2 += r3\nr0 = *(u8 *)(r2 + 0)\nexit'), contract)).toMatchObject({
      accepted: true,
    });
  });

  it('takes local functions with it', () => {
    const text = 'r6 = 1\ncall f\nr0 += r6\nexit\nf: r0 = *(u8 *)(r2 + 8)\ncall g\nexit\ng: r0 = 40\nexit';
    const memory = new KernelMemory(contract, { as });
    const program = memory.load(assemble(text));
    const args = [new Uint8Array(16), new Uint8Array(9), 0n, 0n, new Uint8Array(0)];
    expect(program.call(args)).toBe(41n);
    program.free();
    memory.dispose();
  });

  it('wants one of the two ways', () => {
    expect(() => new KernelMemory(contract, { as: 'function' as never })).toThrow(
      expect.objectContaining({ code: 'A-RANGE' }),
    );
  });
});

/** What `load` returns; undefined where the kernel refuses. */
function acceptedBy<T>(load: () => T): T | undefined {
  try {
    return load();
  } catch (error) {
    if (error instanceof VerifierError) return undefined;
    throw error;
  }
}
