// The same BPF in other people's JITs, where they are installed: libubpf (UBPF_LIB names it) and DPDK's librte_bpf.

import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { libc } from '../../dist/exec/libc.js';
import { encodeProgram } from '../../dist/index.js';

const LIBRARY_FOLDERS = [
  '/usr/local/lib/x86_64-linux-gnu',
  '/usr/local/lib',
  '/usr/lib/x86_64-linux-gnu',
  '/usr/lib64',
];
const koffi = () => createRequire(import.meta.url)('koffi');

function findLibrary(pattern) {
  const folders = LIBRARY_FOLDERS.filter((folder) => existsSync(folder));
  const found = folders.flatMap((folder) =>
    readdirSync(folder)
      .filter((file) => pattern.test(file))
      .map((file) => join(folder, file)),
  );
  return found[0];
}

/** @returns { title, routine(program, format, player), wrap(program), load(wrapped, format) }, or a sentence that says why not */
export function openUbpf() {
  const path = process.env.UBPF_LIB;
  if (!path) return 'uBPF is left out: UBPF_LIB names no libubpf.so';
  const lib = koffi().load(path);
  const create = lib.func('void *ubpf_create()');
  const destroy = lib.func('void ubpf_destroy(void *vm)');
  const load = lib.func('int ubpf_load(void *vm, void *code, uint32_t length, _Out_ void **error)');
  const compile = lib.func('uintptr_t ubpf_compile(void *vm, _Out_ void **error)');
  const kept = [];
  const said = ([message]) => (message ? koffi().decode(message, 'char', -1) : 'no message');
  const make = (code) => {
    const vm = create();
    const error = [null];
    if (load(vm, code, code.length, error) !== 0) throw new Error(`uBPF: ${said(error)}`);
    const address = BigInt(compile(vm, error));
    if (address === 0n) throw new Error(`uBPF: ${said(error)}`);
    return { vm, address };
  };
  return {
    title: 'uBPF',
    routine(program) {
      const { vm, address } = make(encodeProgram(program));
      kept.push(vm);
      return { address };
    },
    wrap: encodeProgram,
    load: (code) => destroy(make(code).vm),
  };
}

// struct rte_bpf_prm and struct rte_bpf_jit of rte_bpf.h.
const PRM_BYTES = 56;
const PRM = { instructions: 0, count: 8, type: 32, size: 40 };
const ARG_PTR = 0x10;
/** r2 = r1, and what it becomes. DPDK's programs have one argument: the verifier sees one buffer, and the call brings two. */
const SECOND_IS_FIRST = Buffer.from('bf12000000000000', 'hex');
const MOV_RSI_RDI = Buffer.from('4889fe', 'hex');
const NOP = Buffer.from('0f1f00', 'hex');

/** As `openUbpf`. */
export function openDpdk() {
  const path = findLibrary(/^librte_bpf\.so/);
  if (!path) return 'DPDK is left out: librte_bpf is not installed';
  const lib = koffi().load(path);
  const load = lib.func('void *rte_bpf_load(void *prm)');
  const destroy = lib.func('void rte_bpf_destroy(void *bpf)');
  const getJit = lib.func('int rte_bpf_get_jit(void *bpf, void *jit)');
  const wrap = (program) => Buffer.concat([SECOND_IS_FIRST, encodeProgram(program)]);
  const make = (code, format) => {
    const prm = Buffer.alloc(PRM_BYTES);
    prm.writeBigUInt64LE(libc().addressOf(code), PRM.instructions);
    prm.writeUInt32LE(code.length / 8, PRM.count);
    prm.writeUInt32LE(ARG_PTR, PRM.type);
    prm.writeBigUInt64LE(BigInt(Math.max(format.packedBytes, format.unpackedBytes)), PRM.size);
    const bpf = load(prm);
    if (!bpf) throw new Error('DPDK refuses the program');
    return bpf;
  };
  return {
    title: 'DPDK',
    routine(program, format, player) {
      const bpf = make(wrap(program), format);
      const jit = new BigUint64Array(2);
      if (getJit(bpf, jit) !== 0 || jit[0] === 0n) throw new Error('DPDK made no machine code');
      const code = Buffer.from(libc().copyFrom(jit[0], Number(jit[1])));
      destroy(bpf);
      const move = code.indexOf(MOV_RSI_RDI);
      if (move === -1 || code.indexOf(MOV_RSI_RDI, move + 1) !== -1)
        throw new Error('DPDK moves its argument in a way that is not known here');
      NOP.copy(code, move);
      const { address } = player.place(code, 'dpdk');
      return { address, bytes: code.length - NOP.length };
    },
    wrap,
    load: (code, format) => destroy(make(code, format)),
  };
}
