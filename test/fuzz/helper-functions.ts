// Helper functions for random programs: what they give depends on every bit that they get.

import type { Helpers } from '../../src/bpf/helper.js';

const number = { kind: 'scalar' } as const;
const memory = (bytes: number, access: 'read' | 'write' | 'readwrite') =>
  ({ kind: 'memory', bytes, access }) as const;

const mixed = (numbers: Iterable<bigint | number>): bigint => {
  let sum = 0xcbf2_9ce4_8422_2325n;
  for (const each of numbers) sum = BigInt.asUintN(64, (sum ^ BigInt(each)) * 0x100_0000_01b3n);
  return sum;
};

export const HELPERS: Helpers = {
  1: { args: [], call: () => 0xffff_ffff_8000_0000n },
  2: { args: [number, number, number, number, number], call: (...words) => mixed(words as bigint[]) },
  3: {
    args: [memory(11, 'read'), number],
    call: (bytes, x) => mixed([...(bytes as Uint8Array), x as bigint]),
  },
  4: {
    args: [number, memory(8, 'readwrite')],
    call(x, given) {
      const bytes = given as Uint8Array;
      const sum = mixed([...bytes, x as bigint]);
      bytes.forEach((byte, i) => {
        bytes[i] = byte ^ Number((sum >> BigInt(8 * i)) & 0xffn);
      });
      return sum;
    },
  },
  5: {
    args: [memory(13, 'write')],
    returns: { max: 0xffn },
    call(given) {
      for (let i = 0; i < 13; i++) (given as Uint8Array)[i] = 0xa0 + i;
      return 0x80n;
    },
  },
};
