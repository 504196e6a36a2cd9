import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { contractOption } from '../src/cli/contracts.js';
import { type CommandLine, parseCommandLine, UsageError } from '../src/cli/options.js';
import { verifyCommand } from '../src/cli/verify.js';
import { type Access, bkeyFormat, encodeProgram, lower } from '../src/index.js';
import { kernelRuns } from './kernel-available.js';

const cli = fileURLToPath(new URL('../dist/cli.js', import.meta.url));

/** Verifies a program that comes by standard input. */
function verify(program: string | Uint8Array, ...options: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, 'verify', '-', ...options], {
    input: program,
  });
  return { status, out: stdout.toString(), err: stderr.toString() };
}

const lineOf = (words: string[]) => parseCommandLine(verifyCommand, words) as CommandLine;
const memory = (bytes: number, access: Access) => ({ kind: 'memory', bytes, access });
const scalar = (min: bigint, max: bigint) => ({ kind: 'scalar', min, max });
const MAX = 2n ** 64n - 1n;

const INDEXED = `
  r3 = *(u8 *)(r2 + 0)
  r1 += r3
  r0 = *(u64 *)(r1 + 0)
  exit`;
const MEMORY = ['--arg', 'r2=mem:1:r', '--arg'];

describe('bpf-unpack verify', () => {
  it('says that a program is accepted, with exit code 0', () => {
    const { status, out, err } = verify(INDEXED, ...MEMORY, 'r1=mem:263:rw');
    expect([status, err]).toEqual([0, '']);
    expect(out).toMatch(/^accepted: whatever its input, it does only what it may\n/);
    expect(out).toContain('r1: 263 bytes that may be read and written\n');
    const aligned = verify('r2 = 1\nlock *(u64 *)(r1 + 0) += r2\nr0 = 0\nexit', '--arg', 'r1=mem:8:rw');
    expect(aligned.out).toMatch(/^accepted: .* on memory that is aligned to 8 bytes\n/);
  });

  it('says what is wrong with a program that is not, with exit code 1', () => {
    const { status, out, err } = verify(INDEXED, ...MEMORY, 'r1=mem:262:rw');
    expect([status, err]).toEqual([1, '']);
    expect(out).toContain("may reach past the 262 bytes of r1's memory");
    expect(out).toContain('V-OOB-READ');
    expect(out).toContain('An input on which it happens:\n');
    expect(out).not.toContain('processed 3 insns');
    expect(verify(INDEXED, ...MEMORY, 'r1=mem:262:rw', '--log').out).toContain('processed 3 insns');
  });

  it.each([
    ['', {}],
    ['--arg r1=mem:4:w --arg r2=mem:0:r', { args: [memory(4, 'write'), memory(0, 'read')] }],
    ['--arg r3=mem:4:rw', { args: [undefined, undefined, memory(4, 'readwrite')] }],
    ['--arg r1=scalar', { args: [{ kind: 'scalar' }] }],
    ['--arg r1=scalar:5', { args: [{ kind: 'scalar', min: 5n, max: 5n }] }],
    ['--arg r2=scalar:0x1..0xFf --arg r1=scalar:3..4', { args: [scalar(3n, 4n), scalar(1n, 255n)] }],
    [`--arg r1=scalar:0..${MAX}`, { args: [scalar(0n, MAX)] }],
    ['--writes-all r3,r1', { writesAll: [2, 0] }],
    ['--disjoint --allow-pointer-leaks', { disjoint: true, allowPointerLeaks: true }],
    ['--kernel-compatible', { kernelCompatible: true }],
    [
      '--arg r1=buffer:rw --arg r2=end:r1 --arg r3=buffer:1..9:r --arg r4=length:r3',
      {
        args: [
          { kind: 'buffer', access: 'readwrite' },
          { kind: 'end', of: 0 },
          { kind: 'buffer', access: 'read', minBytes: 1, maxBytes: 9 },
          { kind: 'length', of: 2 },
        ],
      },
    ],
  ] as const)('takes %s for a contract', (words, contract) => {
    const none = { args: [], disjoint: false, allowPointerLeaks: false, kernelCompatible: false };
    expect(contractOption(lineOf(words.split(' ').filter(Boolean)))).toEqual({ ...none, ...contract });
  });

  it('holds the program to the contract', () => {
    const text = '*(u8 *)(r1 + 1) = 0\nr0 = r1\nexit';
    const options = ['--arg', 'r1=mem:2:w', '--allow-pointer-leaks'];
    expect(verify(text, ...options).status).toBe(0);
    expect(verify(text, ...options, '--writes-all', 'r1')).toMatchObject({
      status: 1,
      out: expect.stringContaining('V-UNWRITTEN'),
    });
    expect(verify(text, ...options, '--max-instructions', '1')).toMatchObject({
      status: 1,
      out: expect.stringContaining('V-BUDGET'),
    });
  });

  it('shows what was proven of each instruction', () => {
    const text = 'r3 = *(u8 *)(r1 + 1)\nr3 &= 3\nr1 += r3\nr0 = *(u16 *)(r1 + 2)\nexit';
    const { status, out } = verify(text, '--arg', 'r1=mem:8:r', '--facts');
    expect(status).toBe(0);
    expect(out).toContain(`r3 = *(u8 *)(r1 + 1)                     ; r1 1..2; r1=r1+0
r3 &= 3                                  ; r1=r1+0 r3=(0..255)
r1 += r3                                 ; r1=r1+0 r3=(0..3)
r0 = *(u16 *)(r1 + 2)                    ; r1 2 bytes within 2..7; r1=r1+(0..3) r3=(0..3)
`);
    expect(verify(text, '--arg', 'r1=mem:8:r', '--facts', '--json').status).toBe(2);
  });

  it('puts our verdict beside what Linux is not asked for', () => {
    const object = fileURLToPath(new URL('objects/lookup-clang-v4.o', import.meta.url));
    const run = spawnSync(
      process.execPath,
      [cli, 'verify', object, '--arg', 'r1=mem:64:rw', '--arg', 'r2=scalar:0..64', '--kernel'],
      { encoding: 'utf8' },
    );
    expect(run.status).toBe(0);
    expect(run.stdout).toMatch(/no verdict: .*\[(P-DATA|E-KERNEL)\]/);
  });

  it('takes the signatures of helper functions from a module', () => {
    const path = join(mkdtempSync(join(tmpdir(), 'helpers-')), 'helpers.mjs');
    writeFileSync(path, 'export default { 7: { args: [], returns: { max: 3n }, call: () => 0n } };');
    const text = 'r6 = r1\ncall 7\nr6 += r0\nr0 = *(u8 *)(r6 + 0)\nexit';
    const options = ['--helpers', path, '--arg'];
    expect(verify(text, ...options, 'r1=mem:4:r').status).toBe(0);
    expect(verify(text, ...options, 'r1=mem:3:r').status).toBe(1);
    expect(verify(text, '--arg', 'r1=mem:4:r').out).toContain('V-HELPER');
    rmSync(dirname(path), { recursive: true });
  });

  it('takes programs as all commands do', () => {
    const format = bkeyFormat({
      keyU64s: 1,
      bitsPerField: [8, 8, 0, 0, 0, 0],
      fieldOffset: [0n, 0n, 0n, 0n, 0n, 0n],
    });
    const bytes = encodeProgram(lower(format));
    const contract = ['--arg', 'r1=mem:40:w', '--arg', 'r2=mem:8:r', '--writes-all', 'r1', '--disjoint'];
    expect(verify(bytes, ...contract).status).toBe(0);
    expect(verify(Buffer.from(bytes).toString('hex'), ...contract).status).toBe(0);
    expect(verify('r0 = what\nexit')).toMatchObject({ status: 1, err: expect.stringContaining('P-SYNTAX') });
  });

  it.each([
    ['--arg r1', /--arg must be like/],
    ['--arg r6=scalar', /registers r1 to r5, not 'r6'/],
    ['--arg r1=mem:64', /must be mem:BYTES:r\|w\|rw, /],
    ['--arg r1=mem:-1:r', /must be mem:BYTES:r\|w\|rw, /],
    ['--arg r1=scalar:1..', /must be mem:BYTES:r\|w\|rw, /],
    ['--arg r1=scalar --arg r1=scalar', /r1 is given twice/],
    ['--writes-all out', /registers r1 to r5, not 'out'/],
  ])('takes %s for wrong usage', (words, says) => {
    expect(() => contractOption(lineOf(words.split(' ')))).toThrow(says);
    expect(() => contractOption(lineOf(words.split(' ')))).toThrow(UsageError);
  });

  it('ends with 2 for wrong usage', () => {
    expect(verify('r0 = 0\nexit', '--arg', 'r1=scalar:2..1')).toEqual({
      status: 2,
      out: '',
      err: expect.stringMatching(/min <= max/),
    });
  });

  it('prints one JSON object, if asked to', () => {
    const accepted = verify(INDEXED, ...MEMORY, 'r1=mem:263:rw', '--json');
    expect([accepted.status, JSON.parse(accepted.out)]).toEqual([
      0,
      {
        accepted: true,
        needsAlignment: false,
        contract: expect.arrayContaining(['r2: 1 byte that may be read']),
      },
    ]);
    const refused = verify(INDEXED, ...MEMORY, 'r1=mem:262:rw', '--json', '--log');
    expect([refused.status, JSON.parse(refused.out)]).toEqual([
      1,
      {
        accepted: false,
        error: expect.objectContaining({ code: 'V-OOB-READ', insn: 2 }),
        log: expect.stringContaining('processed 3 insns'),
      },
    ]);
  });
});

