import { describe, expect, it } from 'vitest';
import { assemble, type Contract, decodeProgram, ExecutionError, interpret } from '../src/index.js';
import { hex, type UbpfVector, unhex, vectors } from './vectors.js';

it('gives what uBPF gives for 3,000 programs, r0 and memory', () => {
  const all = vectors<UbpfVector>('ubpf/vectors.jsonl.gz');
  for (const { id, insns, mem, r0, mem_after } of all) {
    const memory = unhex(mem);
    const result = interpret(decodeProgram(unhex(insns)), { args: [memory, BigInt(memory.length)] });
    expect({ id, r0: result.r0, memory: hex(memory) }).toEqual({ id, r0: BigInt(r0), memory: mem_after });
  }
  expect(all.length).toBe(3000);
});

const readOnly: Contract = { args: [{ kind: 'memory', bytes: 8, access: 'read' }] };
const writeOnly: Contract = { args: [{ kind: 'memory', bytes: 8, access: 'write' }], writesAll: [0] };

describe('a fault names the instruction and the reason', () => {
  const cases: [title: string, text: string, options: object, code: string, insn: number, says: RegExp][] = [
    [
      'a read past the end',
      'r0 = *(u64 *)(r1 + 1)\nexit',
      {},
      'X-OOB',
      0,
      /byte 1 of r1's memory, which has 8 bytes/,
    ],
    ['a read before the start', 'r0 = *(u8 *)(r1 - 1)\nexit', {}, 'X-OOB', 0, /byte -1 of r1's memory/],
    [
      'a stray offset that meets another region',
      'r2 -= r1\nr1 += r2\nr0 = *(u8 *)(r1 + 0)\nexit',
      { args: [new Uint8Array(8), new Uint8Array(8)] },
      'X-OOB',
      2,
      /r1's memory/,
    ],
    [
      'an address made of numbers',
      'r1 = 4096\nr0 = *(u8 *)(r1 + 0)\nexit',
      {},
      'X-NOT-POINTER',
      1,
      /derived from no memory/,
    ],
    [
      'a read below the stack',
      'r0 = *(u8 *)(r10 - 513)\nexit',
      {},
      'X-OOB',
      0,
      /the stack, which has 512 bytes/,
    ],
    [
      'a pointer into a frame that is gone',
      'call pc+2\nr0 = *(u8 *)(r0 + 0)\nexit\nr0 = r10\nr0 += -8\nexit',
      {},
      'X-NOT-POINTER',
      1,
      /frame that has been left/,
    ],
    [
      'a write of read-only memory',
      '*(u8 *)(r1 + 0) = 1\nexit',
      { contract: readOnly },
      'X-ACCESS',
      0,
      /may only be read/,
    ],
    [
      'a read of write-only memory',
      'r0 = *(u8 *)(r1 + 0)\nexit',
      { contract: writeOnly },
      'X-ACCESS',
      0,
      /may only be written/,
    ],
    [
      'a misaligned atomic operation',
      'r2 = 1\nlock *(u64 *)(r1 + 4) += r2\nexit',
      { args: [new Uint8Array(16)] },
      'X-ALIGN',
      1,
      /multiple of 8/,
    ],
    ['an end without exit', 'r0 = 0', {}, 'X-FALL-OFF', 1, /runs off its end at 1/],
    ['a loop without end', 'goto -1', { maxInstructions: 1000 }, 'X-LIMIT', 0, /1000 instructions/],
    ['a helper that is not there', 'call 7\nexit', {}, 'X-HELPER', 0, /helper function 7/],
    ['calls without end', 'call pc-1\nexit', {}, 'X-DEPTH', 0, /8 frames/],
    ['an uninitialised register', 'r0 = r3\nexit', { strict: true }, 'X-UNINIT-REG', 0, /r3 is read before/],
    ['an uninitialised r0 at exit', 'exit', { strict: true }, 'X-UNINIT-REG', 0, /r0/],
    [
      'an uninitialised stack byte',
      '*(u32 *)(r10 - 8) = 1\nr0 = *(u64 *)(r10 - 8)\nexit',
      { strict: true },
      'X-UNINIT-STACK',
      1,
      /byte r10-4/,
    ],
    [
      'r3 after a local call',
      'r0 = 0\nr3 = 1\ncall pc+2\nr0 = r3\nexit\nr0 = 2\nexit',
      { strict: true },
      'X-UNINIT-REG',
      3,
      /r3/,
    ],
  ];
  it.each(cases)('%s', (_, text, options, code, insn, says) => {
    const run = () => interpret(assemble(text), { args: [new Uint8Array(8)], ...options });
    expect(run).toThrow(says);
    try {
      run();
    } catch (error) {
      expect(error).toBeInstanceOf(ExecutionError);
      expect(error).toMatchObject({ code, insn });
    }
  });

  it('and strict mode tells which output bytes were left unwritten', () => {
    const program = assemble('*(u32 *)(r1 + 0) = 0\n*(u8 *)(r1 + 5) = 0\nr0 = 0\nexit');
    const { unwritten } = interpret(program, {
      args: [new Uint8Array(8)],
      contract: writeOnly,
      strict: true,
    });
    expect(unwritten).toEqual([{ arg: 0, bytes: [4, 6, 7] }]);
  });
});

describe('what a program may do with pointers', () => {
  it('spill one to memory and load it back, in one piece', () => {
    const program = assemble('*(u64 *)(r10 - 8) = r1\nr2 = *(u64 *)(r10 - 8)\nr0 = *(u8 *)(r2 + 7)\nexit');
    expect(interpret(program, { args: [unhex('0000000000000009')] }).r0).toBe(9n);
  });

  it('not use one whose spilled bytes were overwritten', () => {
    const program = assemble(
      '*(u64 *)(r10 - 8) = r1\n*(u8 *)(r10 - 3) = 0\nr2 = *(u64 *)(r10 - 8)\nr0 = *(u8 *)(r2 + 0)\nexit',
    );
    expect(() => interpret(program, { args: [new Uint8Array(8)] })).toThrow(/derived from no memory/);
  });

  it('an empty buffer is address 0', () => {
    expect(interpret(assemble('r0 = r1\nexit'), { args: [new Uint8Array(0)] }).r0).toBe(0n);
  });

  const refused: Record<string, unknown> = {
    'a number': [1],
    '-1': [-1n],
    '2^64': [1n << 64n],
    null: [null],
    'an object': [{}],
    'no array': 'r1',
    'six arguments': [0n, 0n, 0n, 0n, 0n, 0n],
  };
  it.each(Object.keys(refused))('%s as arguments is refused', (title) => {
    expect(() => interpret(assemble('exit'), { args: refused[title] as never })).toThrow(/args/);
  });
});
