// One instruction: a row of the table and its operands, as bytes.
//
//   instruction   [66] [F0] [REX] opcode… [ModRM [SIB] [displacement]] [immediate]
//
//            7       4   3   2   1   0         7 6  5   3  2   0         7   6  5   3  2   0
//   REX      | 0 1 0 0 | W | R | X | B |  ModRM |mod|  reg |  rm |    SIB | scale| index| base |
//
//   REX.R, X and B are bit 3 of reg, of index, and of rm, base or an opcode's register. mod: 0 no displacement,
//   1 one byte, 2 four bytes, 3 rm is a register. rm 4 (rsp, r12) means that a SIB byte follows, whose index 4
//   means none; mod 0 with rm 5 (rbp, r13) means the end of the instruction plus four bytes, so these bases always
//   have a displacement.
//
// Vector instructions have one of these in place of prefixes, REX and the first bytes of the opcode (vector-prefix.ts).

import type { ByteBuffer } from './byte-buffer.js';
import { type Form, formsOf, type OperandKind } from './forms.js';
import {
  type Bits,
  Masked,
  MaskedMemory,
  MaskRegister,
  Memory,
  type Operand,
  Register,
  shapeOf,
  type VectorBits,
} from './operands.js';
import { displacementUnit, vectorPrefix } from './vector-prefix.js';

const REX = { present: 0x40, w: 8, r: 4, x: 2, b: 1 };
const MOD = { none: 0, byte: 1, long: 2, register: 3 };
const SIB_FOLLOWS = 4;
const RELATIVE = 5;
const NO_INDEX = 4;
const NEEDS_DISPLACEMENT = 5;

/** For each mnemonic and the shapes of the operands, the rows that take them, if their immediate fits. */
const candidates = new Map<string, Map<number, readonly Form[]>>();

function candidatesFor(mnemonic: string, operands: readonly Operand[]): readonly Form[] {
  let ofMnemonic = candidates.get(mnemonic);
  if (!ofMnemonic) candidates.set(mnemonic, (ofMnemonic = new Map()));
  const shape = shapeOf(operands);
  let forms = ofMnemonic.get(shape);
  if (!forms) {
    forms = formsOf(mnemonic).filter((form) => mayTake(form, operands));
    ofMnemonic.set(shape, forms);
  }
  return forms;
}

/** The first row of that mnemonic that takes these operands; asking for one that is not in the table is our mistake. */
export function formFor(mnemonic: string, operands: readonly Operand[]): Form {
  for (const form of candidatesFor(mnemonic, operands)) if (fitsImmediate(form, operands)) return form;
  throw new Error(`no form of ${mnemonic} takes ${operands.map(describe).join(', ') || 'no operands'}`);
}

/** Whether the operands are what a row asks for, in number, kind and width. */
export const takes = (form: Form, operands: readonly Operand[]): boolean =>
  mayTake(form, operands) && fitsImmediate(form, operands);

function mayTake(form: Form, operands: readonly Operand[]): boolean {
  if (form.operands.length !== operands.length || form.distanceBytes !== 0) return false;
  return operands.every((operand, i) => {
    const kind = form.operands[i]!;
    if (i !== form.places.immediate) return accepts(kind, operand, form);
    return typeof operand === (kind.role === 'imm' && kind.bits === 64 ? 'bigint' : 'number');
  });
}

function fitsImmediate(form: Form, operands: readonly Operand[]): boolean {
  const { immediate } = form.places;
  return immediate < 0 || accepts(form.operands[immediate]!, operands[immediate]!, form);
}

function accepts({ role, bits, maskable }: OperandKind, operand: Operand, form: Form): boolean {
  switch (role) {
    case 'r':
      if (operand instanceof Masked) return maskable && operand.register.bits === bits;
      return isRegister(operand, bits, form);
    case 'o':
    case 'v':
      return isRegister(operand, bits, form);
    case 'k':
      return operand instanceof MaskRegister;
    case 'a':
      return operand instanceof Register && operand.bits === bits && operand.number === 0;
    case 'cl':
      return operand instanceof Register && operand.bits === 8 && operand.number === 1;
    case 'rm':
      return isMemory(operand, bits, maskable) || isRegister(operand, bits, form);
    case 'm':
      return isMemory(operand, bits, maskable);
    case '1':
      return operand === 1;
    case 'uimm':
      return typeof operand === 'number' && operand >= 0 && operand <= 0xff;
    case 'imm':
      if (bits === 64) return typeof operand === 'bigint';
      return typeof operand === 'number' && fits(operand, form.bits);
    case 'simm':
      return (
        typeof operand === 'number' && fits(operand, form.bits) && isSigned(wrap(operand, form.bits), bits)
      );
    case 'rel':
    case 'rip':
      return false;
  }
}

/** Memory of `bits` bits, or any that is only addressed if these are 0. */
function isMemory(operand: Operand, bits: number, maskable: boolean): boolean {
  if (!(operand instanceof Memory) || (bits !== 0 && operand.bits !== bits)) return false;
  return maskable || !(operand instanceof MaskedMemory);
}

