// A decoder's reading of machine code beside what was meant: two texts that must be equal. The meaning comes from
// rows and operands alone, never from the bytes.

import { createRequire } from 'node:module';
import type { Emitted } from '../src/jit/x64/assemble.js';
import type { Form } from '../src/jit/x64/forms.js';
import { Memory, type Operand, Register } from '../src/jit/x64/operands.js';

const iced: typeof import('iced-x86') = createRequire(import.meta.url)('iced-x86');
const { Decoder, DecoderOptions, MemorySizeExt, Mnemonic, OpKind, Register: IcedRegister } = iced;

const LOW = ['A', 'C', 'D', 'B'];
const NAMED = ['SP', 'BP', 'SI', 'DI'];
const HIGH = [8, 9, 10, 11, 12, 13, 14, 15];
const NAMES: Readonly<Record<number, readonly string[]>> = {
  8: [...LOW.map((x) => `${x}L`), ...NAMED.map((x) => `${x}L`), ...HIGH.map((n) => `R${n}L`)],
  16: [...LOW.map((x) => `${x}X`), ...NAMED, ...HIGH.map((n) => `R${n}W`)],
  32: [...LOW.map((x) => `E${x}X`), ...NAMED.map((x) => `E${x}`), ...HIGH.map((n) => `R${n}D`)],
  64: [...LOW.map((x) => `R${x}X`), ...NAMED.map((x) => `R${x}`), ...HIGH.map((n) => `R${n}`)],
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

function meantOperand(form: Form, operand: Operand, addressOnly: boolean): string {
  if (operand instanceof Register) return registerText(operand);
  if (operand instanceof Memory) {
    const { bits, base, index, scale, displacement } = operand;
    const size = addressOnly ? 0 : bits / 8;
    return memoryText(
      size,
      registerText(base),
      index ? registerText(index) : '',
      scale,
      BigInt(displacement),
    );
  }
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
  const encoded = operands.flatMap((operand, i): Register[] => {
    if (operand instanceof Memory) return operand.index ? [operand.base, operand.index] : [operand.base];
    return operand instanceof Register && !['a', 'cl'].includes(form.operands[i]!.role) ? [operand] : [];
  });
  const rex =
    form.rexW || encoded.some(({ number, bits }) => number >= 8 || (bits === 8 && number >= 4)) ? 1 : 0;
  const memory = operands.find((operand) => operand instanceof Memory);
  const sib = memory && (memory.index || memory.base.number % 8 === 4) ? 1 : 0;
  const { prefixes, opcode, modrm, immediateBytes, distanceBytes } = form;
  const fixed = prefixes.length + rex + opcode.length + (modrm === undefined ? 0 : 1);
  return fixed + sib + (memory ? displacementBytes(memory) : 0) + immediateBytes + distanceBytes;
}

function displacementBytes({ base, displacement }: Memory): number {
  if (displacement === 0 && base.number % 8 !== 5) return 0;
  return displacement >= -128 && displacement <= 127 ? 1 : 4;
}

type Decoded = InstanceType<typeof iced.Instruction>;

function decodedOperand(instruction: Decoded, i: number): string {
  const kind = instruction.opKind(i);
  if (kind === OpKind.Register) return IcedRegister[instruction.opRegister(i)]!;
  if (kind === OpKind.NearBranch64) return `to ${instruction.nearBranchTarget}`;
  if (kind === OpKind.Memory) {
    const { memoryBase, memoryIndex, memoryIndexScale, memoryDisplacement, memorySize } = instruction;
    const index = memoryIndex === IcedRegister.None ? '' : IcedRegister[memoryIndex]!;
    const base = IcedRegister[memoryBase]!;
    return memoryText(MemorySizeExt.size(memorySize), base, index, memoryIndexScale, memoryDisplacement);
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
