// The prefixes of vector instructions.
//
//            7   6   5   4   3   2 1 0
//   VEX    | 1   1   0   0   0   1 0 1 |  | R |   vvvv    | L | pp |                        map 0F, no W, X or B
//   VEX    | 1   1   0   0   0   1 0 0 |  | R | X | B |  mmmmm   |  | W |  vvvv  | L | pp |
//   EVEX   | 0   1   1   0   0   0 1 0 |  | R | X | B | R' | 0 | mmm |  | W |  vvvv  | 1 | pp |  | z | L L | b | V' | aaa |
//
//   R, X, B, R', V' and vvvv are inverted. R and R' are bits 3 and 4 of reg, V' and vvvv are the second source; X and B are
//   bit 3 of index and base, or bits 4 and 3 of a register in rm. aaa is the mask register and z clears what it leaves out.

import type { ByteBuffer } from './byte-buffer.js';
import type { Form, VectorPrefix } from './forms.js';
import { type Masked, type MaskedMemory, type MaskRegister, Memory, type Register } from './operands.js';

const VEX2 = 0xc5;
const VEX3 = 0xc4;
const EVEX = 0x62;
const MAP_0F = 1;

const bit = (value: number, at: number): number => (value >> at) & 1;
const inverted = (value: number, at: number): number => bit(~value, at);

/** The operands that it tells of. */
interface Prefixed {
  readonly reg: Register | MaskRegister | undefined;
  readonly rm: Register | Memory | undefined;
  readonly vvvv: Register | undefined;
  readonly masked: Masked | MaskedMemory | undefined;
}

export function vectorPrefix(prefix: VectorPrefix, places: Prefixed, out: ByteBuffer): void {
  const { reg, rm, vvvv, masked } = places;
  const { kind, length, implied, map, w } = prefix;
  const first = reg?.number ?? 0;
  const second = vvvv?.number ?? 0;
  const base = rm instanceof Memory ? rm.base.number : (rm?.number ?? 0);
  const high = rm instanceof Memory ? bit(rm.index?.number ?? 0, 3) : bit(base, 4);
  const [notR, notX, notB] = [inverted(first, 3), high ^ 1, inverted(base, 3)];
  const notV = (~second & 15) << 3;
  if (kind === 'EVEX') {
    out.byte(EVEX);
    out.byte((notR << 7) | (notX << 6) | (notB << 5) | (inverted(first, 4) << 4) | map);
    out.byte((w << 7) | notV | (1 << 2) | implied);
    const clears = masked?.others === 'clear' ? 1 : 0;
    out.byte((clears << 7) | (length << 5) | (inverted(second, 4) << 3) | (masked?.mask ?? 0));
  } else if (map === MAP_0F && w === 0 && notX === 1 && notB === 1) {
    out.byte(VEX2);
    out.byte((notR << 7) | notV | (length << 2) | implied);
  } else {
    out.byte(VEX3);
    out.byte((notR << 7) | (notX << 6) | (notB << 5) | map);
    out.byte((w << 7) | notV | (length << 2) | implied);
  }
}

/** What a displacement of one byte counts, in bytes: with EVEX (disp8*N) the memory operand's, otherwise 1. */
export function displacementUnit(form: Form): number {
  if (form.vector?.kind !== 'EVEX') return 1;
  return form.operands.find(({ role }) => role === 'rm' || role === 'm')!.bits / 8;
}
