import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ENGINES_HERE } from './engines.js';
import { SAMPLE, trueNodes, vectorPath } from './images.js';
import { jsonLines, type UbpfVector, vectors } from './vectors.js';

const cli = fileURLToPath(new URL('../dist/cli.js', import.meta.url));

function run(args: readonly string[], input = ''): { status: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args], {
    input,
    maxBuffer: 2 ** 28,
  });
  return { status, out: stdout.toString(), err: stderr.toString() };
}

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'cli-'));
});
afterAll(() => rmSync(folder, { recursive: true }));
function file(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

describe('bpf-unpack nodes and keys', () => {
  it('print every node and key as bcachefs’s own code found them, in JSON', async () => {
    const truth = await trueNodes('mini');
    const nodes = run(['nodes', SAMPLE, '--json']);
    expect(nodes).toMatchObject({ status: 0, err: '' });
    expect(jsonLines(nodes.out)).toEqual(
      truth.map((node) => ({
        btree_name: node.btree_name,
        level: node.level,
        dev: node.dev,
        sector: node.sector,
        format: {
          key_u64s: node.format.key_u64s,
          bits_per_field: node.format.bits_per_field,
          field_offset: node.format.field_offset,
        },
        keys: node.bsets.reduce((sum, bset) => sum + bset.keys.length, 0),
      })),
    );
    const want = truth.flatMap((node) =>
      node.bsets.flatMap((bset) =>
        bset.keys.map(({ o, packed, unpacked, ...key }) => ({
          btree_name: node.btree_name,
          level: node.level,
          dev: node.dev,
          sector: node.sector,
          o,
          packed,
          unpacked,
          u64s: key.u64s,
          format: key.format,
          needs_whiteout: key.needs_whiteout,
          type: key.type,
          version_hi: key.version_hi,
          version_lo: key.version_lo,
          size: key.size,
          snapshot: key.snapshot,
          offset: key.offset,
          inode: key.inode,
        })),
      ),
    );
    for (const engine of ENGINES_HERE) {
      const keys = run(['keys', SAMPLE, '--json', '--engine', engine]);
      expect(keys).toMatchObject({ status: 0, err: '' });
      expect(jsonLines(keys.out)).toEqual(want);
      expect(Object.keys(jsonLines<object>(keys.out)[0]!)).toEqual(Object.keys(want[0]!));
    }
  });

  it('take one btree, and the devices of a file system in any order', () => {
    const inodes = run(['nodes', SAMPLE, '--btree', 'inodes']);
    expect(inodes.out.split('\n').filter((line) => line.startsWith('inodes'))).toHaveLength(17);
    expect(run(['nodes', SAMPLE, '--btree', 'quotas'])).toEqual({ status: 0, out: '', err: '' });
    expect(run(['nodes', SAMPLE, '--btree', 'inode'])).toMatchObject({
      status: 2,
      err: expect.stringContaining("no btree called 'inode'"),
    });
    const [a, b] = [vectorPath('multi-0.img.zst'), vectorPath('multi-1.img.zst')];
    expect(run(['keys', a, b]).out).toBe(run(['keys', b, a]).out);
    // Each node has a replica on both.
    expect(run(['nodes', b]).out).toBe(run(['nodes', a, b]).out);
  });

  it('say what is wrong with an image, and read the rest if told to', () => {
    expect(run(['nodes', file('text', 'no image at all')])).toMatchObject({
      status: 1,
      out: expect.not.stringContaining('extents'),
      err: expect.stringMatching(/text.*\[\w+\]\n$/),
    });
    expect(run(['keys', join(folder, 'nowhere')])).toMatchObject({
      status: 1,
      err: expect.stringContaining('nowhere'),
    });
    expect(run(['nodes', SAMPLE, '--max-unpacked', '1M'])).toMatchObject({
      status: 1,
      err: expect.stringMatching(/--max-unpacked raise the limits\) \[unpack_limit\]/),
    });
  });

  it('say so when the output cannot be written', () => {
    const shell = `"${process.execPath}" "${cli}" nodes "${SAMPLE}" > /dev/full`;
    const { status, stderr } = spawnSync('sh', ['-c', shell]);
    expect({ status, err: stderr.toString() }).toEqual({
      status: 1,
      err: expect.stringMatching(/^bpf-unpack: standard output: ENOSPC.*\[E-OUTPUT\]\n$/),
    });
  });

  it('refuse a named pipe instead of waiting for it', () => {
    const pipe = join(folder, 'pipe');
    expect(spawnSync('mkfifo', [pipe]).status).toBe(0);
    expect(run(['nodes', pipe])).toMatchObject({
      status: 1,
      err: expect.stringContaining('neither a file nor a block device'),
    });
  });

  it('stop quietly when nobody reads on', () => {
    const { status, stderr, stdout } = spawnSync('sh', [
      '-c',
      `"${process.execPath}" "${cli}" keys "${vectorPath('csum-crc64.img.zst')}" --json | head -n 1`,
    ]);
    expect({ status, err: stderr.toString(), lines: stdout.toString().split('\n').length }).toEqual({
      status: 0,
      err: '',
      lines: 2,
    });
  });
});

