// Programs on which uBPF's engines and Linux do not all agree, held to what docs/divergences.md decides.

import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { BpfUnpackError } from '../src/errors.js';
import {
  CodeArena,
  type Contract,
  compileX64,
  decodeProgram,
  interpret,
  type VerifiedProgram,
  verify,
} from '../src/index.js';
import { unsafeTrust } from '../src/unsafe.js';
import { hex, unhex } from './vectors.js';

interface Probe {
  name: string;
  insns: string;
  mem: string;
  ubpf_interp: string;
  kernel_6_18: string;
  class: string;
}

const file = (path: string) => readFileSync(new URL(path, import.meta.url));
const { probes } = JSON.parse(gunzipSync(file('./vectors/ubpf/divergences.json.gz')).toString()) as {
  probes: Probe[];
};
const tables = file('../docs/divergences.md')
  .toString()
  .matchAll(/^\| ([^|]+) \|[^|]*\|[^|]*\| `([^`|]+)` \| `?([^`|]+?)`? \|$/gm);
const decided = new Map(
  [...tables].map(([, name, interpreter, verifier]) => [name!, { interpreter, verifier }]),
);

/** Memory and its length are the arguments. */
function contractFor({ length }: Uint8Array): Contract {
  const bytes = BigInt(length);
  return {
    args: [
      { kind: 'memory', bytes: length, access: 'readwrite' },
      { kind: 'scalar', min: bytes, max: bytes },
    ],
  };
}

const outcome = (r0: bigint, memory: Uint8Array): string =>
  `r0=0x${r0.toString(16)}${memory.length > 0 ? ` mem=${hex(memory)}` : ''}`;

/** The result, or the code of the error. */
function attempt<T>(run: () => T): T | string {
  try {
    return run();
  } catch (error) {
    if (error instanceof BpfUnpackError) return error.code;
    throw error;
  }
}

function interpreted({ insns, mem }: Probe, strict = false): string {
  const memory = unhex(mem);
  return attempt(() => {
    const { r0 } = interpret(decodeProgram(unhex(insns)), { args: [memory, BigInt(memory.length)], strict });
    return outcome(r0, memory);
  });
}

const proven = ({ insns, mem }: Probe): VerifiedProgram | string =>
  attempt(() => verify(decodeProgram(unhex(insns)), contractFor(unhex(mem))));

const arena = new CodeArena();
afterAll(() => arena.dispose());

function compiled(program: VerifiedProgram, { mem }: Probe): string {
  const memory = unhex(mem);
  const routine = arena.place(compileX64(program));
  return outcome(routine.call([memory, BigInt(memory.length)]), memory);
}

describe('where uBPF and Linux agree, so do we:', () => {
  it.each(probes.filter((probe) => probe.class === 'agree').map((probe) => [probe.name, probe] as const))(
    '%s',
    (_, probe) => {
      expect(interpreted(probe)).toBe(probe.kernel_6_18);
      const verified = proven(probe);
      if (typeof verified === 'string') expect.fail(verified);
      expect(compiled(verified, probe)).toBe(probe.kernel_6_18);
    },
  );
});

describe('where they do not, it is as docs/divergences.md says:', () => {
  const disputed = probes.filter((probe) => probe.class !== 'agree');

  it('each is decided, and nothing else', () => {
    expect([...decided.keys()].sort()).toEqual(disputed.map(({ name }) => name).sort());
    expect(probes.length).toBe(88);
  });

  it.each(disputed.map((probe) => [probe.name, probe] as const))('%s', (name, probe) => {
    const { interpreter, verifier } = decided.get(name)!;
    const result = interpreted(probe);
    expect(result.replace(/^r0=| mem=.*/g, '')).toBe(interpreter);
    const verified = proven(probe);
    expect(typeof verified === 'string' ? verified : 'proven').toBe(verifier);
    if (verified === 'V-UNINIT-REG') expect(interpreted(probe, true)).toBe('X-UNINIT-REG');
    if (typeof verified === 'string') return;
    // Memory, too, is as Linux leaves it, or uBPF where Linux refuses.
    expect(result).toBe(probe.kernel_6_18.startsWith('r0=') ? probe.kernel_6_18 : probe.ubpf_interp);
    expect(compiled(verified, probe)).toBe(result);
  });

  it('unreachable code does not harm machine code', () => {
    const probe = probes.find(({ name }) => name === 'unreachable code')!;
    expect(compiled(unsafeTrust(decodeProgram(unhex(probe.insns))), probe)).toBe(interpreted(probe));
  });
});
