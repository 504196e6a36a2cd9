// Programs of random bytes: whatever they are, there is a verdict, and no more is walked for it than the limit allows.
// FUZZ_SEED and FUZZ_SECONDS make this a longer run, see scripts/fuzz.mjs.

import { expect, it } from 'vitest';
import { checkContract } from '../src/bpf/contract.js';
import { decodeProgram, encodeProgram } from '../src/bpf/encode.js';
import { ROWS } from '../src/bpf/isa.js';
import { type Instruction, instruction, makeProgram } from '../src/bpf/program.js';
import { ProgramError, VerifierError } from '../src/errors.js';
import { explore } from '../src/verifier/explore.js';
import { IMMEDIATES } from './boundary-values.js';
import { pick } from './mutations.js';
import { type Random, randomBytes, seeded } from './random-formats.js';

const PROGRAMS = 20_000;
const SEED = Number(process.env.FUZZ_SEED ?? 3);
const SECONDS = Number(process.env.FUZZ_SECONDS ?? 0);
const LIMIT = 500;
/** Where a loop that was proven as a whole is walked after all, what was walked behind it is walked again, up to the limit each time. */
const MOST_STEPS = 4 * LIMIT;

const contract = checkContract({
  args: [{ kind: 'memory', bytes: 16, access: 'readwrite' }, { kind: 'scalar' }],
  helpers: {
    1: {
      args: [
        { kind: 'memory', bytes: 2, access: 'write' },
        { kind: 'scalar', max: 9n },
      ],
    },
  },
  allowPointerLeaks: true,
});
const RUNNABLE = ROWS.filter(({ kind }) => kind !== 'refused');

/** Anything. */
const noise = (random: Random): Uint8Array =>
  randomBytes(random, 8 * (1 + random(6)) + Number(random(50) === 0));

/** Opcodes and registers that exist, and the other fields often 0. */
function nearly(random: Random): Uint8Array {
  const insns = noise(random);
  for (let at = 0; at + 8 <= insns.length; at += 8) {
    insns[at] = pick(random, ROWS).opcode;
    insns[at + 1] = random(3) | (random(3) << 4);
    if (random(2)) insns.fill(0, at + 2, at + 8);
  }
  return insns;
}

/** Instructions that are legal, in no order that makes sense: registers are set first, so that more of it is walked. */
function legal(random: Random): Uint8Array {
  const count = 1 + random(16);
  const list: Instruction[] = [0, 3, 4].map((dst) =>
    instruction(row('mov64.imm'), { dst, imm: pick(random, IMMEDIATES) }),
  );
  for (let i = 0; i < count; i++) list.push(legalInstruction(random, count - i));
  if (random(20)) list.push(instruction(row('exit'), {}));
  try {
    return encodeProgram(makeProgram(list));
  } catch (error) {
    if (error instanceof ProgramError) return noise(random);
    throw error;
  }
}

const row = (name: string) => ROWS.find((each) => each.name === name)!;

function legalInstruction(random: Random, left: number): Instruction {
  const row = pick(random, RUNNABLE);
  const jump = random(left + 1) - (random(3) === 0 ? random(6) : 0);
  const isAccess = row.size > 0;
  const dst = isAccess && random(2) ? pick(random, [1, 10]) : random(5);
  const src = isAccess && random(2) ? pick(random, [1, 10]) : random(5);
  const off = row.off === 'jump' ? jump : dst === 10 || src === 10 ? -8 * (1 + random(3)) : random(9);
  const imm = row.imm === 'jump' ? jump : row.kind === 'call' ? 1 : pick(random, IMMEDIATES);
  return instruction(row, { dst, src, off, imm });
}

/** 'ok' or the code of the refusal; how much was walked. */
function verdict(insns: Uint8Array): { code: string; steps: number } {
  let steps = 0;
  const observer = { step: () => void steps++ };
  try {
    explore(decodeProgram(insns), contract, { maxInstructions: LIMIT, prune: true, observer });
    return { code: 'ok', steps };
  } catch (error) {
    if (error instanceof ProgramError || error instanceof VerifierError) return { code: error.code, steps };
    throw new Error(`no verdict on ${Buffer.from(insns).toString('hex')}`, { cause: error });
  }
}

it('random bytes end in a verdict, within the limit', () => {
  const random = seeded(SEED);
  const end = Date.now() + SECONDS * 1000;
  const codes: Record<string, number> = {};
  let programs = 0;
  for (; SECONDS > 0 ? Date.now() < end : programs < PROGRAMS; programs++) {
    const insns = pick(random, [noise, nearly, legal, legal, legal])(random);
    const { code, steps } = verdict(insns);
    if (steps > MOST_STEPS) expect.fail(`${steps} steps: ${Buffer.from(insns).toString('hex')}`);
    codes[code] = (codes[code] ?? 0) + 1;
  }
  console.log(`${programs} programs: ${JSON.stringify(codes)}`);
  const decoded = Object.keys(codes).filter((code) => !code.startsWith('P-'));
  const share = decoded.reduce((sum, code) => sum + codes[code]!, 0) / programs;
  expect(share).toBeGreaterThan(0.3);
  expect(codes.ok! / programs).toBeGreaterThan(0.005);
  expect(codes['V-BUDGET']).toBeGreaterThan(0);
});
