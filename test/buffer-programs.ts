// Programs that learn the length of a buffer, and the contracts they do it under.

import { assemble } from '../src/bpf/assemble.js';
import type { Contract } from '../src/bpf/contract.js';
import type { Program } from '../src/bpf/program.js';

export const BY_END: Contract = {
  args: [
    { kind: 'buffer', access: 'read', maxBytes: 2000 },
    { kind: 'end', of: 0 },
  ],
};
export const BY_LENGTH: Contract = {
  args: [{ kind: 'buffer', access: 'readwrite' }, { kind: 'length', of: 0 }, { kind: 'scalar' }],
};

/** As a parser of network packets does it: a fixed header, then one whose length is in it. */
export const PACKET = `
  r0 = 0
  r3 = r1
  r3 += 14
  if r3 > r2 goto out
  r4 = *(u8 *)(r1 + 13)
  r4 &= 15
  r4 <<= 2
  r3 += r4
  r5 = r3
  r5 += 4
  if r5 > r2 goto out
  r0 = *(u32 *)(r3 + 0)
out:
  exit`;

/** The eight bytes at an index that is given. */
export const ELEMENT = `
  r0 = 0
  r4 = r3
  r4 += 8
  if r3 >= 1000 goto out
  if r4 > r2 goto out
  r1 += r3
  r0 = *(u64 *)(r1 + 0)
  *(u8 *)(r1 + 7) = 1
out:
  exit`;

/** The sum of all bytes. */
export const SUM = `
  r0 = 0
next:
  if r1 >= r2 goto out
  r3 = *(u8 *)(r1 + 0)
  r0 += r3
  r1 += 1
  goto next
out:
  exit`;

export const BUFFER_PROGRAMS: readonly { readonly program: Program; readonly args: Contract['args'] }[] = [
  { program: assemble(PACKET), args: BY_END.args },
  { program: assemble(ELEMENT), args: BY_LENGTH.args },
  { program: assemble(SUM), args: BY_END.args },
];
