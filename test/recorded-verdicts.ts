// What the verifier says of programs of every kind, each in one line: ok or the code and the slot, and what else is known.

import { assemble } from '../src/bpf/assemble.js';
import { type Contract, checkContract, contractFor } from '../src/bpf/contract.js';
import { lower } from '../src/bpf/lower.js';
import type { Program } from '../src/bpf/program.js';
import { BpfUnpackError, VerifierError } from '../src/errors.js';
import { unsafeTrust } from '../src/unsafe.js';
import { explore, type Proof } from '../src/verifier/explore.js';
import type { RegisterFact } from '../src/verifier/invariants.js';
import { VerifiedProgram } from '../src/verifier/verified.js';
import { verify } from '../src/verifier/verify.js';
import { BUFFER_PROGRAMS } from './buffer-programs.js';
import { memory, PROVEN, REFUSED, upTo } from './loop-programs.js';
import { mutate } from './mutations.js';
import { randomFormat, seeded } from './random-formats.js';
import { randomLoopProgram } from './random-loops.js';
import type { Result } from './recorded.js';
import { type UbpfVector, vectors } from './vectors.js';
import { decodable, type KernelCase, kernelContract, ubpfContract } from './verifier-cases.js';
import { smallPrograms } from './verifier-texts.js';

export interface Judged {
  readonly id: string;
  readonly program: Program;
  readonly contract: Contract;
}

/** The verdicts in lines, and after them how long the walk was for all of them. */
export function* verdicts(
  programs: Iterable<Judged>,
  { facts = false, messages = false, maxInstructions = 1_000 } = {},
): Generator<Result> {
  let [walked, ended] = [0, 0];
  const observer = { step: () => void walked++, proven: () => void ended++ };
  for (const { id, program, contract } of programs) {
    const limits = { maxInstructions, prune: true, observer, facts };
    yield [id, said(() => explore(program, checkContract(contract), limits), messages)];
  }
  yield ['instructions walked', walked];
  yield ['paths that ended where the rest was proven', ended];
}

function said(prove: () => Proof, messages: boolean): string {
  try {
    return textOf(prove());
  } catch (error) {
    if (!(error instanceof VerifierError)) throw error;
    return messages ? `${error.code} ${error.message}` : `${error.code} ${error.insn}`;
  }
}

function textOf({ needsAlignment, loops, facts }: Proof): string {
  const words = ['ok'];
  if (needsAlignment) words.push('aligned');
  words.push(...loops.map(({ head, maxTrips }) => `${head}:${maxTrips ?? 'ends'}`));
  if (facts) words.push(String(facts.reduce((sum, fact) => sum + (fact ? factSize(fact) : 0), 0)));
  return words.join(' ');
}

/** How much facts leave open: what is not known of the bits of numbers, and how far offsets reach. */
function factSize({
  registers,
  access,
}: {
  registers: readonly (RegisterFact | undefined)[];
  access: unknown;
}): number {
  const sizes = registers.map((fact) => {
    if (!fact) return 0;
    if (fact.kind === 'pointer')
      return 1000 + bitsOf(fact.offset.max - fact.offset.min) + fact.memory.base.length;
    return (
      1 +
      bitsOf(fact.unsigned.max - fact.unsigned.min) +
      bitsOf(fact.signed.max - fact.signed.min) +
      ones(~fact.bits.mask)
    );
  });
  return sizes.reduce((a, b) => a + b, access ? 1e6 : 0);
}

const bitsOf = (x: bigint): number => x.toString(2).length;
const ones = (x: bigint): number => BigInt.asUintN(64, x).toString(2).replaceAll('0', '').length;

function* kernelCases(file: string, leaks: boolean, every = 1): Generator<Judged> {
  for (const [i, each] of vectors<KernelCase>(`verifier/${file}.jsonl.gz`).entries()) {
    const program = i % every === 0 ? decodable(each.insns) : undefined;
    if (program) yield { id: each.id, program, contract: kernelContract(each, leaks) };
  }
}

function* ubpfPrograms(every = 1): Generator<Judged> {
  for (const [i, each] of vectors<UbpfVector>('ubpf/vectors.jsonl.gz').entries()) {
    const program = i % every === 0 ? decodable(each.insns) : undefined;
    if (program) yield { id: each.id, program, contract: ubpfContract(each) };
  }
}

function* formats(): Generator<Judged> {
  const random = seeded(4);
  for (let i = 0; i < 40; i++) {
    const format = randomFormat(random);
    const contract = contractFor(format);
    yield { id: `${i}`, program: lower(format), contract };
    const more = contract.args.map((arg, i) =>
      i === 0 && arg?.kind === 'memory' ? { ...arg, bytes: arg.bytes + 1 } : arg,
    );
    yield { id: `${i}, a byte more`, program: lower(format), contract: { ...contract, args: more } };
  }
}

function* loops(): Generator<Judged> {
  for (const { title, text, args = [] } of PROVEN)
    yield { id: title, program: assemble(text), contract: { args } };
  for (const { title, text, args = [memory(8), upTo((1n << 64n) - 1n), upTo(8n)] } of REFUSED)
    yield { id: title, program: assemble(text), contract: { args } };
}

/** Loops that are come to in two ways, of which the second must not be taken for the first. */
export function* twoWays(count: number): Generator<Judged> {
  const random = seeded(9);
  for (let i = 0; i < count; i++) {
    const { text, args } = randomLoopProgram(random);
    const counter = 3 + random(3);
    const change = random(2) ? `r${counter} = ${random(60) - 8}` : `r${counter} += ${random(40) - 4}`;
    const start = `if r2 > ${random(40)} goto entry\n${change}\nentry: r6 = r1`;
    yield { id: `${i}`, program: assemble(text.replace('r6 = r1', start)), contract: { args } };
  }
}

