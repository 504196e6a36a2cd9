// A program as a function of a larger one, in which a few instructions of ours bring its arguments and keep all of r0:
//
//   r1 = map value …   r0 = max; if r2 > r0 goto leave …   call program   leave: *(result) = r0   exit   program…

import type { ArgSpec, Contract } from '../bpf/contract.js';
import { encodeProgram } from '../bpf/encode.js';
import { row } from '../bpf/isa.js';
import { type Instruction, instruction, makeProgram, type Program, slotsOf } from '../bpf/program.js';
import { MAX_U64 } from '../bytes.js';
import { EngineError } from '../errors.js';

export const WORD_BYTES = 8;
/** The src field of an LD_IMM64 whose immediate is a map's descriptor and an offset in its value. */
const PSEUDO_MAP_VALUE = 2;

/** Descriptors of array maps. */
export interface Maps {
  /** Of each argument; undefined for what is not memory of at least one byte. */
  readonly memory: readonly (number | undefined)[];
  /** A word for each argument, for numbers that differ from run to run; undefined where there are none. */
  readonly numbers: number | undefined;
  readonly result: number;
}

export interface Wrapped {
  readonly whole: Program;
  readonly insns: Uint8Array;
}

/** Neither a map's value nor a function's parameter is memory whose length differs from run to run. */
export function requireFixed({ args }: Contract): void {
  const index = args.findIndex((spec) => spec && spec.kind !== 'memory' && spec.kind !== 'scalar');
  if (index < 0) return;
  const message = `the kernel is given memory of fixed sizes and numbers only, and r${index + 1} is neither`;
  throw new EngineError('E-KERNEL', message);
}

/** The instructions that call a program which comes right behind them. */
export function callerOf(contract: Contract, maps: Maps): readonly Ours[] {
  const args = contract.args.flatMap((spec, i) => bring(i, spec, maps));
  const leave = [
    mapValue(1, maps.result, 0),
    op('stxdw', { dst: 1, src: 0 }),
    op('mov64.imm', { dst: 0 }),
    op('exit'),
  ];
  const call = op('call.local', { imm: slots(leave) });
  const jumpsSet = args.map((each, i) => {
    if (!each.leaves) return each;
    const off = slots([...args.slice(i + 1), call]);
    return { instruction: instruction(each.instruction.row, { ...each.instruction, off }) };
  });
  return [...jumpsSet, call, ...leave];
}

export function wrap(caller: readonly Ours[], program: Program): Wrapped {
  const whole = makeProgram([...caller.map((each) => each.instruction), ...program.instructions]);
  const insns = encodeProgram(whole);
  caller.forEach(({ ofMap }, i) => {
    if (ofMap) insns[whole.slotOf(i) * WORD_BYTES + 1]! |= PSEUDO_MAP_VALUE << 4;
  });
  return { whole, insns };
}

/** An instruction of ours around the program. */
export interface Ours {
  readonly instruction: Instruction;
  /** Whether it is an LD_IMM64 of a map's value. */
  readonly ofMap?: boolean;
  /** Whether it is a jump past the call. */
  readonly leaves?: boolean;
}

function bring(index: number, spec: ArgSpec | undefined, { memory, numbers }: Maps): Ours[] {
  const dst = index + 1;
  const map = memory[index];
  if (map !== undefined) return [mapValue(dst, map, 0)];
  if (spec?.kind !== 'scalar') return [op('mov64.imm', { dst })];
  if (!isVariable(spec)) return [op('lddw', { dst, value: spec.min ?? 0n })];
  const load = [mapValue(dst, numbers!, index * WORD_BYTES), op('ldxdw', { dst, src: dst })];
  return [...load, ...bound('jlt64.reg', dst, spec.min, 0n), ...bound('jgt64.reg', dst, spec.max, MAX_U64)];
}

/** Tells the kernel what the contract says of a number. */
function bound(jump: string, dst: number, limit: bigint | undefined, none: bigint): Ours[] {
  if (limit === undefined || limit === none) return [];
  return [op('lddw', { dst: 0, value: limit }), { ...op(jump, { dst, src: 0 }), leaves: true }];
}

const op = (name: string, operands: Parameters<typeof instruction>[1] = {}): Ours => ({
  instruction: instruction(row(name), operands),
});

/** dst = the address of a map's value plus `offset`. */
const mapValue = (dst: number, map: number, offset: number): Ours => ({
  ...op('lddw', { dst, value: (BigInt(offset) << 32n) | BigInt(map) }),
  ofMap: true,
});

export const slots = (ours: readonly Ours[]): number =>
  ours.reduce((sum, each) => sum + slotsOf(each.instruction.row), 0);

/** Whether an argument is a number that may differ from run to run. */
export const isVariable = (spec: ArgSpec | undefined): boolean =>
  spec?.kind === 'scalar' && (spec.min ?? 0n) !== (spec.max ?? MAX_U64);
