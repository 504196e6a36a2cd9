// A decoder's reading of machine code beside what was meant: two texts that must be equal. The meaning comes from
// rows and operands alone, never from the bytes.

import { createRequire } from 'node:module';
import type { Emitted } from '../src/jit/x64/assemble.js';
import type { Form } from '../src/jit/x64/forms.js';
import {
  Masked,
  MaskedMemory,
  MaskRegister,
  Memory,
  type Operand,
  Register,
} from '../src/jit/x64/operands.js';

const iced: typeof import('iced-x86') = createRequire(import.meta.url)('iced-x86');
const { Decoder, DecoderOptions, MemorySizeExt, Mnemonic, OpKind, Register: IcedRegister } = iced;

const LOW = ['A', 'C', 'D', 'B'];
const NAMED = ['SP', 'BP', 'SI', 'DI'];
const HIGH = [8, 9, 10, 11, 12, 13, 14, 15];
const vectors = (letter: string): string[] => Array.from({ length: 32 }, (_, n) => `${letter}MM${n}`);
const NAMES: Readonly<Record<number, readonly string[]>> = {
  8: [...LOW.map((x) => `${x}L`), ...NAMED.map((x) => `${x}L`), ...HIGH.map((n) => `R${n}L`)],
  16: [...LOW.map((x) => `${x}X`), ...NAMED, ...HIGH.map((n) => `R${n}W`)],
  32: [...LOW.map((x) => `E${x}X`), ...NAMED.map((x) => `E${x}`), ...HIGH.map((n) => `R${n}D`)],
  64: [...LOW.map((x) => `R${x}X`), ...NAMED.map((x) => `R${x}`), ...HIGH.map((n) => `R${n}`)],
  128: vectors('X'),
  256: vectors('Y'),
  512: vectors('Z'),
};

const registerText = ({ number, bits }: Register): string => NAMES[bits]![number]!;

/** An operand in memory; size 0 where it is only addressed. */
export function memoryText(
  size: number,
  base: string,
  index: string,
  scale: number,
  displacement: bigint,
): string {
  const scaled = index === '' ? '' : ` + ${index} * ${scale}`;
  return `${size} bytes at ${base}${scaled} + ${BigInt.asIntN(64, displacement)}`;
}

export const maskedText = (register: string, mask: string, clears: boolean): string =>
  `${register}{${mask}}${clears ? '{z}' : ''}`;

function memoryOperand({ bits, base, index, scale, displacement }: Memory, addressOnly: boolean): string {
  const scaled = index ? registerText(index) : '';
  return memoryText(addressOnly ? 0 : bits / 8, registerText(base), scaled, scale, BigInt(displacement));
}

function meantOperand(form: Form, operand: Operand, addressOnly: boolean): string {
  if (operand instanceof Register) return registerText(operand);
  if (operand instanceof MaskRegister) return `K${operand.number}`;
  if (operand instanceof Masked)
    return maskedText(registerText(operand.register), `K${operand.mask}`, operand.others === 'clear');
  if (operand instanceof MaskedMemory)
    return maskedText(memoryOperand(operand, addressOnly), `K${operand.mask}`, false);
  if (operand instanceof Memory) return memoryOperand(operand, addressOnly);
  if (form.distanceBytes > 0) return `to ${operand}`;
  return String(BigInt.asUintN(form.bits, BigInt(operand)));
}

/** What a row with these operands means, and how many bytes it takes. */
export function meant(form: Form, operands: readonly Operand[]): string {
  const texts = operands.map((operand, i) => meantOperand(form, operand, form.operands[i]!.bits === 0));
  return `${form.mnemonic} ${texts.join(', ')} (${lengthOf(form, operands)} bytes)`;
}

/** The length that Intel's manual gives: prefixes, REX, opcode, ModRM, SIB, displacement, immediate. */
export function lengthOf(form: Form, operands: readonly Operand[]): number {
  const memory = operands.find((operand) => operand instanceof Memory);
  const sib = memory && (memory.index || memory.base.number % 8 === 4) ? 1 : 0;
  const { prefixes, opcode, modrm, immediateBytes, distanceBytes } = form;
  const front = form.vector ? vectorPrefixBytes(form, operands) : prefixes.length + rexBytes(form, operands);
  const fixed = front + opcode.length + (modrm === undefined ? 0 : 1);
  const unit = form.vector?.kind === 'EVEX' && memory ? memory.bits / 8 : 1;
  return fixed + sib + (memory ? displacementBytes(memory, unit) : 0) + immediateBytes + distanceBytes;
}

