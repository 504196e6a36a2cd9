// Operands at which arithmetic changes its ways: the ends of every width, shift counts, and what lies beside them.

/** Immediates: 32 bits, signed. */
export const IMMEDIATES: readonly number[] = [
  ...[0, 1, -1, 2, 3, 7, 8, -8, 15, 16, -16, 31, 32, 63, 64, -64, 127, 128, -128, -129],
  ...[255, 256, 511, 65535, 2 ** 31 - 1, -(2 ** 31)],
];

/** Registers: 64 bits, unsigned. */
export const VALUES: readonly bigint[] = [
  ...[0n, 1n, 2n, 7n, 31n, 32n, 63n, 64n, 0x7fn, 0x80n, 0xffn, 0x8000n, 0xffffn, 0x7fffffffn, 0x80000000n],
  ...[0xffffffffn, 0x100000000n, 0x8000000000000000n, 0x7fffffffffffffffn, 0xffffffffffffffffn],
  ...[0xffffffff80000000n, 0xffffffff00000000n, 0x80000000ffffffffn],
  ...[0x123456789abcdef0n, 0xfedcba9876543210n],
];
