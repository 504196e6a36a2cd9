// Programs with loops: those that are proven without walking their rounds, and those that must not be.

import type { ArgSpec } from '../src/bpf/contract.js';

export const memory = (bytes: number, access: 'read' | 'write' | 'readwrite' = 'read'): ArgSpec => {
  return { kind: 'memory', bytes, access };
};
export const upTo = (max: bigint, min = 0n): ArgSpec => ({ kind: 'scalar', min, max });

export interface LoopCase {
  title: string;
  args?: ArgSpec[];
  text: string;
}

/** In the order of their heads in the walk: slot, and trips at most. */
export interface Proven extends LoopCase {
  loops: [number, bigint | undefined][];
}

const sumOf = (test: string) => `
  r0 = 0
  r3 = 0
  loop: if ${test} goto out
  r4 = *(u64 *)(r1 + 0)
  r0 += r4
  r1 += 8
  r3 += 1
  goto loop
  out: exit`;

export const counting = (start: string, step: string, test: string) => `
  r0 = 0
  ${start}
  loop: ${step}
  if ${test} goto loop
  exit`;

export const PROVEN: Proven[] = [
  ...[1n, 1_000n, 100_000n, 1n << 32n].map((n) => ({
    title: `${n} rounds`,
    text: `r2 = ${n} ll\nr0 = 0\nloop: r0 += 1\nif r0 != r2 goto loop\nexit`,
    loops: [[3, n - 1n]] as [number, bigint][],
  })),
  {
    title: '2^64 - 1 rounds',
    text: 'r2 = -1\nr0 = 0\nloop: r0 += 1\nif r0 < r2 goto loop\nexit',
    loops: [[2, (1n << 64n) - 2n]],
  },
  {
    title: 'any number of rounds that an argument says',
    args: [upTo((1n << 64n) - 1n)],
    text: 'r0 = 0\nloop: if r0 == r1 goto out\nr0 += 1\ngoto loop\nout: exit',
    loops: [[1, (1n << 64n) - 1n]],
  },
  {
    title: 'a sum of as many numbers as an argument says',
    args: [memory(800_000), upTo(100_000n)],
    text: sumOf('r3 >= r2'),
    loops: [[2, 100_000n]],
  },
  {
    title: 'a sum up to equality',
    args: [memory(800_000), upTo(100_000n)],
    text: sumOf('r3 == r2'),
    loops: [[2, 100_000n]],
  },
  {
    title: 'a test at the end, where it is known that there is a round',
    args: [memory(800_000), upTo(100_000n)],
    text: 'r0 = 0\nif r2 == 0 goto out\nloop: r4 = *(u64 *)(r1 + 0)\nr0 += r4\nr1 += 8\nr2 += -1\nif r2 != 0 goto loop\nout: exit',
    loops: [[2, 99_999n]],
  },
  {
    title: 'a pointer that moves to another',
    args: [memory(800_000), upTo(100_000n)],
    text: 'r0 = 0\nr2 <<= 3\nr2 += r1\nloop: if r1 == r2 goto out\nr4 = *(u64 *)(r1 + 0)\nr0 += r4\nr1 += 8\ngoto loop\nout: exit',
    loops: [[3, 100_000n]],
  },
  {
    title: 'a counter of 32 bits that is an index',
    args: [memory(800_000), upTo(100_000n)],
    text: 'r0 = 0\nw3 = 0\nloop: if w3 >= w2 goto out\nr5 = r3\nr5 <<= 3\nr6 = r1\nr6 += r5\nr4 = *(u64 *)(r6 + 0)\nr0 += r4\nw3 += 1\ngoto loop\nout: exit',
    loops: [[2, 100_000n]],
  },
  {
    title: 'a counter on the stack',
    args: [memory(1_000)],
    text: '*(u64 *)(r10 - 8) = 0\nr0 = 0\nloop: r3 = *(u64 *)(r10 - 8)\nr4 = r1\nr4 += r3\nr5 = *(u8 *)(r4 + 0)\nr0 += r5\nr3 += 1\n*(u64 *)(r10 - 8) = r3\nif r3 < 1000 goto loop\nexit',
    loops: [[2, 999n]],
  },
  {
    title: 'a counter of 4 bytes on the stack',
    args: [memory(1_000)],
    text: '*(u32 *)(r10 - 4) = 0\nr0 = 0\nloop: r3 = *(u32 *)(r10 - 4)\nif w3 >= 1000 goto out\nr4 = r1\nr4 += r3\nr5 = *(u8 *)(r4 + 0)\nr0 += r5\nr3 = *(u32 *)(r10 - 4)\nw3 += 1\n*(u32 *)(r10 - 4) = r3\ngoto loop\nout: exit',
    loops: [[2, 1_000n]],
  },
  {
    title: 'a count down through 0, read as signed numbers',
    args: [memory(200)],
    text: 'r3 = 100\nr0 = 0\nloop: r4 = r1\nr4 += r3\nr5 = *(u8 *)(r4 + 99)\nr0 += r5\nr3 += -1\nif r3 s> -100 goto loop\nexit',
    loops: [[2, 199n]],
  },
  {
    title: 'steps of three to where they hit',
    text: counting('r3 = 0', 'r3 += 3', 'r3 != 999999'),
    loops: [[2, 333_332n]],
  },
  {
    title: 'a bound that runs away until both have come round',
    text: counting('r4 = 9', 'r0 += 1\nr4 += 2', 'r0 != r4'),
    loops: [[2, (1n << 64n) - 10n]],
  },
  {
    title: 'a count down that ends below 0',
    text: counting('r4 = 1000', 'r4 -= 1', 'r4 < 1001'),
    loops: [[2, undefined]],
  },
  {
    title: 'steps of different lengths',
    args: [memory(101), upTo(100n)],
    text: 'r0 = 0\nr3 = 0\nloop: if r3 >= r2 goto out\nr4 = r1\nr4 += r3\nr5 = *(u8 *)(r4 + 0)\nif r5 > 5 goto more\nr3 += 1\ngoto loop\nmore: r3 += 2\ngoto loop\nout: exit',
    loops: [[2, undefined]],
  },
  {
    title: 'breaks and continues',
    args: [memory(1_000, 'readwrite'), memory(1_000), upTo(1_000n)],
    text: 'r0 = 0\nloop: if r0 s>= r3 goto out\nr0 += 1\nr4 = *(u8 *)(r2 + 0)\nr2 += 1\nif r4 == 0 goto loop\nif r4 == 10 goto out\n*(u8 *)(r1 + 0) = r4\ngoto loop\nout: exit',
    loops: [[1, 1_000n]],
  },
  {
    title: 'loops in a loop',
    args: [memory(10_000)],
    text: 'r0 = 0\nr3 = 0\nouter: r4 = 0\ninner: r5 = r3\nr5 *= 100\nr5 += r4\nr6 = r1\nr6 += r5\nr6 = *(u8 *)(r6 + 0)\nr0 += r6\nr4 += 1\nif r4 < 100 goto inner\nr3 += 1\nif r3 < 100 goto outer\nexit',
    loops: [
      [2, 99n],
      [3, 99n],
    ],
  },
  {
    title: 'a loop in a function that a loop calls',
    args: [memory(100_000), upTo(100_000n)],
    text: 'r6 = r1\nr7 = r2\nr8 = 0\nloop: if r8 >= r7 goto out\nr1 = r6\nr1 += r8\ncall f\nr8 += 1\ngoto loop\nout: r0 = 0\nexit\nf: r0 = *(u8 *)(r1 + 0)\nr2 = 5000\ng: r2 += -1\nif r2 != 0 goto g\nexit',
    loops: [
      [3, 100_000n],
      [13, 4_999n],
    ],
  },
  {
    title: 'a bound that is read again in each round, and may be another',
    args: [memory(8)],
    text: 'r0 = 0\nr3 = 0\nloop: r2 = *(u32 *)(r1 + 0)\nr3 += 1\nif r3 < r2 goto loop\nexit',
    loops: [[2, 0xffff_fffen]],
  },
];

