// The same BPF in Linux's JIT. The kernel verifies and compiles the program as a function that a few instructions call with two
// maps, and gives the machine code back: it needs nothing of the kernel, so it runs here, in the same loop as all others.

import { closeSync } from 'node:fs';
import { libc } from '../../dist/exec/libc.js';
import { encodeProgram } from '../../dist/index.js';
import { createArray, loadProgram, MAP_FLAG } from '../../dist/kernel/syscall.js';

const OBJ_GET_INFO_BY_FD = 15;
// struct bpf_prog_info, include/uapi/linux/bpf.h.
const INFO_BYTES = 232;
const INFO = { jitedLength: 16, jitedCode: 24, functionCount: 108, functionLengths: 120 };
const MOST_CODE = 65536;
const PSEUDO_MAP_VALUE = 2;
const LEAVE = 0xc9;
const RET = 0xc3;
const JMP = 0xe9;
const INT3 = 0xcc;

/** A format's maps in the kernel, for any number of loads. */
export class KernelLane {
  #maps;

  constructor(format) {
    this.#maps = [
      createArray(Math.max(1, format.unpackedBytes), MAP_FLAG.readwrite),
      createArray(Math.max(1, format.packedBytes), MAP_FLAG.readwrite),
    ];
  }

  /** The program that calls `program` with both maps' values, encoded. */
  wrap(program) {
    const head = Buffer.alloc(7 * 8);
    this.#maps.forEach((map, i) => {
      head[i * 16] = 0x18; // LD_IMM64
      head[i * 16 + 1] = (i + 1) | (PSEUDO_MAP_VALUE << 4);
      head.writeUInt32LE(map, i * 16 + 4);
    });
    Buffer.from('8510000002000000b700000000000000', 'hex').copy(head, 32); // call +2; r0 = 0
    Buffer.from('9500000000000000', 'hex').copy(head, 48); // exit
    return Buffer.concat([head, encodeProgram(program)]);
  }

  /** @returns { code, bytes, thunk }: the kernel's machine code of `program` and its length before a thunk was replaced; throws what the kernel says if it refuses */
  codeOf(program) {
    const { fd, error, log } = loadProgram({ insns: this.wrap(program) }, false);
    if (fd === undefined) throw new Error(`Linux refuses the program (${error}): ${log}`);
    try {
      return lastFunction(fd);
    } finally {
      closeSync(fd);
    }
  }

  /** Loads an encoded program and lets it go again, which is what BPF_PROG_LOAD costs. */
  load(encoded) {
    const { fd, error } = loadProgram({ insns: encoded }, false);
    if (fd === undefined) throw new Error(`Linux refuses the program (${error})`);
    closeSync(fd);
  }

  dispose() {
    for (const map of this.#maps) closeSync(map);
  }
}

/** Of a program's functions the last. */
function lastFunction(fd) {
  const { addressOf, bpf } = libc();
  const info = Buffer.alloc(INFO_BYTES);
  const code = Buffer.alloc(MOST_CODE);
  const lengths = new Uint32Array(2);
  info.writeUInt32LE(code.length, INFO.jitedLength);
  info.writeBigUInt64LE(addressOf(code), INFO.jitedCode);
  info.writeUInt32LE(lengths.length, INFO.functionCount);
  info.writeBigUInt64LE(addressOf(lengths), INFO.functionLengths);
  const attributes = Buffer.alloc(16);
  attributes.writeUInt32LE(fd, 0);
  attributes.writeUInt32LE(INFO_BYTES, 4);
  attributes.writeBigUInt64LE(addressOf(info), 8);
  const result = bpf(OBJ_GET_INFO_BY_FD, attributes);
  if (typeof result === 'string') throw new Error(`the kernel does not show its machine code (${result})`);
  const [first, second] = lengths;
  if (!second) throw new Error('the kernel does not show its machine code');
  return withPlainReturn(code.subarray(first, first + second));
}

/** Where the kernel returns by way of a thunk against speculation, plain `ret` does: the thunk is not mapped here. */
function withPlainReturn(code) {
  const end = code.at(-1) === INT3 ? code.length - 1 : code.length;
  if (code[end - 2] === LEAVE && code[end - 1] === RET) return { code, bytes: code.length, thunk: false };
  const jump = end - 5;
  if (code[jump - 1] !== LEAVE || code[jump] !== JMP)
    throw new Error('the kernel returns in a way that is not known here');
  const plain = Buffer.from(code.subarray(0, jump + 1));
  plain[jump] = RET;
  return { code: plain, bytes: code.length, thunk: true };
}