/** VEX takes two bytes only for map 0F without W and high registers, but in ModRM.reg and vvvv. */
function vectorPrefixBytes({ vector, operands: kinds }: Form, operands: readonly Operand[]): number {
  if (vector?.kind === 'EVEX') return 4;
  const extended = operands.some((operand, i) => {
    if (operand instanceof Memory) return operand.base.number >= 8 || (operand.index?.number ?? 0) >= 8;
    return kinds[i]!.role === 'rm' && operand instanceof Register && operand.number >= 8;
  });
  return vector?.map === 1 && vector.w === 0 && !extended ? 2 : 3;
}

function rexBytes(form: Form, operands: readonly Operand[]): number {
  const encoded = operands.flatMap((operand, i): Register[] => {
    if (operand instanceof Memory) return operand.index ? [operand.base, operand.index] : [operand.base];
    return operand instanceof Register && !['a', 'cl'].includes(form.operands[i]!.role) ? [operand] : [];
  });
  return form.rexW || encoded.some(({ number, bits }) => number >= 8 || (bits === 8 && number >= 4)) ? 1 : 0;
}

/** Of a displacement of whole `unit`s one byte counts units. */
function displacementBytes({ base, displacement }: Memory, unit: number): number {
  if (displacement === 0 && base.number % 8 !== 5) return 0;
  const units = displacement / unit;
  return Number.isInteger(units) && units >= -128 && units <= 127 ? 1 : 4;
}

type Decoded = InstanceType<typeof iced.Instruction>;

function decodedOperand(instruction: Decoded, i: number): string {
  const kind = instruction.opKind(i);
  if (kind === OpKind.Register) {
    const register = IcedRegister[instruction.opRegister(i)]!;
    if (i > 0 || instruction.opMask === IcedRegister.None) return register;
    return maskedText(register, IcedRegister[instruction.opMask]!, instruction.zeroingMasking);
  }
  if (kind === OpKind.NearBranch64) return `to ${instruction.nearBranchTarget}`;
  if (kind === OpKind.Memory) {
    const { memoryBase, memoryIndex, memoryIndexScale, memoryDisplacement, memorySize } = instruction;
    const index = memoryIndex === IcedRegister.None ? '' : IcedRegister[memoryIndex]!;
    if (memoryBase === IcedRegister.RIP) return `to ${memoryDisplacement}`;
    const base = IcedRegister[memoryBase]!;
    const size = MemorySizeExt.size(memorySize);
    const text = memoryText(size, base, index, memoryIndexScale, memoryDisplacement);
    if (i > 0 || instruction.opMask === IcedRegister.None) return text;
    return maskedText(text, IcedRegister[instruction.opMask]!, instruction.zeroingMasking);
  }
  return String(instruction.immediate(i));
}

function decoded(instruction: Decoded, form: Form): string {
  const lock = instruction.hasLockPrefix ? 'lock ' : '';
  const operands = Array.from({ length: instruction.opCount }, (_, i) => {
    const text = decodedOperand(instruction, i);
    return /^\d+$/.test(text) ? String(BigInt.asUintN(form.bits, BigInt(text))) : text;
  });
  const mnemonic = Mnemonic[instruction.mnemonic]!.toLowerCase();
  return `${lock}${mnemonic} ${operands.join(', ')} (${instruction.length} bytes)`;
}

/** Every difference between the code and what was meant, in order; nothing where they agree. */
export function differences(bytes: Uint8Array, emitted: readonly Emitted[]): string[] {
  const decoder = new Decoder(64, bytes, DecoderOptions.None);
  decoder.ip = 0n;
  const instruction = new iced.Instruction();
  const found: string[] = [];
  let end = 0;
  for (const { form, operands, offset, length } of emitted) {
    decoder.decodeOut(instruction);
    const expected = `${offset}: ${meant(form, operands)}`;
    const actual = `${instruction.ip}: ${decoded(instruction, form)}`;
    if (expected !== actual || length !== instruction.length) found.push(`meant ${expected}, is ${actual}`);
    end = offset + length;
  }
  if (end !== bytes.length) found.push(`${bytes.length} bytes, of which ${end} were meant`);
  instruction.free();
  decoder.free();
  return found;
}

/** How the decoder's own table writes the encoding of the instruction at the start of `bytes`. */
export function encodingName(bytes: Uint8Array): string {
  const decoder = new Decoder(64, bytes, DecoderOptions.None);
  const instruction = decoder.decode();
  const { opCodeString } = instruction.opCode;
  instruction.free();
  decoder.free();
  return opCodeString;
}