/** With memory of 8 bytes to be read in r1, any number in r2, and one up to 8 in r3. */
export const REFUSED: (LoopCase & { code?: string })[] = [
  {
    title: 'a counter that stands still on a path that meets another on which it moves',
    text: `r0 = 0
      r4 = 0
      loop: if r4 > 99 goto out
      r5 = *(u8 *)(r1 + 0)
      if r5 != 0 goto still
      move: r4 += 1
      goto join
      still: if r4 == 0 goto move
      join: r5 = 0
      goto loop
      out: exit`,
  },
  { title: 'a counter that may come round', text: counting('r4 = -1', 'r0 += 1', 'r0 <= r4') },
  { title: 'a counter that may come round below 0', text: counting('r4 = 5', 'r4 -= 1', 'r4 >= 0') },
  { title: 'a count to any number by twos', text: counting('r4 = 0', 'r4 += 2', 'r4 != r2') },
  { title: 'a step that may jump over any bound', text: counting('r4 = 0', 'r4 += 3', 'r4 < r2') },
  { title: 'a bound that moves as fast', text: counting('r4 = 9', 'r0 += 1\nr4 += 1', 'r0 < r4') },
  { title: 'a step that may be 0', text: counting('r4 = 0', 'r4 += r3', 'r4 < 1000') },
  {
    title: 'a step read from memory, which may be 0',
    text: counting('r4 = 0', 'r5 = *(u8 *)(r1 + 0)\nr4 += r5', 'r4 < 1000'),
  },
  {
    title: 'a counter that one path resets',
    text: 'r0 = 0\nr4 = 0\nloop: r4 += 1\nr5 = *(u8 *)(r1 + 0)\nif r5 != 1 goto over\nr4 = 0\nover: if r4 < 1000 goto loop\nexit',
  },
  {
    title: 'a counter that one path leaves as it is',
    text: 'r0 = 0\nr4 = 0\nloop: r5 = *(u8 *)(r1 + 0)\nif r5 == 1 goto over\nr4 += 1\nover: if r4 < 1000 goto loop\nexit',
  },
  {
    title: 'a counter that one path takes back',
    text: 'r0 = 0\nr4 = 0\nloop: r4 += 1\nr5 = *(u8 *)(r1 + 0)\nif r5 != 1 goto over\nr4 -= 1\nover: if r4 < 1000 goto loop\nexit',
  },
  { title: 'a test of another number', text: counting('r4 = 0', 'r4 += 1', 'r0 < 1000') },
  { title: 'steps that jump over the end', text: counting('r4 = 0', 'r4 += 2', 'r4 != 999') },
  {
    title: 'a signed test of a number that grows beyond all signed ones',
    text: counting('r4 = 0x7fffffffffffffff ll', 'r0 += 1', 'r0 s<= r4'),
  },
  { title: '32 bits compared with more', text: counting('r5 = 0x100000000 ll', 'w0 += 1', 'r0 < r5') },
  {
    title: '32 bits compared with an end that they never reach',
    text: counting('r5 = 0x100000005 ll', 'w0 += 1', 'r0 != r5'),
  },
  { title: 'the low half compared with all it can be', text: counting('r4 = 0', 'r4 += 1', 'w4 <= -1') },
  {
    title: 'a step of 2^32, of which the low half sees nothing',
    text: counting('r4 = 0\nr5 = 0x100000000 ll', 'r4 += r5', 'w4 < 10'),
  },
  {
    title: 'a counter in memory that others may change',
    args: [memory(8, 'readwrite')],
    text: 'r0 = 0\n*(u64 *)(r1 + 0) = 0\nloop: r4 = *(u64 *)(r1 + 0)\nr4 += 1\n*(u64 *)(r1 + 0) = r4\nif r4 < 10 goto loop\nexit',
  },
  {
    title: 'a test that not every round comes by',
    text: 'r0 = 0\nr4 = 0\nloop: r4 += 1\nr5 = *(u8 *)(r1 + 0)\nif r5 == 1 goto loop\nif r4 != 1000 goto loop\nexit',
  },
  {
    title: 'an inner loop that takes the outer counter back',
    text: 'r0 = 0\nr4 = 0\nouter: r4 += 1\nr5 = *(u8 *)(r1 + 0)\nr5 &= 3\ninner: if r5 == 0 goto over\nr5 -= 1\nr4 -= 1\ngoto inner\nover: if r4 s< 1000 goto outer\nexit',
  },
  {
    title: 'a pointer beyond its memory in the last round',
    code: 'V-OOB-READ',
    text: counting('r4 = 0', 'r5 = *(u8 *)(r1 + 0)\nr1 += 1\nr4 += 1', 'r4 <= 8'),
  },
  {
    title: 'a test at the end, where no round may be right',
    code: 'V-OOB-READ',
    text: counting('r4 = 0', 'r5 = *(u8 *)(r1 + 0)\nr1 += 1\nr3 -= 1', 'r3 != 0'),
  },
  {
    title: 'an index that is used after the loop, where it is one too great',
    code: 'V-OOB-READ',
    text: 'r0 = 0\nloop: r0 += 1\nif r0 < 8 goto loop\nr1 += r0\nr0 = *(u8 *)(r1 + 0)\nexit',
  },
];
