import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { SAMPLE, vectorPath } from './images.js';

const cli = fileURLToPath(new URL('../dist/cli.js', import.meta.url));

function memory(...args: string[]): { status: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, 'memory', ...args]);
  return { status, out: stdout.toString(), err: stderr.toString() };
}

describe('bpf-unpack memory', () => {
  it('places the routines of the sample where no image is named, and shows that no page of them is writable', () => {
    const { status, out, err } = memory();
    expect({ status, err }).toEqual({ status: 0, err: '' });
    expect(out).toMatch(/^70 routines, for the formats of 92 nodes$/m);
    expect(out).toMatch(
      /^ {2}[0-9a-f]+-[0-9a-f]+ {2}r-xs +64 KiB .*can never be made writable {2}\/memfd:bpf-unpack/m,
    );
    expect(out).toContain('found: none is writable');
    expect(out).toMatch(/^not ours: \d+ mappings/m);
    expect(out).toMatch(/^with a page each +286,720,/m);
    expect(out).toMatch(/^000000 \|#+[.:+]? +\|$/m);
  });

  it('says the same of an image, in JSON', () => {
    const { status, out } = memory(SAMPLE, '--json', '--granule', '64');
    expect(status).toBe(0);
    const { nodes, stats, pageEachBytes, mappings, findings, others, chunks } = JSON.parse(out);
    expect({ nodes, routines: stats.routines, pageEachBytes }).toEqual({
      nodes: 92,
      routines: 70,
      pageEachBytes: 286720,
    });
    expect(findings).toEqual([]);
    const executable = mappings.filter((mapping: { executable: boolean }) => mapping.executable);
    expect(
      executable.map(({ permissions, path }: Record<string, string>) => `${permissions} ${path}`).sort(),
    ).toEqual(['r-xs /memfd:bpf-unpack (deleted)', 'r-xs /memfd:bpf-unpack-gate (deleted)']);
    expect(others.every(({ writable, executable }: Record<string, boolean>) => writable && executable)).toBe(
      true,
    );
    const extents: { address: string; length: number; name: string }[] = chunks[0].extents;
    expect(extents).toHaveLength(70);
    expect(extents.every(({ address }) => BigInt(address) % 64n === 0n)).toBe(true);
    expect(extents.every(({ name }) => /^unpack\[[\x21-\x7e]*\]$/.test(name))).toBe(true);
    expect(extents.reduce((sum, { length }) => sum + length, 0)).toBe(stats.codeBytes);
  });

  it('takes all devices of a file system, and one btree of it', () => {
    const devices = [vectorPath('multi-0.img.zst'), vectorPath('multi-1.img.zst')];
    const all = JSON.parse(memory(...devices, '--json').out);
    const some = JSON.parse(memory(...devices, '--json', '--btree', 'alloc').out);
    expect(all.stats.routines).toBeGreaterThan(some.stats.routines);
    expect(some.nodes).toBeGreaterThan(0);
  });

  const wrong: [string[], number, RegExp][] = [
    [['--granule', '32'], 2, /--granule must be 16 or 64, not '32'/],
    [['--btree', 'nothing'], 2, /no btree called 'nothing'/],
    [['--engine', 'bpf'], 2, /--engine/],
    [['not-there.img'], 1, /not-there\.img: .* \[open\]/],
    [[fileURLToPath(import.meta.url)], 1, /\[\w+\]/],
  ];
  it.each(wrong)('refuses %j', (args, status, says) => {
    const result = memory(...args);
    expect(result.status).toBe(status);
    expect(result.err).toMatch(/^bpf-unpack: /);
    expect(result.err).toMatch(says);
  });
});
