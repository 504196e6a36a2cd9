// What can be said of a program's control flow without values: functions, unreachable instructions, where paths
// meet, and which registers are still read from an instruction on.

import { FIRST_SAVED, FRAME_POINTER, type Row, reads, writes } from '../bpf/isa.js';
import type { Program } from '../bpf/program.js';
import { Rejection } from './report.js';

export interface Cfg {
  /** For each instruction, whether more than one path may lead to it. */
  readonly joins: Uint8Array;
  /** For each instruction, the registers that may be read later, as bits; meaningful where paths meet. */
  readonly live: Uint16Array;
  /** For each instruction, whether one at or after it jumps back to it. */
  readonly heads: Uint8Array;
  /** For each instruction, the first of the function that it belongs to. */
  readonly functions: readonly number[];
}

/** @throws Rejection for ends that are no exit, jumps from one function into another and, unless allowed, unreachable instructions */
export function cfgOf(program: Program, allowsUnreachable: boolean): Cfg {
  const { instructions } = program;
  const functions = functionsOf(program);
  const joins = new Uint8Array(instructions.length);
  const heads = new Uint8Array(instructions.length);
  const arrived = new Uint8Array(instructions.length);
  const seen = new Uint8Array(instructions.length);
  const open = [0];
  arrived[0] = 1;
  const arrive = (index: number) => {
    if (arrived[index]) joins[index] = 1;
    arrived[index] = 1;
  };
  const follow = (from: number, to: number) => {
    checkEdge(program, functions, from, to);
    if (to <= from) heads[to] = 1;
    arrive(to);
    open.push(to);
  };
  for (let index = open.pop(); index !== undefined; index = open.pop()) {
    for (; !seen[index]; index++) {
      seen[index] = 1;
      // Not by `successors`: its arrays take more time than all the rest.
      const { kind, op } = instructions[index]!.row;
      if (kind === 'exit') break;
      if (kind === 'goto' || kind === 'jump') {
        if (kind === 'jump') follow(index, index + 1);
        follow(index, program.targetOf(index));
        break;
      }
      checkEdge(program, functions, index, index + 1);
      arrive(index + 1);
      if (op !== 'local') continue;
      // A function may return on many paths.
      joins[index + 1] = 1;
      open.push(index + 1);
      const target = program.targetOf(index);
      arrive(target);
      open.push(target);
      break;
    }
  }
  const unreachable = seen.indexOf(0);
  if (unreachable >= 0 && !allowsUnreachable)
    throw new Rejection(
      'V-UNREACHABLE',
      'no path leads here, and Linux takes no such code; remove it',
      unreachable,
    );
  const live = joins.includes(1) ? liveRegisters(program) : NONE_LIVE;
  return { joins, live, heads, functions };
}

const NONE_LIVE = new Uint16Array(0);

/** Behind an instruction; code that no path reaches may run off the end. */
export function successors(program: Program, index: number): number[] {
  const { row } = program.instructions[index]!;
  if (row.kind === 'exit') return [];
  if (row.kind === 'goto') return [program.targetOf(index)];
  if (row.kind === 'jump') return [index + 1, program.targetOf(index)];
  return [index + 1];
}

/** The first instruction of the function that each instruction belongs to. */
function functionsOf(program: Program): number[] {
  const { instructions, hasCalls } = program;
  // A typed array of so many takes three times as long to make.
  const functions = new Array<number>(instructions.length).fill(0);
  if (!hasCalls) return functions;
  const entries = new Set<number>();
  for (let index = 0; index < instructions.length; index++)
    if (instructions[index]!.row.op === 'local') entries.add(program.targetOf(index));
  let entry = 0;
  return functions.map((_, index) => (entry = entries.has(index) ? index : entry));
}

function checkEdge(program: Program, functions: readonly number[], from: number, to: number): void {
  if (to >= program.instructions.length)
    throw new Rejection(
      'V-FALL-OFF',
      'the program runs off its end here; its last instruction must be exit or goto',
      from,
    );
  if (functions[from] === functions[to]) return;
  const [code, what] = to === from + 1 ? ['V-FALL-OFF', 'runs'] : ['V-CALL', 'jumps'];
  const where = `the function at ${program.slotOf(functions[from]!)} ${what} into the one at ${program.slotOf(functions[to]!)}`;
  throw new Rejection(code!, `${where}; functions are entered by calls alone`, from);
}

const bit = (register: number) => 1 << register;
const CALL_CLOBBERS = bit(FIRST_SAVED) - 1;
const ALL_ARGUMENTS = CALL_CLOBBERS & ~bit(0);

function usesOf(row: Row, dst: number, src: number): { reads: number; writes: number } {
  if (row.kind === 'exit') return { reads: bit(0), writes: 0 };
  if (row.kind === 'call') return { reads: ALL_ARGUMENTS, writes: CALL_CLOBBERS };
  const r0 = row.op === 'cmpxchg' ? bit(0) : 0;
  return {
    reads: (reads(row.dst) ? bit(dst) : 0) | (reads(row.src) ? bit(src) : 0) | r0,
    writes: (writes(row.dst) ? bit(dst) : 0) | (writes(row.src) ? bit(src) : 0),
  };
}

function liveRegisters(program: Program): Uint16Array {
  const { instructions } = program;
  const live = new Uint16Array(instructions.length);
  const before: number[][] = instructions.map(() => []);
  for (let index = 0; index < instructions.length; index++) {
    for (const next of successors(program, index)) before[next]?.push(index);
  }
  const open = Array.from(instructions, (_, index) => index);
  for (let index = open.pop(); index !== undefined; index = open.pop()) {
    const { row, dst, src } = instructions[index]!;
    const uses = usesOf(row, dst, src);
    const after = successors(program, index).reduce((mask, next) => mask | live[next]!, 0);
    const now = (after & ~uses.writes) | uses.reads;
    if (now === live[index]) continue;
    live[index] = now;
    open.push(...before[index]!);
  }
  return live;
}

/** Forgets what r0 … r9 hold where nobody reads it again. */
export function forgetDead(registers: unknown[], live: number): void {
  for (let r = 0; r < FRAME_POINTER; r++) if (!(live & bit(r))) registers[r] = undefined;
}
