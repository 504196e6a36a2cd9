// Random programs for the verifier: mutants of known ones, and inputs to run them on.

import { type GivenArg, isDerived } from '../src/bpf/arguments.js';
import type { ArgSpec, Contract } from '../src/bpf/contract.js';
import { FRAME_POINTER, ROWS } from '../src/bpf/isa.js';
import { type Instruction, instruction, makeProgram, type Program } from '../src/bpf/program.js';
import { MAX_U64 } from '../src/bytes.js';
import { IMMEDIATES } from './boundary-values.js';
import type { Random } from './random-formats.js';

const RUNNABLE = ROWS.filter((row) => row.kind !== 'refused' && row.op !== 'helper');

export const pick = <T>(random: Random, from: readonly T[]): T => from[random(from.length)]!;

/** A program that differs in one to three places; undefined where that makes it no program. */
export function mutate(program: Program, random: Random): Program | undefined {
  const instructions = [...program.instructions];
  for (let left = 1 + random(3); left > 0; left--) change(instructions, random);
  try {
    return makeProgram(instructions);
  } catch {
    return undefined;
  }
}

function change(instructions: Instruction[], random: Random): void {
  const at = random(instructions.length);
  const old = instructions[at];
  if (!old) return;
  const operands = { dst: old.dst, src: old.src, off: old.off, imm: old.imm };
  switch (random(9)) {
    case 0:
      instructions.splice(at, 1);
      return;
    case 1:
      instructions.splice(random(instructions.length), 0, old);
      return;
    case 2:
      instructions[at] = instruction(pick(random, RUNNABLE), operands);
      return;
    case 3: {
      const alike = RUNNABLE.filter((row) => row.kind === old.row.kind && row.source === old.row.source);
      instructions[at] = instruction(pick(random, alike), operands);
      return;
    }
    case 4:
      instructions[at] = instruction(old.row, { ...operands, dst: random(FRAME_POINTER) });
      return;
    case 5:
      instructions[at] = instruction(old.row, { ...operands, src: random(FRAME_POINTER + 1) });
      return;
    case 6:
      instructions[at] = instruction(old.row, {
        ...operands,
        off: old.off + pick(random, [-8, -4, -2, -1, 1, 2, 4, 8]),
      });
      return;
    case 7:
      instructions[at] = instruction(old.row, { ...operands, imm: (old.imm + pick(random, [-1, 1])) | 0 });
      return;
    default:
      instructions[at] = instruction(old.row, { ...operands, imm: pick(random, IMMEDIATES) });
  }
}

/** Arguments that meet a contract, of the kind that finds the ends of ranges. */
export function inputFor(contract: Contract, random: Random): GivenArg[] {
  return contract.args.map((arg) => arg && argumentFor(arg, random));
}

function argumentFor(arg: ArgSpec, random: Random): GivenArg {
  if (isDerived(arg)) return undefined;
  if (arg.kind === 'scalar') {
    const { min = 0n, max = MAX_U64 } = arg;
    const near = BigInt.asUintN(64, BigInt(pick(random, IMMEDIATES)) << BigInt(random(3) * 16));
    return near < min ? min : near > max ? max : near;
  }
  const bytes = new Uint8Array(arg.kind === 'memory' ? arg.bytes : random(90));
  const style = random(3);
  if (style === 0) return bytes;
  for (let i = 0; i < bytes.length; i++) bytes[i] = style === 1 ? random(256) : pick(random, IMMEDIATES);
  return bytes;
}