function* randomLoops(): Generator<Judged> {
  const random = seeded(5);
  for (let i = 0; i < 80; i++) {
    const { text, args } = randomLoopProgram(random);
    yield { id: `${i}`, program: assemble(text), contract: { args } };
  }
}

function* buffers(): Generator<Judged> {
  const random = seeded(6);
  for (let i = 0; i < 300; i++) {
    const seed = BUFFER_PROGRAMS[i % BUFFER_PROGRAMS.length]!;
    const program = i < BUFFER_PROGRAMS.length ? seed.program : mutate(seed.program, random);
    if (program) yield { id: `${i}`, program, contract: { args: seed.args } };
  }
}

function* compatible(): Generator<Judged> {
  for (const each of kernelCases('cases', true))
    yield { ...each, contract: { ...each.contract, kernelCompatible: true } };
}

const small = (): Judged[] =>
  smallPrograms().map(({ title, program, contract }) => ({ id: title, program: program(), contract }));

/** Programs near the edge of what is accepted, one way or the other. */
function* mutants(): Generator<Judged> {
  const random = seeded(7);
  const cases = [...kernelCases('cases', false)];
  for (let i = 0; i < 800; i++) {
    const { program: known, contract } = cases[random(cases.length)]!;
    const program = mutate(known, random);
    if (program) yield { id: `${i}`, program, contract: { ...contract, allowPointerLeaks: random(2) === 0 } };
  }
}

/** What verify takes and gives, beside the verdict. */
function* ends(): Generator<Result> {
  const program = assemble('r0 = 0\nr0 = 1\nexit');
  for (const maxInstructions of [0, -1, 1.5, Number.NaN, '3', null, 2, 3])
    yield [
      `a limit of ${maxInstructions}`,
      outcome(() => verify(program, { args: [] }, { maxInstructions } as object)),
    ];
  const limited = { args: [], maxInstructions: 2 };
  yield ['a limit of the contract', outcome(() => verify(program, limited))];
  yield [
    'another limit than that of the contract',
    outcome(() => verify(program, limited, { maxInstructions: 3 })),
  ];
  yield [
    'branches one after the other, more than may wait',
    said(() => explore(branching(), ONE_BYTE, EVERY_PATH), true),
  ];
  yield ['branches of which more wait than may', said(() => explore(waiting(), ONE_BYTE, EVERY_PATH), true)];
  yield ['no program', outcome(() => verify({ instructions: [] } as unknown as Program, { args: [] }))];
  yield ['no contract', outcome(() => verify(program, {} as Contract))];
  yield ['no key', outcome(() => new VerifiedProgram(Symbol('proven'), program, undefined, NO_PROOF))];
  const [proven, trusted] = [verify(program, { args: [] }, { facts: true }), unsafeTrust(program)];
  yield ['what is proven', shown(proven)];
  yield ['what is proven, without facts', shown(verify(program, { args: [] }))];
  yield ['what is trusted', shown(trusted)];
  for (const value of [
    proven,
    trusted,
    { ...proven },
    Object.create(VerifiedProgram.prototype),
    program,
    1,
    null,
    undefined,
  ])
    yield [`${typeof value} is verified`, String(VerifiedProgram.is(value))];
}

const ONE_BYTE: Contract = { args: [{ kind: 'memory', bytes: 1, access: 'read' }] };
const EVERY_PATH = { maxInstructions: 1_000_000, prune: false };
const rounds = (branch: string) =>
  assemble(`r0 = 0\nloop: r2 = *(u8 *)(r1 + 0)\n${branch}\nr0 += 1\nif r0 < 17000 goto loop\nout: exit`);
const branching = () => rounds('if r2 != 1 goto on\nexit\non: r0 += 0');
const waiting = () => rounds('if r2 == 1 goto out');

const NO_PROOF: Proof = { needsAlignment: false, loops: [], facts: undefined };

function outcome(make: () => VerifiedProgram): string {
  try {
    return shown(make());
  } catch (error) {
    return error instanceof BpfUnpackError ? error.code : String(error);
  }
}

const shown = (verified: VerifiedProgram): string => {
  const { contract, needsAlignment, loops, facts } = verified;
  return JSON.stringify([
    contract?.args,
    needsAlignment,
    loops,
    facts?.length,
    ...[verified, loops, facts].map(Object.isFrozen),
  ]);
};

/** Groups of programs, the quickest first. `every`: one program of so many, where there are thousands. */
export const verdictGroups = (every: number): [string, () => Iterable<Result>][] => [
  ['small programs', () => verdicts(small(), { messages: true, maxInstructions: 10_000 })],
  ['small programs, with facts', () => verdicts(small(), { facts: true, maxInstructions: 10_000 })],
  ['cases', () => verdicts(kernelCases('cases', false), { messages: true })],
  ['cases, leaks allowed', () => verdicts(kernelCases('cases', true))],
  ['cases, as Linux has it', () => verdicts(compatible())],
  ['cases, with facts', () => verdicts(kernelCases('cases', true), { facts: true })],
  ['mutants of cases', () => verdicts(mutants())],
  ['buffers', () => verdicts(buffers())],
  ['formats', () => verdicts(formats())],
  ['limits and ends', ends],
  ['loops', () => verdicts(loops(), { facts: true })],
  ['random loops', () => verdicts(randomLoops())],
  ['loops with two ways in', () => verdicts(twoWays(80))],
  ['random programs', () => verdicts(kernelCases('random', false, every))],
  ['programs for uBPF', () => verdicts(ubpfPrograms(every))],
];
