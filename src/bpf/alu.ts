// What each arithmetic operation and comparison means (RFC 9669, sections 4.1 to 4.3), on unsigned bigints.

const MASK = { 32: 0xffff_ffffn, 64: 0xffff_ffff_ffff_ffffn } as const;

/** dst op operand at a width of 32 or 64 bits; the result is zero-extended. */
export function arithmetic(op: string, bits: number, dst: bigint, operand: bigint): bigint {
  const mask = bits === 32 ? MASK[32] : MASK[64];
  const a = dst & mask;
  const b = operand & mask;
  const count = b & BigInt(bits - 1);
  switch (op) {
    case 'add':
      return (a + b) & mask;
    case 'sub':
      return (a - b) & mask;
    case 'mul':
      return (a * b) & mask;
    case 'div':
      return b === 0n ? 0n : a / b;
    case 'sdiv':
      return b === 0n ? 0n : (BigInt.asIntN(bits, a) / BigInt.asIntN(bits, b)) & mask;
    case 'mod':
      return b === 0n ? a : a % b;
    case 'smod':
      return b === 0n ? a : (BigInt.asIntN(bits, a) % BigInt.asIntN(bits, b)) & mask;
    case 'or':
      return a | b;
    case 'and':
      return a & b;
    case 'xor':
      return a ^ b;
    case 'lsh':
      return (a << count) & mask;
    case 'rsh':
      return a >> count;
    case 'arsh':
      return (BigInt.asIntN(bits, a) >> count) & mask;
    case 'neg':
      return -a & mask;
    case 'mov':
      return b;
    default:
      throw new Error(`no arithmetic operation is called ${op}`);
  }
}

/** Whether a conditional jump is taken. */
export function comparison(op: string, bits: number, dst: bigint, operand: bigint): boolean {
  const a = BigInt.asUintN(bits, dst);
  const b = BigInt.asUintN(bits, operand);
  const signed = (value: bigint) => BigInt.asIntN(bits, value);
  switch (op) {
    case 'jeq':
      return a === b;
    case 'jne':
      return a !== b;
    case 'jgt':
      return a > b;
    case 'jge':
      return a >= b;
    case 'jlt':
      return a < b;
    case 'jle':
      return a <= b;
    case 'jset':
      return (a & b) !== 0n;
    case 'jsgt':
      return signed(a) > signed(b);
    case 'jsge':
      return signed(a) >= signed(b);
    case 'jslt':
      return signed(a) < signed(b);
    case 'jsle':
      return signed(a) <= signed(b);
    default:
      throw new Error(`no comparison is called ${op}`);
  }
}

/** le, be and bswap on a little-endian machine: the low `bits` bits, swapped unless `op` is le. */
export function swapBytes(op: string, bits: number, value: bigint): bigint {
  let rest = BigInt.asUintN(bits, value);
  if (op === 'le') return rest;
  let swapped = 0n;
  for (let done = 0; done < bits; done += 8) {
    swapped = (swapped << 8n) | (rest & 0xffn);
    rest >>= 8n;
  }
  return swapped;
}

/** The low `from` bits of a value, sign-extended to `bits`. */
export function signExtend(from: number, bits: number, value: bigint): bigint {
  return BigInt.asUintN(bits, BigInt.asIntN(from, value));
}

/** What an atomic operation stores; `cmpxchg` is the caller's, who knows r0. */
export function atomicResult(op: string, bits: number, old: bigint, operand: bigint): bigint {
  const name = op.replace('fetch_', '');
  return name === 'xchg' ? BigInt.asUintN(bits, operand) : arithmetic(name, bits, old, operand);
}
