// What an x86-64 instruction works on: registers by number and width, memory, immediates.

export type Bits = 8 | 16 | 32 | 64;
/** Widths of vector registers: xmm, ymm, zmm. */
export type VectorBits = 128 | 256 | 512;

/**
 * What decides, besides the values of immediates, which form an instruction has: a number below 64 for each kind and width of
 * operand, and for registers that encodings tell from others.
 */
const SHAPE = { number: 1, bigint: 2, mask: 3, memory: 4, masked: 12, register: 20, maskedMemory: 48 };
/** 0 for 8 bits, 1 for 16, … */
const widthOf = (bits: Bits | VectorBits): number => 28 - Math.clz32(bits);

export class Register {
  readonly shape: number;

  constructor(
    /**
     * As in the encoding. Up to 64 bits: 0 to 15 are rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 … r15. Wider ones are
     * vectors: 0 to 15, and to 31 in instructions with an EVEX prefix.
     */
    readonly number: number,
    readonly bits: Bits | VectorBits,
  ) {
    // rax and cl have forms of their own; above 15 only EVEX reaches.
    const kind = number > 15 ? 3 : Math.min(number, 2);
    this.shape = SHAPE.register + widthOf(bits) * 4 + kind;
  }
}

/** A mask register, k0 to k7: one bit for each element of a vector. */
export class MaskRegister {
  readonly shape = SHAPE.mask;

  constructor(readonly number: number) {}
}

/** A vector register of which the instruction writes the elements that the mask names; it clears the others, or keeps them. */
export class Masked {
  readonly shape: number;

  constructor(
    readonly register: Register,
    /** k1 to k7. */
    readonly mask: number,
    readonly others: 'clear' | 'keep',
  ) {
    this.shape = SHAPE.masked + widthOf(register.bits);
  }
}

/** `bits` wide memory at base + index * scale + displacement. */
export class Memory {
  readonly shape: number;

  constructor(
    readonly bits: Bits | VectorBits,
    readonly base: Register,
    readonly displacement: number,
    readonly index?: Register,
    readonly scale: 1 | 2 | 4 | 8 = 1,
    kind: number = SHAPE.memory,
  ) {
    this.shape = kind + widthOf(bits);
  }
}

/** Memory of which the instruction writes the elements that the mask names, and touches no others. */
export class MaskedMemory extends Memory {
  readonly others = 'keep';

  constructor(
    { bits, base, displacement, index, scale }: Memory,
    /** k1 to k7. */
    readonly mask: number,
  ) {
    super(bits, base, displacement, index, scale, SHAPE.maskedMemory);
  }
}

/** A bigint is the immediate of a 64-bit move only; every other immediate is a number. */
export type Operand = Register | MaskRegister | Masked | Memory | number | bigint;

/** One number for the shapes of all operands, of which there are at most four. */
export function shapeOf(operands: readonly Operand[]): number {
  let shape = 0;
  for (let i = 0; i < operands.length; i++) {
    const operand = operands[i]!;
    const one =
      typeof operand === 'number' ? SHAPE.number : typeof operand === 'bigint' ? SHAPE.bigint : operand.shape;
    shape = (shape << 6) | one;
  }
  return shape;
}

const ALL = [8, 16, 32, 64].map((bits) =>
  Array.from({ length: 16 }, (_, number) => Object.freeze(new Register(number, bits as Bits))),
);

/** The low `bits` bits of general register `number`; those of 8 bits are al … r15b, never ah to bh. */
export function register(number: number, bits: Bits = 64): Register {
  return ALL[bits === 8 ? 0 : bits === 16 ? 1 : bits === 32 ? 2 : 3]![number]!;
}

const VECTORS = [128, 256, 512].map((bits) =>
  Array.from({ length: 32 }, (_, number) => Object.freeze(new Register(number, bits as VectorBits))),
);

/** Vector register `number` as xmm, ymm or zmm. */
export function vector(number: number, bits: VectorBits): Register {
  return VECTORS[bits === 128 ? 0 : bits === 256 ? 1 : 2]![number]!;
}

/** `bits` wide memory at the address in general register `base`, plus a signed 32-bit displacement. */
export const memory = (bits: Bits | VectorBits, base: number, displacement = 0): Memory =>
  new Memory(bits, register(base), displacement);

/** `bits` wide memory at base + index * scale; any index but rsp. */
export const indexed = (bits: Bits, base: number, index: number, scale: 1 | 2 | 4 | 8 = 1): Memory =>
  new Memory(bits, register(base), 0, register(index), scale);

export const RAX = 0;
export const RCX = 1;
export const RDX = 2;
export const RBX = 3;
export const RSP = 4;
export const RBP = 5;
export const RSI = 6;
export const RDI = 7;
export const R8 = 8;
export const R9 = 9;
export const R10 = 10;
export const R11 = 11;
export const R12 = 12;
export const R13 = 13;
export const R14 = 14;
export const R15 = 15;
