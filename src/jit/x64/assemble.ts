// Instructions in a row, with labels, and constants behind them. A jump is kept apart until the end: all start short,
// and those that do not reach their label grow, which may push others out of reach, until nothing changes.

import { halvesOf, isZero, signedImmediate } from '../../halves.js';
import { ByteBuffer } from './byte-buffer.js';
import { encode, formFor } from './encode.js';
import { type Condition, type Form, formsOf } from './forms.js';
import { type Operand, register } from './operands.js';

/** A place in the code; made before it is known where. */
export type Label = number;

/** What was meant: a row, its operands (a jump's is the offset of its target), and where its bytes are. */
export interface Emitted {
  readonly form: Form;
  readonly operands: readonly Operand[];
  readonly offset: number;
  readonly length: number;
}

/** A place before the jumps have their lengths: bytes of other instructions, and jumps, that come before it. */
interface Place {
  readonly at: number;
  readonly jumps: number;
}

interface Meant extends Place {
  readonly form: Form;
  readonly operands: readonly Operand[];
  readonly length: number;
}

interface Jump extends Place {
  /** Shortest first; the last one reaches everything. */
  readonly forms: readonly Form[];
  /** What comes before the distance. */
  readonly operands: readonly Operand[];
  readonly label: Label;
  form: Form;
  length: number;
}

// Each round takes a pass over all jumps; what is still growing after so many becomes long at once.
const MAX_ROUNDS = 16;

/** Of what lies behind the code, and of the code itself if there is something: a cache line, so that no constant crosses one. */
export const CONSTANTS_ALIGNMENT = 64;
/** int3. */
export const TRAP = 0xcc;

/** Code that is finished. */
export class Assembly {
  readonly bytes: Uint8Array;
  /** Byte offset of a label that was bound. */
  readonly offsetOf: (label: Label) => number;
  readonly #meant: readonly (Meant | Jump)[];
  readonly #before: Float64Array;

  /** @internal */
  constructor(
    bytes: Uint8Array,
    offsetOf: (label: Label) => number,
    meant: readonly (Meant | Jump)[],
    before: Float64Array,
  ) {
    this.bytes = bytes;
    this.offsetOf = offsetOf;
    this.#meant = meant;
    this.#before = before;
  }

  get emitted(): Emitted[] {
    return this.#meant.map((one): Emitted => {
      const { form, length } = one;
      const operands = 'label' in one ? [...one.operands, this.offsetOf(one.label)] : one.operands;
      return { form, operands, offset: resolve(one, this.#before), length };
    });
  }
}

/** @param before bytes of the first n jumps for each n */
const resolve = ({ at, jumps }: Place, before: Float64Array): number => at + before[jumps]!;

export class Assembler {
  readonly #code = new ByteBuffer();
  readonly #meant: (Meant | Jump)[] = [];
  readonly #jumps: Jump[] = [];
  readonly #labels: (Place | undefined)[] = [];
  /** The first of the constants; bound when everything else is. */
  readonly constants: Label = this.label();
  readonly #pool = new ByteBuffer();

