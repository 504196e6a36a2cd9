import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ENGINES_HERE } from './engines.js';

const root = fileURLToPath(new URL('..', import.meta.url));
// Below the project's own node_modules, so that the packed package finds its dependencies there.
let elsewhere: string;
let installed: string;

beforeAll(() => {
  mkdirSync(join(root, 'node_modules/.cache'), { recursive: true });
  elsewhere = mkdtempSync(join(root, 'node_modules/.cache/packed-'));
  const packed = execFileSync(
    'npm',
    ['pack', '--ignore-scripts', '--json', '--pack-destination', elsewhere],
    { cwd: root, stdio: ['ignore', 'pipe', 'ignore'] },
  );
  const listing = JSON.parse(packed.toString());
  const { filename } = Array.isArray(listing)
    ? listing[0]
    : (Object.values(listing)[0] as { filename: string });
  installed = join(elsewhere, 'node_modules/bpf-unpack');
  mkdirSync(installed, { recursive: true });
  execFileSync('tar', ['-xzf', join(elsewhere, filename), '-C', installed, '--strip-components=1']);
  writeFileSync(join(elsewhere, 'package.json'), '{"type":"module"}');
});
afterAll(() => rmSync(elsewhere, { recursive: true }));

function script(text: string): string {
  const path = join(elsewhere, 'script.js');
  writeFileSync(path, text);
  return execFileSync(process.execPath, [path], { cwd: elsewhere }).toString().trim();
}

it('the packed package is imported by its name, and unpacks', () => {
  const out = script(`
    import { bkeyFormat, createUnpacker } from 'bpf-unpack';
    const format = bkeyFormat({ keyU64s: 1, bitsPerField: [8, 8, 0, 0, 0, 0], fieldOffset: [4096n, 0n, 0n, 0n, 0n, 0n] });
    const unpacker = createUnpacker(format);
    console.log(unpacker.engine, Buffer.from(unpacker.unpack(Uint8Array.of(1, 0, 5, 0, 0, 0, 7, 9))).toString('hex'));`);
  expect(out).toBe(`bpf 05010500${'00'.repeat(20)}07${'00'.repeat(7)}0910${'00'.repeat(6)}`);
});

it('importing it loads neither koffi nor iced-x86, which come with their first use', () => {
  const out = script(`
    import { createRequire } from 'node:module';
    import { bkeyFormat, compileFormat, createUnpacker, interpret, listing, assemble } from 'bpf-unpack';
    const loaded = () => Object.keys(createRequire(import.meta.url).cache).flatMap((path) => path.match(/koffi|iced-x86/)?.[0] ?? []);
    const say = () => console.log([...new Set(loaded())].join(' ') || 'nothing');
    const format = bkeyFormat({ keyU64s: 1, bitsPerField: [8, 8, 0, 0, 0, 0], fieldOffset: [0n, 0n, 0n, 0n, 0n, 0n] });
    interpret(assemble('r0 = 0\\nexit'), { args: [] });
    const code = compileFormat(format);
    say();
    createUnpacker(format);
    say();
    listing(code);
    say();`);
  expect(out.split('\n')).toEqual(['nothing', 'koffi', 'koffi iced-x86']);
});

it('gives unsafeTrust only by its own name, and nothing by the paths of its files', () => {
  const out = script(`
    import * as main from 'bpf-unpack';
    import { unsafeTrust } from 'bpf-unpack/unsafe';
    const trusted = unsafeTrust(main.assemble('r0 = 6\\nexit'));
    console.log('unsafeTrust' in main, new main.CodeArena().place(main.compileX64(trusted)).call([]));
    await import('bpf-unpack/dist/verifier/verified.js').catch((error) => console.log(error.code));`);
  expect(out.split('\n')).toEqual(['false 6n', 'ERR_PACKAGE_PATH_NOT_EXPORTED']);
});

it('its command runs', () => {
  const { bin } = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8'));
  const { status, stdout } = spawnSync(process.execPath, [join(installed, bin['bpf-unpack']), 'demo']);
  expect(status).toBe(0);
  expect(stdout.toString()).toContain(`All ${ENGINES_HERE.length} engines give the same`);
});
