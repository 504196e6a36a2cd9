// The notation of vectors/verifier/verdicts.txt: programs in text, each with its contract and the verdict.

import { readFileSync } from 'node:fs';
import { assemble } from '../src/bpf/assemble.js';
import type { ArgSpec, Contract, HelperSpec } from '../src/bpf/contract.js';
import type { Program } from '../src/bpf/program.js';
import { MAX_U64 } from '../src/bytes.js';

export interface SmallProgram {
  readonly title: string;
  readonly program: () => Program;
  readonly contract: Contract;
  /** 'ok', or the code of the refusal with its slot and a part of the message. */
  readonly code: string;
  readonly insn: number;
  readonly message: string;
}

export function smallPrograms(): SmallProgram[] {
  const text = readFileSync(new URL('vectors/verifier/verdicts.txt', import.meta.url), 'utf8');
  return text.split(/^== /m).slice(1).map(smallProgram);
}

const CONTRACT = /^(r\d=|leaks|linux|writes:|call:)/;

function smallProgram(text: string): SmallProgram {
  const [title, ...lines] = text.split('\n').filter((line) => line && !line.startsWith('#'));
  const words = CONTRACT.test(lines[0]!) ? lines.shift()!.split(' ') : [];
  const [code, insn, ...message] = lines.pop()!.replace('-> ', '').split(' ');
  const program = () => assemble(lines.join('\n'));
  return {
    title: title!,
    program,
    contract: contractFrom(words),
    code: code!,
    insn: Number(insn),
    message: message.join(' '),
  };
}

/** The contract that some words say, see the head of the file. */
export function contractFrom(words: readonly string[]): Contract {
  const args: (ArgSpec | undefined)[] = [];
  const helpers: Record<number, HelperSpec> = {};
  for (const word of words.filter((word) => word.includes('='))) {
    const [name, spec] = word.split('=') as [string, string];
    if (name.startsWith('r')) args[indexOf(name)] = argFrom(spec);
    else helpers[Number(name.slice('call:'.length))] = helperFrom(spec);
  }
  const writesAll = words
    .filter((word) => word.startsWith('writes:'))
    .map((word) => indexOf(word.slice('writes:'.length)));
  const [allowPointerLeaks, kernelCompatible] = [words.includes('leaks'), words.includes('linux')];
  return { args: Array.from(args), helpers, writesAll, allowPointerLeaks, kernelCompatible };
}

const indexOf = (register: string): number => Number(register.slice(1)) - 1;

function argFrom(spec: string): ArgSpec {
  const [kind, first, second, third] = spec.split(':') as [string, string, 'read', string | undefined];
  if (kind === 'mem') return memoryFrom(Number(first), second, third);
  if (kind === 'num') return { kind: 'scalar', ...rangeFrom(first) };
  if (kind === 'end') return { kind: 'end', of: indexOf(first) };
  if (kind === 'length') return { kind: 'length', of: indexOf(first) };
  if (kind !== 'buffer') throw new Error(`no argument is '${spec}'`);
  const bytes = third?.split('..').map(Number);
  return { kind, access: second, ...(bytes && { minBytes: bytes[0]!, maxBytes: bytes[1]! }) };
}

const memoryFrom = (bytes: number, access: 'read', align: string | undefined): ArgSpec => ({
  kind: 'memory',
  bytes,
  access,
  ...(align && { align: Number(align) as 1 }),
});

function rangeFrom(text = `0..${MAX_U64}`): { min: bigint; max: bigint } {
  const [min, max] = text.split('..').map(BigInt);
  return { min: min!, max: max! };
}

function helperFrom(spec: string): HelperSpec {
  const [args, returns] = spec.split('->') as [string, string | undefined];
  const specs = args
    .split(',')
    .filter((arg) => arg)
    .map((arg) => argFrom(arg) as HelperSpec['args'][number]);
  return { args: specs, ...(returns && { returns: rangeFrom(returns) }) };
}
