// One instruction: a row of the table and its operands, as bytes.
//
//   instruction   [66] [F0] [REX] opcode… [ModRM [SIB] [displacement]] [immediate]
//
//            7       4   3   2   1   0         7 6  5   3  2   0         7   6  5   3  2   0
//   REX      | 0 1 0 0 | W | R | X | B |  ModRM |mod|  reg |  rm |    SIB | scale| index| base |
//
//   REX.R, X and B are bit 3 of reg, of index, and of rm, base or an opcode's register. mod: 0 no displacement,
//   1 one byte, 2 four bytes, 3 rm is a register. rm 4 (rsp, r12) means that a SIB byte follows, whose index 4
//   means none; mod 0 with rm 5 (rbp, r13) means something else, so these bases always have a displacement.

import type { ByteBuffer } from './byte-buffer.js';
import { FORMS, type Form, type OperandKind } from './forms.js';
import { type Bits, Memory, type Operand, Register } from './operands.js';

const REX = { present: 0x40, w: 8, r: 4, x: 2, b: 1 };
const MOD = { none: 0, byte: 1, long: 2, register: 3 };
const SIB_FOLLOWS = 4;
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

function accepts({ role, bits }: OperandKind, operand: Operand, form: Form): boolean {
  switch (role) {
    case 'r':
    case 'o':
      return operand instanceof Register && operand.bits === bits;
    case 'a':
      return operand instanceof Register && operand.bits === bits && operand.number === 0;
    case 'cl':
      return operand instanceof Register && operand.bits === 8 && operand.number === 1;
    case 'rm':
      return (operand instanceof Register || operand instanceof Memory) && operand.bits === bits;
    case 'm':
      return operand instanceof Memory && (bits === 0 || operand.bits === bits);
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
      return false;
  }
}

/** Whether a number is one of `bits` bits, signed or unsigned; 64-bit operations take what JavaScript can say. */
function fits(value: number, bits: Bits): boolean {
  return bits === 64 ? Number.isSafeInteger(value) : value >= -(2 ** (bits - 1)) && value < 2 ** bits;
}

/** A number of `bits` bits as a signed one. */
function wrap(value: number, bits: Bits): number {
  return bits === 64 ? value : (value << (32 - bits)) >> (32 - bits);
}

const isSigned = (value: number, bits: number): boolean =>
  value >= -(2 ** (bits - 1)) && value < 2 ** (bits - 1);

/** Appends an instruction; for a jump the distance is counted from the instruction's end. */
export function encode(form: Form, operands: readonly Operand[], out: ByteBuffer): void {
  let reg: Register | undefined;
  let rm: Register | Memory | undefined;
  let inOpcode: Register | undefined;
  let immediate: number | bigint = 0;
  for (let i = 0; i < operands.length; i++) {
    const operand = operands[i]!;
    const { role } = form.operands[i]!;
    if (role === 'r') reg = operand as Register;
    else if (role === 'rm' || role === 'm') rm = operand as Register | Memory;
    else if (role === 'o') inOpcode = operand as Register;
    else if (typeof operand === 'number' || typeof operand === 'bigint') immediate = operand;
  }
  for (const prefix of form.prefixes) out.byte(prefix);
  const rex = rexOf(form, reg, rm ?? inOpcode);
  if (rex !== 0) out.byte(rex);
  for (const byte of form.opcode) out.byte(inOpcode ? byte | (inOpcode.number & 7) : byte);
  if (rm) modrm(typeof form.modrm === 'number' ? form.modrm : reg!.number, rm, out);
  out.little(immediate, form.immediateBytes || form.distanceBytes);
}

/** The REX prefix, or 0 where none is needed: a high register, 64 bits, or one of spl, bpl, sil and dil. */
function rexOf(form: Form, reg: Register | undefined, rm: Register | Memory | undefined): number {
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
const isUniformByte = (operand: Register | Memory | undefined): boolean =>
  operand instanceof Register && operand.bits === 8 && operand.number >= 4 && operand.number < 8;

function modrm(reg: number, rm: Register | Memory, out: ByteBuffer): void {
  const middle = (reg & 7) << 3;
  if (rm instanceof Register) {
    out.byte((MOD.register << 6) | middle | (rm.number & 7));
    return;
  }
  const { base, index, scale, displacement } = rm;
  const low = base.number & 7;
  const none = displacement === 0 && low !== NEEDS_DISPLACEMENT;
  const mod = none ? MOD.none : isSigned(displacement, 8) ? MOD.byte : MOD.long;
  if (index || low === SIB_FOLLOWS) {
    out.byte((mod << 6) | middle | SIB_FOLLOWS);
    out.byte((Math.log2(scale) << 6) | ((index ? index.number & 7 : NO_INDEX) << 3) | low);
  } else {
    out.byte((mod << 6) | middle | low);
  }
  if (mod === MOD.byte) out.byte(displacement & 0xff);
  else if (mod === MOD.long) out.little(displacement, 4);
}

function describe(operand: Operand): string {
  if (operand instanceof Register) return `register ${operand.number} of ${operand.bits} bits`;
  return operand instanceof Memory ? `memory of ${operand.bits} bits` : String(operand);
}
