// Our verdicts beside those of Linux 6.18's verifier. Prints what they have in common, see scripts/agreement.mjs.

import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { decodeProgram } from '../src/bpf/encode.js';
import { kernelVerdict } from '../src/kernel/verdict.js';
import {
  byReason,
  type Counts,
  countByCategory,
  type Decision,
  decide,
  isFalseAccept,
  MODES,
  type Mode,
  share,
} from './agreement.js';
import { kernelRuns } from './kernel-available.js';
import { type UbpfVector, unhex, vectors } from './vectors.js';
import { decodable, type KernelCase, kernelContract, ubpfContract, verdict } from './verifier-cases.js';

const LIVE = process.env.AGREEMENT_LIVE === '1';
const MAX_INSTRUCTIONS = Number(process.env.AGREEMENT_MAX_INSTRUCTIONS ?? 50_000);

const lines: string[] = [];
afterAll(() => console.log(lines.join('\n')));

/** Of the programs that Linux accepts, the share that we do, at least; and how many these were, which may only rise. */
const FILES = [
  ['cases', { strict: [0.99, 114], priv: [0.97, 164] }],
  ['random', { strict: [0.97, 644], priv: [0.97, 1096] }],
] as const;

describe.each(FILES)('%s', (file, floors) => {
  const cases: KernelCase[] = vectors(`verifier/${file}.jsonl.gz`);

  it.each(MODES)('%s: nothing unsafe is accepted, and nearly all that Linux accepts', (mode) => {
    const decisions = decide(cases, mode, MAX_INSTRUCTIONS);
    const counts = countByCategory(decisions, mode);
    const falseAccepts = decisions.filter(isFalseAccept).map(({ each }) => each.id);
    lines.push(...matrix(`${file}.jsonl, ${mode}`, counts), `false accepts: ${falseAccepts.length}`);
    lines.push(...disagreements(decisions, mode));
    expect(falseAccepts).toEqual([]);
    const all = counts.get('all')!;
    expect(share(all)).toBeGreaterThanOrEqual(floors[mode][0]);
    expect(all.both).toBeGreaterThanOrEqual(floors[mode][1]);
    const accepted = decisions.filter(({ error }) => !error).map(({ each }) => each);
    requireLinuxRules(accepted, mode, all.both);
  });
});

/** Linux's own rules, where they are asked for, refuse nothing that Linux accepts, and all that it calls bad. */
function requireLinuxRules(accepted: readonly KernelCase[], mode: Mode, both: number): void {
  const decisions = decide(accepted, mode, MAX_INSTRUCTIONS, { kernelCompatible: true });
  const counts = countByCategory(decisions, mode).get('all')!;
  lines.push(`with kernelCompatible, we alone accept ${counts.weAlone}`);
  expect(counts.both).toBe(both);
  const bad = decisions.filter(({ each, error }) => !error && each.witness?.event === 'bad_insn');
  expect(bad.map(({ each }) => each.id)).toEqual([]);
}

it('programs made for uBPF verify, all of them', () => {
  const count: Record<string, number> = {};
  for (const each of vectors<UbpfVector>('ubpf/vectors.jsonl.gz')) {
    const code = verdict(() => decodeProgram(unhex(each.insns)), ubpfContract(each))?.code ?? 'ok';
    count[code] = (count[code] ?? 0) + 1;
  }
  lines.push(`\nuBPF's vectors: ${JSON.stringify(count)}`);
  expect(count).toEqual({ ok: 3000 });
});

const live = LIVE ? describe.skipIf(!kernelRuns) : undefined;
live?.('the kernel of this machine, asked again,', () => {
  const mode: Mode = hasAllCapabilities() ? 'priv' : 'strict';

  it.each(['cases', 'random'])('decides %s as the recorded one', (file) => {
    const different: [string, string][] = [];
    let asked = 0;
    for (const each of vectors<KernelCase>(`verifier/${file}.jsonl.gz`)) {
      const program = decodable(each.insns);
      if (!program) continue;
      asked++;
      const verdict = kernelVerdict(program, kernelContract(each, mode === 'priv'));
      if (verdict.accepted === each[mode].accept) continue;
      different.push([each.id, verdict.accepted ? 'now accepted' : `now ${verdict.error.message}`]);
    }
    lines.push(
      `\n${file}.jsonl, ${mode}, asked again: ${asked} programs, other verdicts:`,
      ...byReason(different),
    );
    expect(asked - different.length).toBeGreaterThan(asked * 0.95);
  });
});

/** Whether CAP_PERFMON, which lets programs leak addresses, is among them. */
function hasAllCapabilities(): boolean {
  const [, effective] = /^CapEff:\s*([\da-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))!;
  return ((BigInt(`0x${effective}`) >> 38n) & 1n) === 1n;
}

function matrix(title: string, counts: ReadonlyMap<string, Counts>): string[] {
  const row = (name: string, ...cells: (string | number)[]) =>
    name.padEnd(24) + cells.map((cell) => String(cell).padStart(12)).join('');
  return [
    '',
    row(title, 'both accept', 'Linux alone', 'we alone', 'neither', 'share'),
    ...[...counts]
      .sort(([a], [b]) => Number(a === 'all') - Number(b === 'all'))
      .map(([name, { both, kernelAlone, weAlone, neither }]) => {
        const accepted = both + kernelAlone;
        const percent = accepted > 0 ? `${((100 * both) / accepted).toFixed(1)} %` : '-';
        return row(name, both, kernelAlone, weAlone, neither, percent);
      }),
  ];
}

function disagreements(decisions: readonly Decision[], mode: Mode): string[] {
  const refused = decisions.filter(({ each, error }) => error && each[mode].accept);
  const alone = decisions.filter(({ each, error }) => !error && !each[mode].accept);
  return [
    'accepted by Linux, refused here:',
    ...refused.map(({ each, error }) => `       ${each.id}: ${error!.message} [${error!.code}]`),
    'accepted here, refused by Linux because of:',
    ...byReason(alone.map(({ each }) => [each.id, reasonOf(each, mode)] as const)),
  ];
}

const reasonOf = (each: KernelCase, mode: Mode): string =>
  each[mode].kind === 'spectre' ? 'rules against Spectre v1' : (each[mode].log ?? 'no reason given');
