// Processes of their own, for what would stay with ours: policies, limits, and what is left when one ends.

import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

const PRELUDE = `
  import koffi from 'koffi';
  import * as fs from 'node:fs';
  import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
  import * as unpack from ${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)};
  const { CodeArena, assemble, compileX64, verify } = unpack;
  const libc = koffi.load(null);
  const prctl = libc.func('int prctl(int, uint64_t, uint64_t, uint64_t, uint64_t)');
  const setrlimit = libc.func('int setrlimit(int, void *)');
  const limit = (what, most) => setrlimit(what, new BigUint64Array([BigInt(most), BigInt(most)]));
  const returns = (value) => compileX64(verify(assemble('r0 = ' + value + '\\nexit'), { args: [] }));
  const tryTo = (run) => { try { return String(run()); } catch (error) { return error.code + ' ' + error.message; } };
  const maps = (name) => fs.readFileSync('/proc/self/maps', 'utf8').split('\\n').filter((line) => line.includes(name));
  const files = (name) => fs.readdirSync('/proc/self/fd').filter((fd) => {
    try { return fs.readlinkSync('/proc/self/fd/' + fd).includes(name); } catch { return false; }
  });
  // seccomp: system call 'number' fails with 'errno', if argument 'index' has a bit of 'mask'.
  const refuse = (number, errno, index, mask) => {
    const insn = (code, jt, jf, k) => [code & 0xff, code >> 8, jt, jf, ...new Uint8Array(new Uint32Array([k]).buffer)];
    const looks = index === undefined
      ? [insn(0x20, 0, 0, 0), insn(0x15, 0, 1, number)]
      : [insn(0x20, 0, 0, 0), insn(0x15, 0, 3, number), insn(0x20, 0, 0, 16 + 8 * index), insn(0x45, 0, 1, mask)];
    const program = Uint8Array.from([...looks, insn(6, 0, 0, 0x50000 | errno), insn(6, 0, 0, 0x7fff0000)].flat());
    const fprog = new Uint8Array(16);
    new DataView(fprog.buffer).setUint16(0, program.length / 8, true);
    new DataView(fprog.buffer).setBigUint64(8, BigInt(koffi.address(program)), true);
    if (prctl(38, 1, 0, 0, 0) !== 0 || prctl(22, 2, koffi.address(fprog), 0, 0) !== 0) throw new Error('no seccomp here');
  };
  const say = (value) => console.log(JSON.stringify(value, (_, word) => (typeof word === 'bigint' ? String(word) : word)));
`;

/** Runs a script in a process without a JIT of V8's own; returns what it said with `say`. */
export function inChild(script: string, ...flags: string[]): unknown[] {
  const args = ['--jitless', '--expose-gc', ...flags, '--input-type=module', '-e', PRELUDE + script];
  const out = execFileSync(process.execPath, args, { cwd: root, timeout: 30_000 }).toString();
  return out
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));
}