  /** Appends the shortest form of an instruction. */
  emit(mnemonic: string, ...operands: readonly Operand[]): void {
    const form = formFor(mnemonic, operands);
    const at = this.#code.length;
    encode(form, operands, this.#code);
    this.#meant.push({ form, operands, at, jumps: this.#jumps.length, length: this.#code.length - at });
  }

  /** Puts a 64-bit constant into a register in the fewest bytes; changes flags. */
  loadImmediate(number: number, value: bigint): void {
    const halves = halvesOf(value);
    const signed = signedImmediate(halves);
    if (isZero(halves)) this.emit('xor', register(number, 32), register(number, 32));
    else if (halves.high === 0) this.emit('mov', register(number, 32), halves.low >>> 0);
    else if (signed !== undefined) this.emit('mov', register(number), signed);
    else this.emit('mov', register(number), BigInt.asUintN(64, value));
  }

  label(): Label {
    return this.#labels.push(undefined) - 1;
  }

  /** The label names the place of the next instruction. */
  bind(label: Label): void {
    this.#labels[label] = { at: this.#code.length, jumps: this.#jumps.length };
  }

  jump(mnemonic: 'jmp' | 'call' | `j${Condition}`, label: Label): void {
    this.#jump(mnemonic, [], label);
  }

  /** Loads the address of a label. */
  address(number: number, label: Label): void {
    this.#jump('lea', [register(number)], label);
  }

  /** Puts bytes behind the code; returns their distance from `constants`, which starts at a multiple of CONSTANTS_ALIGNMENT. */
  constant(bytes: Uint8Array): number {
    const at = this.#pool.length;
    for (const byte of bytes) this.#pool.byte(byte);
    return at;
  }

  #jump(mnemonic: string, operands: readonly Operand[], label: Label): void {
    const forms = relativeForms(mnemonic);
    const form = forms[0]!;
    const at = this.#code.length;
    const jump: Jump = {
      at,
      jumps: this.#jumps.length,
      forms,
      operands,
      label,
      form,
      length: lengthOf(form),
    };
    this.#jumps.push(jump);
    this.#meant.push(jump);
  }

  finish(): Assembly {
    const before = this.#relax();
    const codeLength = this.#code.length + before.at(-1)!;
    const poolAt =
      this.#pool.length === 0
        ? codeLength
        : Math.ceil(codeLength / CONSTANTS_ALIGNMENT) * CONSTANTS_ALIGNMENT;
    const offsetOf = (label: Label) =>
      label === this.constants ? poolAt : resolve(this.#labels[label]!, before);
    return new Assembly(this.#join(offsetOf, poolAt), offsetOf, this.#meant, before);
  }

  /** Chooses the length of every jump; returns the bytes of the first n jumps for each n. */
  #relax(): Float64Array {
    const before = new Float64Array(this.#jumps.length + 1);
    for (let round = 0, grown = true; grown; round++) {
      grown = false;
      this.#jumps.forEach(({ length }, i) => {
        before[i + 1] = before[i]! + length;
      });
      for (const jump of this.#jumps) {
        if (jump.form === jump.forms.at(-1)) continue;
        const target = this.#labels[jump.label]!;
        const from = jump.at + before[jump.jumps]! + jump.length;
        if (reaches(jump.form, target.at + before[target.jumps]! - from) && round < MAX_ROUNDS) continue;
        jump.form = jump.forms.at(-1)!;
        jump.length = lengthOf(jump.form);
        grown = true;
      }
    }
    return before;
  }

  #join(offsetOf: (label: Label) => number, poolAt: number): Uint8Array {
    const source = this.#code.take();
    if (this.#jumps.length === 0 && this.#pool.length === 0) return source;
    const out = new ByteBuffer();
    let copied = 0;
    for (const { at, form, operands, length, label } of this.#jumps) {
      while (copied < at) out.byte(source[copied++]!);
      encode(form, [...operands, offsetOf(label) - out.length - length], out);
    }
    while (copied < source.length) out.byte(source[copied++]!);
    while (out.length < poolAt) out.byte(TRAP);
    for (const byte of this.#pool.take()) out.byte(byte);
    return out.take();
  }
}

const relative = new Map<string, readonly Form[]>();

/** The rows of a mnemonic that take a distance. */
function relativeForms(mnemonic: string): readonly Form[] {
  const known = relative.get(mnemonic);
  if (known) return known;
  const forms = formsOf(mnemonic).filter(({ distanceBytes }) => distanceBytes !== 0);
  relative.set(mnemonic, forms);
  return forms;
}

const lengthOf = ({ rexW, opcode, modrm, distanceBytes }: Form): number =>
  (rexW ? 1 : 0) + opcode.length + (modrm === undefined ? 0 : 1) + distanceBytes;

function reaches(form: Form, distance: number): boolean {
  const limit = 2 ** (8 * form.distanceBytes - 1);
  return distance >= -limit && distance < limit;
}
