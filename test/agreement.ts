// Where our verifier and Linux's agree on programs that Linux has decided on, and where they do not.

import { decodeProgram } from '../src/bpf/encode.js';
import { interpret } from '../src/bpf/interpret.js';
import type { Program } from '../src/bpf/program.js';
import { type BpfUnpackError, ExecutionError } from '../src/errors.js';
import { unhex } from './vectors.js';
import { decodable, type KernelCase, kernelArgs, kernelContract, verdict } from './verifier-cases.js';

/** Linux with CAP_BPF only, which also refuses leaks and fears Spectre; and with all capabilities. */
export const MODES = ['strict', 'priv'] as const;
export type Mode = (typeof MODES)[number];

/** A case, and why we refuse it; undefined where we accept it. */
export interface Decision {
  readonly each: KernelCase;
  readonly error: BpfUnpackError | undefined;
}

export interface Counts {
  both: number;
  kernelAlone: number;
  weAlone: number;
  neither: number;
}

/** What Linux lets pass with all capabilities, leaks of addresses, we let pass then as well. */
export function decide(
  cases: readonly KernelCase[],
  mode: Mode,
  maxInstructions: number,
  { kernelCompatible = false } = {},
): Decision[] {
  return cases.map((each) => {
    const contract = { ...kernelContract(each, mode === 'priv'), kernelCompatible };
    return { each, error: verdict(() => decodeProgram(unhex(each.insns)), contract, { maxInstructions }) };
  });
}

/** The counts of each category, and of all. */
export function countByCategory(decisions: readonly Decision[], mode: Mode): Map<string, Counts> {
  const counts = new Map<string, Counts>();
  for (const { each, error } of decisions) {
    const cell = each[mode].accept ? (error ? 'kernelAlone' : 'both') : error ? 'neither' : 'weAlone';
    for (const name of [each.category ?? 'random', 'all']) {
      const count = counts.get(name) ?? { both: 0, kernelAlone: 0, weAlone: 0, neither: 0 };
      counts.set(name, count);
      count[cell]++;
    }
  }
  return counts;
}

export const share = ({ both, kernelAlone }: Counts): number => both / (both + kernelAlone);

/**
 * Whether we accept what is not safe. That a program has a witness of misbehaviour does not make it so where the RFC
 * defines what it does and Linux refuses it (a shift count, a division by zero), nor where it is only slow.
 */
export function isFalseAccept({ each, error }: Decision): boolean {
  if (error) return false;
  if (each.safe === false) return true;
  if (!each.witness) return false;
  const end = replay(each);
  return !(end === 'ends' && (each.witness.event === 'nonterm' || hasDefinedOperand(each)));
}

/** How an accepted program fares on the input that it is said to misbehave on. */
function replay(each: KernelCase): string {
  const args = kernelArgs(each, each.witness!.input);
  const contract = kernelContract(each, true);
  try {
    interpret(decodeProgram(unhex(each.insns)), { args, contract, strict: true, maxInstructions: REPLAYED });
    return 'ends';
  } catch (error) {
    if (error instanceof ExecutionError) return error.code;
    throw error;
  }
}

/** Where a witness of endlessness is one of more than a million steps. */
const REPLAYED = 20_000_000;

/** Whether the instruction that Linux calls bad shifts by an immediate or divides by an immediate zero. */
function hasDefinedOperand(each: KernelCase): boolean {
  const { event, pc } = each.witness!;
  const program = decodable(each.insns);
  return event === 'bad_insn' && program !== undefined && isDefined(program, pc);
}

function isDefined(program: Program, slot: number): boolean {
  const { row, imm } = program.instructions[program.indexAt(slot)]!;
  if (!row.name.endsWith('.imm')) return false;
  return /^(lsh|rsh|arsh)/.test(row.name) || (/^s?(div|mod)/.test(row.name) && imm === 0);
}

/** Reasons with how many have each, most first; numbers do not tell reasons apart. */
export function byReason(reasons: readonly (readonly [id: string, reason: string])[]): string[] {
  const groups = new Map<string, string[]>();
  for (const [id, reason] of reasons) {
    const key = reason.replace(/-?\b(0x[\da-f]+|\d+)\b/g, 'N').replace(/\bR\d+\b/g, 'RN');
    groups.set(key, [...(groups.get(key) ?? []), id]);
  }
  const most = [...groups].sort(([, a], [, b]) => b.length - a.length);
  return most.map(
    ([reason, ids]) =>
      `${String(ids.length).padStart(5)}  ${reason}  (${ids.slice(0, 3).join(', ')}${ids.length > 3 ? ', …' : ''})`,
  );
}