describe('bpf-unpack compile', () => {
  const bits = ['compile', '--bits', '32,29,32,11,0,0', '--offsets', '0,0,0,0,0,0'];

  it('shows a format as BPF, as x86 and as bytes', () => {
    expect(run(bits).out).toMatch(/^ {3}0: r0 = \*\(u8 \*\)\(r2 \+ 0\)\n[\s\S]* {2}\d+: exit\n$/);
    expect(run([...bits, '--emit', 'x64']).out).toMatch(/^ {3}0: 8b06 +mov eax, \[rsi\]\n[\s\S]*ret\n$/);
    expect(run([...bits, '--emit', 'hex', '--engine', 'native']).out).toMatch(/^[0-9a-f]+c3\n$/);
    expect(run([...bits, '--emit', 'bpf-hex']).out).toMatch(/^[0-9a-f]+9500000000000000\n$/);
  });

  it('reads formats of both kinds from JSON', () => {
    const bkey = {
      key_u64s: 2,
      bits_per_field: [32, 29, 32, 11, 0, 0],
      field_offset: ['0', '0', '0', '0', '0', '0'],
    };
    expect(run(['compile', '--format', file('bkey.json', JSON.stringify(bkey))]).out).toBe(run(bits).out);
    const record = {
      packedBytes: 2,
      unpackedBytes: 8,
      order: 'msb0',
      fields: [{ name: 'f', bits: 12, at: 2, signed: true, offset: '-5', to: { byte: 0, size: 8 } }],
    };
    expect(run(['compile', '--format', '-', '--emit', 'bpf'], JSON.stringify(record)).out).toMatch(/be16 r0/);
  });

  it.each<[string[], number, RegExp]>([
    [['compile'], 2, /which format/],
    [['compile', '--bits', '1,x'], 2, /'x' is none/],
    [['compile', '--bits', '8,8', '--format', 'f'], 2, /give one/],
    [['compile', '--bits', '8,8'], 2, /got 2, should be 6 \[nr_fields\]/],
    [['compile', '--bits', '65,0,0,0,0,0'], 2, /field 0 too large/],
    [
      ['compile', '--bits', '0,0,0,0,0,0', '--offsets', '18446744073709551616,0,0,0,0,0'],
      2,
      /--offsets: 18446744073709551616 needs more than 64 bits/,
    ],
    [[...bits, '--emit', 'arm'], 2, /--emit must be/],
    [[...bits, '--engine', 'reference'], 2, /--engine must be bpf or native/],
    [[...bits, '--engine', 'native'], 2, /the native engine has no BPF/],
    [[...bits, '--engine', 'native', '--emit', 'bpf-hex'], 2, /the native engine has no BPF/],
    [['compile', '--format', '/nowhere.json'], 2, /nowhere\.json/],
    [['nodes'], 2, /which IMAGE/],
    [['nodes', '--engine', 'gpu', 'x'], 2, /--engine must be/],
    [['keys', '--jason', 'x'], 2, /--jason/],
    [['nodes', 'x', '--max-kept', 'lots'], 2, /--max-kept must be/],
    [['unknown'], 2, /no command 'unknown'/],
  ])('%j ends with %i', (args, status, says) => {
    const result = run(args);
    expect(result).toMatchObject({ status, out: '' });
    expect(result.err).toMatch(says);
  });

  it('names the field of a JSON format that is wrong', () => {
    for (const [json, says] of [
      ['{"packedBytes":1,"unpackedBytes":0}', /fields must be an array/],
      ['{"bits_per_field":7}', /bitsPerField must be an array/],
      [
        '{"packedBytes":1,"unpackedBytes":1,"fields":[{"name":"f","bits":9,"at":0,"to":{"byte":0,"size":1}}]}',
        /field f: bits 0\.\.9/,
      ],
      ['null', /described by an object/],
      ['{', /JSON/],
    ] as const) {
      const result = run(['compile', '--format', '-'], json);
      expect(result.status).toBeGreaterThan(0);
      expect(result.err).toMatch(says);
    }
  });
});