describe.skipIf(!kernelRuns)('bpf-unpack verify --kernel', () => {
  it('has Linux’s verdicts beside ours, which alone decides the exit code', () => {
    const { status, out } = verify(INDEXED, ...MEMORY, 'r1=mem:263:rw', '--kernel');
    expect(status).toBe(0);
    expect(out).toMatch(/^accepted/);
    expect(out).toMatch(
      /^Linux, as map values: accepted: \d+ instructions walked, \d+ bytes of machine code/m,
    );
    expect(out).toMatch(/^Linux, as global function: accepted/m);
    // Ranges and rights are beyond a global function.
    const ranged = verify(
      'r2 += r1\nr0 = *(u8 *)(r2 + 0)\nexit',
      ...['--arg', 'r1=scalar:0..7', '--arg', 'r2=mem:8:r', '--kernel', '--json', '--log'],
    );
    expect([ranged.status, JSON.parse(ranged.out)]).toEqual([
      0,
      expect.objectContaining({
        accepted: true,
        kernel: [
          expect.objectContaining({
            as: 'map values',
            accepted: true,
            log: expect.stringContaining('processed'),
          }),
          expect.objectContaining({
            as: 'global function',
            accepted: false,
            error: expect.objectContaining({ code: 'V-KERNEL' }),
          }),
        ],
      }),
    ]);
    const divided = verify('r0 = 1\nr0 /= 0\nexit', '--kernel');
    expect(divided).toMatchObject({ status: 0, out: expect.stringContaining('div by zero') });
  });

  it('says at which number in its log the program begins', () => {
    const { out } = verify(INDEXED, ...MEMORY, 'r1=mem:262:r', '--kernel', '--log');
    const [, first] = /its log has the first instruction as (\d+)/.exec(out)!;
    expect(out).toMatch(new RegExp(`^ +${first}: \\(71\\) r3 = \\*\\(u8 \\*\\)\\(r2 \\+0\\)`, 'm'));
  });
});

it('says why Linux gives no verdict, where it does not', () => {
  const bare = spawnSync(
    'setpriv',
    ['--bounding-set=-all', process.execPath, cli, 'verify', '-', '--kernel'],
    {
      input: 'r0 = 0\nexit',
    },
  );
  if (bare.status !== 0) return console.warn('NOT TESTED: a process that bpf(2) is not permitted to');
  expect(bare.stdout.toString()).toMatch(
    /^accepted[\s\S]*\nLinux, as map values: no verdict: .*\[E-KERNEL\]\n/,
  );
});
