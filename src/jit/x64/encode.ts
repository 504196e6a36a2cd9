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
import { FORMS, type Form, type OperandKind } from './forms.js';
import {
  type Bits,
  Masked,
  MaskedMemory,
  MaskRegister,
  Memory,
  type Operand,
  Register,
  type VectorBits,
} from './operands.js';
import { displacementUnit, vectorPrefix } from './vector-prefix.js';

const REX = { present: 0x40, w: 8, r: 4, x: 2, b: 1 };
const MOD = { none: 0, byte: 1, long: 2, register: 3 };
const SIB_FOLLOWS = 4;
const RELATIVE = 5;
const NO_INDEX = 4;
const NEEDS_DISPLACEMENT = 5;

const byMnemonic = new Map<string, Form[]>();
for (const form of FORMS) {
  const forms = byMnemonic.get(form.mnemonic);
  if (forms) forms.push(form);
  else byMnemonic.set(form.mnemonic, [form]);
}

/** The rows of a mnemonic, in the order of preference. */
export function formsOf(mnemonic: string): readonly Form[] {
  return byMnemonic.get(mnemonic) ?? [];
}

/** The first row of that mnemonic that takes these operands; asking for one that is not in the table is our mistake. */
export function formFor(mnemonic: string, operands: readonly Operand[]): Form {
  for (const form of formsOf(mnemonic)) if (takes(form, operands)) return form;
  throw new Error(`no form of ${mnemonic} takes ${operands.map(describe).join(', ') || 'no operands'}`);
}

/** Whether the operands are what a row asks for, in number, kind and width. */
export function takes(form: Form, operands: readonly Operand[]): boolean {
  if (form.operands.length !== operands.length || form.distanceBytes !== 0) return false;
  for (let i = 0; i < operands.length; i++) if (!accepts(form.operands[i]!, operands[i]!, form)) return false;
  return true;
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
  return bits >= 64 ? Number.isSafeInteger(value) : value >= -(2 ** (bits - 1)) && value < 2 ** bits;
}

/** A number of `bits` bits as a signed one. */
function wrap(value: number, bits: Bits | VectorBits): number {
  return bits >= 64 ? value : (value << (32 - bits)) >> (32 - bits);
}

const isSigned = (value: number, bits: number): boolean =>
  value >= -(2 ** (bits - 1)) && value < 2 ** (bits - 1);

/** What stands where in the encoding. */
export interface Places {
  reg?: Register | MaskRegister;
  rm?: Register | Memory;
  vvvv?: Register;
  masked?: Masked | MaskedMemory;
  inOpcode?: Register;
  immediate: number | bigint;
}

function placesOf(form: Form, operands: readonly Operand[]): Places {
  const places: Places = { immediate: 0 };
  for (let i = 0; i < operands.length; i++) {
    const operand = operands[i]!;
    const { role } = form.operands[i]!;
    if (role === 'r' || role === 'k') {
      places.reg = operand instanceof Masked ? operand.register : (operand as Register | MaskRegister);
      if (operand instanceof Masked) places.masked = operand;
    } else if (role === 'v') places.vvvv = operand as Register;
    else if (role === 'rm' || role === 'm') places.rm = operand as Register | Memory;
    else if (role === 'o') places.inOpcode = operand as Register;
    else if (typeof operand === 'number' || typeof operand === 'bigint') places.immediate = operand;
  }
  if (places.rm instanceof MaskedMemory) places.masked = places.rm;
  return places;
}

/** Appends an instruction; for a jump, or memory relative to it, the distance is counted from the instruction's end. */
export function encode(form: Form, operands: readonly Operand[], out: ByteBuffer): void {
  const places = placesOf(form, operands);
  const { reg, rm, inOpcode } = places;
  if (form.vector) {
    vectorPrefix(form.vector, places, out);
  } else {
    for (const prefix of form.prefixes) out.byte(prefix);
    const rex = rexOf(form, reg, rm ?? inOpcode);
    if (rex !== 0) out.byte(rex);
  }
  for (const byte of form.opcode) out.byte(inOpcode ? byte | (inOpcode.number & 7) : byte);
  if (rm) modrm(typeof form.modrm === 'number' ? form.modrm : reg!.number, rm, displacementUnit(form), out);
  else if (form.modrm === 'r') out.byte((MOD.none << 6) | ((reg!.number & 7) << 3) | RELATIVE);
  out.little(places.immediate, form.immediateBytes || form.distanceBytes);
}

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
  const isShort = Number.isInteger(short) && isSigned(short, 8);
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