describe('bpf-unpack asm, disasm and run', () => {
  const source = `
    start: ldxw %r0, [%r1+4]   ; uBPF's dialect
    if r0 > 10 goto out        ; and Linux's
    w0 += -1
    out: exit`;
  const bytes = '6110040000000000250001000a00000004000000ffffffff9500000000000000';

  it('lead from text to bytes and back, through files and pipes', () => {
    const asm = run(['asm', file('program.s', source)]);
    expect(asm).toEqual({ status: 0, out: `${bytes}\n`, err: '' });
    const kernel = 'r0 = *(u32 *)(r1 + 4)\nif r0 > 10 goto +1\nw0 += -1\nexit\n';
    const classic = 'ldxw %r0, [%r1+4]\njgt %r0, 10, +1\nadd32 %r0, -1\nexit\n';
    expect(run(['disasm', '-'], asm.out).out).toBe(kernel);
    const raw = file('program.bin', Buffer.from(bytes, 'hex'));
    expect(run(['disasm', raw, '--dialect', 'classic']).out).toBe(classic);
    expect(run(['asm', '-'], classic).out).toBe(asm.out);
  });

  it.each(['interpreter', 'jit', 'bpf'])('run a program by the %s', (engine) => {
    const program = file('run.s', 'r0 = *(u32 *)(r1 + 4)\nr0 += r2\n*(u8 *)(r1 + 0) = 255\nexit');
    expect(run(['run', program, '--mem', '0x01020304 05060708', '--engine', engine])).toEqual({
      status: 0,
      out: 'r0 = 0x807060d\nmemory = ff02030405060708\n',
      err: '',
    });
    expect(run(['run', '-', '--engine', engine], 'r0 = r1\nr0 |= r2\nexit').out).toBe('r0 = 0x0\n');
  });

  it.each(['interpreter', 'jit'])('run a program with helper functions by the %s', (engine) => {
    const module = file(
      'helpers.mjs',
      `export default {
        1: { args: [{ kind: 'memory', bytes: 2, access: 'readwrite' }], call: (bytes) => BigInt(bytes.reverse()[0]) },
        2: { args: [], call() { throw new Error('out of paper'); } },
      };`,
    );
    const command = ['run', '-', '--engine', engine, '--helpers', module, '--mem', '0102'];
    expect(run(command, 'call 1\nexit').out).toBe('r0 = 0x2\nmemory = 0201\n');
    expect(run(command, 'call 2\nexit')).toMatchObject({
      status: 1,
      err: 'bpf-unpack: standard input: helper function 2 threw: out of paper [E-HELPER]\n',
    });
    expect(run(command, 'call 3\nexit')).toMatchObject({
      status: 1,
      err: expect.stringMatching(/helper function 3/),
    });
    const text = file('none.mjs', 'export default 5');
    const missing = ['run', '-', '--helpers'];
    expect(run([...missing, text], 'exit')).toMatchObject({
      status: 1,
      err: expect.stringMatching(/default export/),
    });
    expect(run([...missing, '/nowhere.mjs'], 'exit')).toMatchObject({
      status: 1,
      err: expect.stringMatching(/E-INPUT/),
    });
  });

  it('run a function of an ELF object', () => {
    const object = fileURLToPath(new URL('objects/hash-clang-v4.o', import.meta.url));
    const memory = 'ff'.repeat(64);
    for (const options of [[], ['--function', 'hash', '--engine', 'jit']])
      expect(run(['run', object, '--mem', memory, ...options]).out).toBe(
        `r0 = 0x7edc2a990fd5ef07\nmemory = ${memory}\n`,
      );
    const table = fileURLToPath(new URL('objects/data-gcc.o', import.meta.url));
    for (const engine of ['interpreter', 'jit'])
      expect(run(['run', table, '--function', 'constant', '--mem', '06000000', '--engine', engine]).out).toBe(
        'r0 = 0x11\nmemory = 06000000\n',
      );
    expect(run(['disasm', table, '--function', 'constant']).out).toMatch(/^r\d = \.rodata\[0\] ll$/m);
    const missing = run(['disasm', object, '--function', 'cash']);
    expect(missing).toMatchObject({
      status: 1,
      err: expect.stringMatching(/hash-clang-v4\.o: .*\[E-NO-FUNCTION\]/),
    });
  });

  it.each<[string[], string, number, string]>([
    [['asm', '-', '--function', 'f'], 'exit', 2, '--function is for ELF objects'],
    [['asm'], '', 2, 'which FILE?'],
    [['asm', '/nowhere.s'], '', 1, '/nowhere.s'],
    [['run', '/dev/zero'], '', 1, '/dev/zero: more than 67108864 bytes'],
    [
      ['asm', '-'],
      'exit\n  ldxdx %r0, [%r1+8]',
      1,
      'standard input: line 2: "ldxdx %r0, [%r1+8]" is no instruction; did you mean ldxdw %r1, [%r2+8]? [P-SYNTAX]\n    ldxdx %r0, [%r1+8]\n    ^\n',
    ],
    [['disasm', '-'], '9500', 1, 'a whole number of 8-byte slots'],
    [['run', '-', '--mem', '0'], 'exit', 2, "memory must be given as whole hexadecimal bytes, not '0'"],
    [['run', '-', '--max-instructions', '0'], 'exit', 2, '--max-instructions must be a number from 1'],
    [['run', '-', '--engine', 'jit', '--max-instructions', '9'], 'exit', 2, 'is for the interpreter'],
    [['run', '-', '--max-instructions', '9'], 'l: goto l', 1, '[X-LIMIT]'],
    [['run', '-', '--mem', 'ff', '--engine', 'jit'], 'r0 = *(u16 *)(r1 + 0)\nexit', 1, '[V-OOB-READ]'],
  ])('%j of %j ends with %i', (args, input, status, says) => {
    const result = run(args, input);
    expect(result).toMatchObject({ status, out: '' });
    expect(result.err).toContain(says);
  });
});

