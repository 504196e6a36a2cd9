// bpf(2): the commands that load a program, ask about it and run it on memory. Layouts of the attributes from union
// bpf_attr and of the answers from struct bpf_prog_info, numbers from include/uapi/linux/bpf.h.

import { closeSync } from 'node:fs';
import { EngineError } from '../errors.js';
import { libc } from '../exec/libc.js';

const COMMAND = {
  mapCreate: 0,
  mapLookup: 1,
  mapUpdate: 2,
  progLoad: 5,
  progRun: 10,
  objectInfo: 15,
  btfLoad: 18,
} as const;
const MAP_TYPE_ARRAY = 2;
const PROG_TYPE_SYSCALL = 31;
const PROG_FLAG_SLEEPABLE = 1 << 4;
const ATTRIBUTE_BYTES = 96;
const FUNC_INFO_BYTES = 8;
const INFO_BYTES = 224;
const LOG_LEVEL = { failingPath: 1, allPaths: 2 } as const;
const LOG_BYTES = 1 << 20;
const MAX_INTERRUPTIONS = 10;
/** Errors that say nothing of the program. */
const NO_VERDICT = new Set(['EPERM', 'ENOSYS', 'EAGAIN', 'ENOMEM', 'EMFILE', 'ENFILE']);
const LICENCE = Buffer.from('GPL\0');
const FIRST_KEY = new Uint8Array(4);

/** What programs may not do with a map's values. */
export const MAP_FLAG = { readwrite: 0, read: 1 << 7, write: 1 << 8 } as const;

/** An array of one value of that many bytes; returns its descriptor. */
export function createArray(bytes: number, flags: number): number {
  const attributes = new Attributes();
  attributes.u32(0, MAP_TYPE_ARRAY).u32(4, FIRST_KEY.length).u32(8, bytes).u32(12, 1).u32(16, flags);
  return attributes.need(COMMAND.mapCreate, 'making a map');
}

export function writeValue(map: number, value: Uint8Array): void {
  element(map, value).need(COMMAND.mapUpdate, 'writing a map');
}

export function readValue(map: number, into: Uint8Array): void {
  element(map, into).need(COMMAND.mapLookup, 'reading a map');
}

const element = (map: number, value: Uint8Array): Attributes =>
  new Attributes().u32(0, map).pointer(8, FIRST_KEY).pointer(16, value);

/** Encoded instructions, with or without types for their functions. */
export interface Code {
  readonly insns: Uint8Array;
  readonly types?: {
    readonly btf: Uint8Array;
    /** An array of struct bpf_func_info: the slot and the BTF type of each function. */
    readonly functions: Uint8Array;
  };
}

/** What the kernel's verifier said of a program: a descriptor, or why not. */
export type Verdict =
  | { readonly fd: number; readonly microseconds: number; readonly log: string }
  | { readonly fd?: undefined; readonly error: string; readonly log: string };

/**
 * Loads a program. The time is that of the system call: check, rewriting and compilation.
 * @param withLog whether an accepted program has a log; a refused one always has. A second attempt writes it, because
 *   it costs more than the proof
 */
export function loadProgram({ insns, types }: Code, withLog: boolean): Verdict {
  const btf = types && loadBtf(types.btf);
  try {
    const attributes = new Attributes()
      .u32(0, PROG_TYPE_SYSCALL)
      .u32(4, insns.length / 8)
      .pointer(8, insns)
      .pointer(16, LICENCE)
      .u32(44, PROG_FLAG_SLEEPABLE);
    if (types && btf !== undefined) {
      attributes
        .u32(72, btf)
        .u32(76, FUNC_INFO_BYTES)
        .pointer(80, types.functions)
        .u32(88, types.functions.length / FUNC_INFO_BYTES);
    }
    return load(attributes, withLog);
  } finally {
    if (btf !== undefined) close(btf);
  }
}

function load(attributes: Attributes, withLog: boolean): Verdict {
  const { result, microseconds } = timedLoad(attributes);
  if (typeof result === 'string' && NO_VERDICT.has(result)) throw unavailable('loading a program', result);
  if (typeof result === 'string')
    return { error: result, log: loadForLog(attributes, LOG_LEVEL.failingPath) };
  return { fd: result, microseconds, log: withLog ? loadForLog(attributes, LOG_LEVEL.allPaths) : '' };
}

function timedLoad(attributes: Attributes): { result: number | string; microseconds: number } {
  // A signal interrupts the verifier.
  for (let left = MAX_INTERRUPTIONS; ; left--) {
    const begun = process.hrtime.bigint();
    const result = attributes.call(COMMAND.progLoad);
    const microseconds = Number(process.hrtime.bigint() - begun) / 1000;
    if (result !== 'EAGAIN' || left === 0) return { result, microseconds };
  }
}

/** The end of what the verifier writes, if it writes more than there is room for. */
function loadForLog(attributes: Attributes, level: number): string {
  const log = new Uint8Array(LOG_BYTES);
  const result = attributes.u32(24, level).u32(28, log.length).pointer(32, log).call(COMMAND.progLoad);
  if (typeof result === 'number') close(result);
  return Buffer.from(log.subarray(0, log.indexOf(0))).toString();
}

function loadBtf(btf: Uint8Array): number {
  return new Attributes().pointer(0, btf).u32(16, btf.length).need(COMMAND.btfLoad, 'loading types');
}

export interface ProgramInfo {
  /** Instructions that the verifier walked, over all paths. */
  readonly walked: number;
  /** Bytes of machine code of each function, in the order of their instructions; empty where the kernel's JIT is off. */
  readonly functionBytes: readonly number[];
}

export function programInfo(fd: number): ProgramInfo {
  const info = new Uint8Array(INFO_BYTES);
  const view = new DataView(info.buffer);
  const ask = () =>
    new Attributes()
      .u32(0, fd)
      .u32(4, info.length)
      .pointer(8, info)
      .need(COMMAND.objectInfo, 'describing a program');
  ask();
  const walked = view.getUint32(216, true);
  const compiled = view.getUint32(16, true) > 0;
  const lengths = new Uint8Array(4 * (compiled ? view.getUint32(108, true) : 0));
  if (lengths.length > 0) {
    info.fill(0);
    view.setUint32(108, lengths.length / 4, true);
    view.setBigUint64(120, libc().addressOf(lengths), true);
    ask();
  }
  return { walked, functionBytes: [...new Uint32Array(lengths.buffer)] };
}

/** Runs a loaded program once. */
export function runProgram(fd: number): void {
  new Attributes().u32(0, fd).need(COMMAND.progRun, 'running a program');
}

export const close = (fd: number): void => closeSync(fd);

class Attributes {
  readonly #bytes = new Uint8Array(ATTRIBUTE_BYTES);
  readonly #view = new DataView(this.#bytes.buffer);

  u32(at: number, value: number): this {
    this.#view.setUint32(at, value, true);
    return this;
  }

  /** The address of a buffer, which the caller keeps until the call. */
  pointer(at: number, buffer: Uint8Array): this {
    this.#view.setBigUint64(at, libc().addressOf(buffer), true);
    return this;
  }

  call(command: number): number | string {
    return libc().bpf(command, this.#bytes);
  }

  need(command: number, what: string): number {
    const result = this.call(command);
    if (typeof result === 'string') throw unavailable(what, result);
    return result;
  }
}

function unavailable(what: string, error: string): EngineError {
  const advice =
    'bpf(2) needs CAP_BPF and CAP_PERFMON, Linux 5.14 (6.8 for global functions), and no seccomp filter against it';
  return new EngineError('E-KERNEL', `the kernel refused ${what} (${error}); ${advice}`);
}