/** Vector registers above 15 need the fifth bit that only EVEX has. */
function isRegister(operand: Operand, bits: number, form: Form): boolean {
  return (
    operand instanceof Register &&
    operand.bits === bits &&
    (operand.number < 16 || form.vector?.kind === 'EVEX')
  );
}

/** Whether a number is one of `bits` bits, signed or unsigned; 64-bit operations take what JavaScript can say. */
function fits(value: number, bits: Bits | VectorBits): boolean {
  if (bits >= 64) return Number.isSafeInteger(value);
  const top = value << (32 - bits);
  return top >> (32 - bits) === value || top >>> (32 - bits) === value;
}

/** A number of `bits` bits as a signed one. */
function wrap(value: number, bits: Bits | VectorBits): number {
  return bits >= 64 ? value : (value << (32 - bits)) >> (32 - bits);
}

/** Whether a number is a signed one of `bits` bits, at most 32. */
const isSigned = (value: number, bits: number): boolean => (value << (32 - bits)) >> (32 - bits) === value;

/** Appends an instruction; for a jump, or memory relative to it, the distance is counted from the instruction's end. */
export function encode(form: Form, operands: readonly Operand[], out: ByteBuffer): void {
  const { places, modrm: digit } = form;
  const first = at(operands, places.reg);
  const rm = at(operands, places.rm) as Register | Memory | undefined;
  const masked = first instanceof Masked ? first : rm instanceof MaskedMemory ? rm : undefined;
  const reg = (first instanceof Masked ? first.register : first) as Register | MaskRegister | undefined;
  const inOpcode = at(operands, places.opcode) as Register | undefined;
  if (form.vector) {
    const vvvv = at(operands, places.vvvv) as Register | undefined;
    vectorPrefix(form.vector, { reg, rm, vvvv, masked }, out);
  } else {
    for (const prefix of form.prefixes) out.byte(prefix);
    const rex = rexOf(form, reg, rm ?? inOpcode);
    if (rex !== 0) out.byte(rex);
  }
  const low = inOpcode ? inOpcode.number & 7 : 0;
  for (const byte of form.opcode) out.byte(byte | low);
  if (rm) modrm(typeof digit === 'number' ? digit : reg!.number, rm, displacementUnit(form), out);
  else if (digit === 'r') out.byte((MOD.none << 6) | ((reg!.number & 7) << 3) | RELATIVE);
  const immediate = form.distanceBytes > 0 ? operands.length - 1 : places.immediate;
  if (immediate >= 0)
    out.little(operands[immediate] as number | bigint, form.immediateBytes || form.distanceBytes);
}

const at = (operands: readonly Operand[], place: number): Operand | undefined =>
  place < 0 ? undefined : operands[place];

/** The REX prefix, or 0 where none is needed: a high register, 64 bits, or one of spl, bpl, sil and dil. */
function rexOf(
  form: Form,
  reg: Register | MaskRegister | undefined,
  rm: Register | Memory | undefined,
): number {
  let rex = form.rexW ? REX.w : 0;
  let needed = rex !== 0 || isUniformByte(reg) || isUniformByte(rm);
  if (reg && reg.number >= 8) rex |= REX.r;
  const base = rm instanceof Memory ? rm.base : rm;
  if (base && base.number >= 8) rex |= REX.b;
  if (rm instanceof Memory && rm.index && rm.index.number >= 8) rex |= REX.x;
  needed ||= rex !== 0;
  return needed ? REX.present | rex : 0;
}

/** Without REX these four numbers mean ah, ch, dh and bh. */
const isUniformByte = (operand: Register | MaskRegister | Memory | undefined): boolean =>
  operand instanceof Register && operand.bits === 8 && operand.number >= 4 && operand.number < 8;

/** `unit`: a displacement of one byte counts these bytes. */
function modrm(reg: number, rm: Register | Memory, unit: number, out: ByteBuffer): void {
  const middle = (reg & 7) << 3;
  if (rm instanceof Register) {
    out.byte((MOD.register << 6) | middle | (rm.number & 7));
    return;
  }
  const { base, index, scale, displacement } = rm;
  const low = base.number & 7;
  const none = displacement === 0 && low !== NEEDS_DISPLACEMENT;
  const short = displacement / unit;
  const isShort = isSigned(short, 8);
  const mod = none ? MOD.none : isShort ? MOD.byte : MOD.long;
  if (index || low === SIB_FOLLOWS) {
    out.byte((mod << 6) | middle | SIB_FOLLOWS);
    out.byte((Math.log2(scale) << 6) | ((index ? index.number & 7 : NO_INDEX) << 3) | low);
  } else {
    out.byte((mod << 6) | middle | low);
  }
  if (mod === MOD.byte) out.byte(short & 0xff);
  else if (mod === MOD.long) out.little(displacement, 4);
}

function describe(operand: Operand): string {
  if (operand instanceof Register) return `register ${operand.number} of ${operand.bits} bits`;
  if (operand instanceof MaskRegister) return `k${operand.number}`;
  if (operand instanceof Masked) return `${describe(operand.register)} under k${operand.mask}`;
  return operand instanceof Memory ? `memory of ${operand.bits} bits` : String(operand);
}