describe('bpf-unpack conformance', () => {
  it.each(['interpreter', 'jit'])('gives r0 of programs as uBPF computed it, by the %s', (engine) => {
    const proven = vectors<UbpfVector & { k: number }>('ubpf/vectors.jsonl.gz').filter(({ k }) => k === 1);
    for (const { insns, mem, r0 } of proven.slice(0, 2)) {
      // Two spaces after each byte, and an argument for options even if there are none: as the runner does it.
      const spaced = (text: string) => text.replace(/../g, '$&  ');
      const options = engine === 'jit' ? '--engine=jit' : '';
      expect(run(['conformance', spaced(mem), options], `${spaced(insns)}\n`)).toEqual({
        status: 0,
        out: `${r0.slice(2)}\n`,
        err: '',
      });
    }
  });

  it('takes no memory, or an empty one, as address 0 of length 0', () => {
    const program = 'bf100000000000000f200000000000009500000000000000';
    expect(run(['conformance'], program).out).toBe('0\n');
    expect(run(['conformance', '', '--engine=jit'], program).out).toBe('0\n');
  });

  it.each<[string[], string, number, RegExp]>([
    [['conformance'], 'r0 = 5', 1, /hexadecimal/],
    [['conformance'], '', 1, /at least one instruction/],
    [['conformance'], '8500000005000000 9500000000000000', 1, /helper/],
    [['conformance', '--engine=jit'], '9500000000000000', 1, /r0.*\[V-/],
    [['conformance', '00', '01'], '', 2, /one MEMORY/],
  ])('%j of %j ends with %i', (args, input, status, says) => {
    const result = run(args, input);
    expect(result).toMatchObject({ status, out: '' });
    expect(result.err).toMatch(says);
  });
});

describe('help', () => {
  it.each([
    ['--help'],
    ['nodes', '--help'],
    ['keys', '-h'],
    ['compile', '--help'],
    ['asm', '--help'],
    ['disasm', '--help'],
    ['run', '--help'],
    ['conformance', '--help'],
    ['demo', '--help'],
    ['help', 'keys'],
  ])('%s %s is printed, with exit code 0', (...args) => {
    expect(run(args.filter((word) => word !== undefined))).toMatchObject({
      status: 0,
      out: expect.stringContaining('usage: bpf-unpack'),
      err: '',
    });
  });

  it('names every option in the usage', () => {
    for (const command of ['nodes', 'keys', 'compile', 'asm', 'disasm', 'run', 'conformance']) {
      const [usage, ...help] = run([command, '--help']).out.split('\n\n');
      const options = help.join().matchAll(/^ {2}(--[\w-]+)/gm);
      for (const [, option] of options) expect(usage).toContain(option);
    }
  });
});

it('the demo agrees with itself', () => {
  const { status, out } = run(['demo']);
  expect(status).toBe(0);
  expect(out).toContain(
    `All ${ENGINES_HERE.length} engines give the same 40 bytes for each of the 2904 keys`,
  );
});
