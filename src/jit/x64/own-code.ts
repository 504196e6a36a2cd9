// Machine code that comes of no program: the loops around routines, and what else is ours. It has no contract, so those who call it check.

import { type MachineCode, makeCode } from '../target.js';
import { type Assembler, CONSTANTS_ALIGNMENT } from './assemble.js';

/** Where it has no constants behind it, it may lie at any granule. */
export const ownCode = (asm: Assembler, name: string, alignment = 16): MachineCode =>
  makeCode({ isa: 'x64', bytes: asm.finish().bytes, offsets: [], abi: undefined, alignment, name });

/** With constants, which lie at multiples of their size. */
export const codeWithConstants = (asm: Assembler, name: string): MachineCode =>
  ownCode(asm, name, CONSTANTS_ALIGNMENT);
