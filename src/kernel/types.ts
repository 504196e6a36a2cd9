// The types of a wrapped program, so that the kernel's verifier checks the program by itself, as a global function of
// its contract's arguments, which may not be null:
//
//   int run(void *ctx)   u64 program(struct r1 *r1, struct r2 *r2, u64 r3 …)   static u64 local1()   …

import type { ArgSpec, Contract } from '../bpf/contract.js';
import type { Program } from '../bpf/program.js';
import { Btf, wordBytes } from '../elf/btf.js';
import type { Code } from './syscall.js';

/** A function's parameters: a register that is not given, before one that is, is a number. */
export function signature(contract: Contract): Contract {
  const count = contract.args.findLastIndex((spec) => spec !== undefined) + 1;
  const args = contract.args.slice(0, count);
  return { ...contract, args: args.map((spec) => spec ?? { kind: 'scalar', min: 0n, max: 0n }) };
}

/**
 * @param before slots of the caller, which the program comes behind
 * @param contract a signature
 */
export function typesOf(whole: Program, before: number, contract: Contract): NonNullable<Code['types']> {
  const btf = new Btf();
  const number = btf.int(8, false);
  const run = btf.func('run', btf.int(4, true), [['ctx', btf.pointer(0)]]);
  const params = contract.args.map((spec, i) => [`r${i + 1}`, paramType(btf, `r${i + 1}`, spec)] as const);
  const program = btf.func('program', number, params);
  contract.args.forEach((spec, i) => {
    if (isAddress(spec)) btf.tagParameter('arg:nonnull', program, i);
  });
  const locals = localFunctions(whole, before).map((slot, i) => [
    slot,
    btf.func(`local${i + 1}`, number, [], 'static'),
  ]);
  return { btf: btf.encode(), functions: wordBytes([0, run, before, program, ...locals.flat()]) };
}

const isAddress = (spec: ArgSpec | undefined) => spec?.kind === 'memory' && spec.bytes > 0;

function paramType(btf: Btf, name: string, spec: ArgSpec | undefined): number {
  if (spec?.kind !== 'memory' || spec.bytes === 0) return btf.int(8, false);
  const bytes = { name: 'bytes', type: btf.array(btf.int(1, false), spec.bytes), bit: 0, bits: 0 };
  return btf.pointer(btf.struct(name, spec.bytes, [bytes]));
}

/** Slots of the functions that a program calls, other than itself, in order. */
function localFunctions(whole: Program, before: number): number[] {
  const slots = whole.instructions.flatMap(({ row }, i) =>
    row.name === 'call.local' ? [whole.slotOf(whole.targetOf(i))] : [],
  );
  return [...new Set(slots)].filter((slot) => slot !== before).sort((a, b) => a - b);
}
