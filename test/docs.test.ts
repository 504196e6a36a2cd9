// What the documents say of the code, tried.

import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import * as library from '../src/index.js';
import { assemble, type Contract, encodeProgram, VerifierError, verify } from '../src/index.js';

const read = (path: string): string => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8');

describe('docs/verifier.md', () => {
  const document = read('docs/verifier.md');
  const sections = [...document.matchAll(/### (V-[A-Z-]+)\n[\s\S]*?```bpf\n([\s\S]*?)```/g)].map(
    ([, code, text]) => [code!, text!] as const,
  );

  it.each(sections)('%s is what its program is refused with', (code, text) => {
    const args: Contract['args'] = [
      { kind: 'memory', bytes: 8, access: 'read' },
      { kind: 'memory', bytes: 8, access: 'write' },
      { kind: 'scalar' },
    ];
    const helpers: Contract['helpers'] = { 7: { args: [{ kind: 'scalar', max: 10n }] } };
    const contract = {
      args,
      helpers,
      writesAll: code === 'V-UNWRITTEN' ? [1] : [],
      kernelCompatible: code === 'V-KERNEL-RULE' || code === 'V-UNREACHABLE',
    };
    try {
      verify(assemble(text), contract, { maxInstructions: 10_000 });
      expect.fail('it was accepted');
    } catch (error) {
      expect(error).toBeInstanceOf(VerifierError);
      expect(error).toMatchObject({ code });
    }
  });

  it('has a section for every code there is', () => {
    const folder = new URL('../src/verifier/', import.meta.url);
    const source = readdirSync(folder).map((file) => readFileSync(new URL(file, folder), 'utf8'));
    const codes = new Set(source.join().match(/(?<=')V-[A-Z0-9-]+(?=')/g));
    expect(sections.map(([code]) => code).sort()).toEqual([...codes].sort());
  });
});

describe('docs/programs.md', () => {
  const table = [...read('docs/programs.md').matchAll(/^\|[^|]*\|([^|]*)\|([^|]*)\|$/gm)];
  const codes = (cell: string) => [...cell.matchAll(/`([^`]+)`/g)].map(([, text]) => text!);
  const bytes = (text: string) => encodeProgram(assemble(`${text}\nout: name: r0 = 0\nr0 = 0\nr0 = 0\nexit`));

  it.each(table.slice(2).map(([, kernel, classic]) => [codes(kernel!), codes(classic!)] as const))(
    '%j is in the other dialect %j',
    (kernel, classic) => {
      expect(classic.length).toBeGreaterThanOrEqual(Math.min(1, kernel.length));
      const meanings = new Set(kernel.map((text) => String(bytes(text))));
      for (const text of classic) expect([text, meanings.has(String(bytes(text)))]).toEqual([text, true]);
    },
  );

  it('its helper function gives what it says', () => {
    const [, text] = /```js\n(const helpers[\s\S]*?)```/.exec(read('docs/programs.md'))!;
    runExample(text!);
  });

  it('has the error that there is', () => {
    const [, shown] = /```\n(line 2: [\s\S]*?)\n```/.exec(read('docs/programs.md'))!;
    expect(() => assemble('exit\nldxdx %r0, [%r1+8]')).toThrow(shown);
  });
});

/** Runs an example's lines in order; a comment of hexadecimal bytes or a number behind an expression is its value. */
function runExample(text: string): void {
  const checks = text
    .replace(/^import .*$/gm, '')
    .replace(
      /^(\S.*); \/\/ ((?:[0-9a-f]{2} )+[0-9a-f]{2})$/gm,
      "expect(Buffer.from($1).toString('hex')).toBe('$2'.replaceAll(' ', ''));",
    )
    .replace(/^(\S.*); \/\/ (\d+n?)([;,].*)?$/gm, 'expect($1).toBe($2);');
  const [names, values] = [Object.keys(library), Object.values(library)];
  new Function('expect', ...names, checks)(expect, ...values);
}

describe('README.md', () => {
  const examples = [...read('README.md').matchAll(/```js\n([\s\S]*?)```/g)].map(([, text]) => text!);

  it.each(examples)('its example runs and gives what it says: %#', (text) => {
    runExample(text);
    expect(text).toContain("from 'bpf-unpack'");
  });

  it('names commands that there are', () => {
    const { scripts } = JSON.parse(read('package.json'));
    for (const [, name] of read('README.md').matchAll(/^npm (?:run )?([\w:]+)/gm))
      expect(Object.keys(scripts)).toContain(name);
  });
});
