// bpf(2): the commands that run a program on memory. Layouts of the attributes from union bpf_attr, numbers from
// include/uapi/linux/bpf.h.

import { closeSync } from 'node:fs';
import { EngineError } from '../errors.js';
import { libc } from '../exec/libc.js';

const COMMAND = { mapCreate: 0, mapLookup: 1, mapUpdate: 2, progLoad: 5, progRun: 10 };
const MAP_TYPE_ARRAY = 2;
const PROG_TYPE_SYSCALL = 31;
const PROG_FLAG_SLEEPABLE = 1 << 4;
const ATTRIBUTE_BYTES = 80;
const LOG_BYTES = 1 << 20;
const MAX_INTERRUPTIONS = 10;
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

/** What the kernel's verifier said of a program: a descriptor, or why not. */
export type Verdict =
  | { readonly fd: number }
  | { readonly fd?: undefined; readonly error: string; readonly log: string };

/** Loads a program of encoded instructions. The log is written by a second attempt, because it costs more than the proof. */
export function loadProgram(insns: Uint8Array): Verdict {
  const attributes = new Attributes()
    .u32(0, PROG_TYPE_SYSCALL)
    .u32(4, insns.length / 8)
    .pointer(8, insns)
    .pointer(16, LICENCE)
    .u32(44, PROG_FLAG_SLEEPABLE);
  let fd = attributes.call(COMMAND.progLoad);
  // A signal interrupts the verifier.
  for (let left = MAX_INTERRUPTIONS; fd === 'EAGAIN' && left > 0; left--)
    fd = attributes.call(COMMAND.progLoad);
  if (typeof fd === 'number') return { fd };
  if (fd === 'EPERM' || fd === 'ENOSYS') throw unavailable('loading a program', fd);
  const log = new Uint8Array(LOG_BYTES);
  const second = attributes.u32(24, 1).u32(28, log.length).pointer(32, log).call(COMMAND.progLoad);
  if (typeof second === 'number') return { fd: second };
  return { error: fd, log: Buffer.from(log.subarray(0, log.indexOf(0))).toString() };
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
  const advice = 'bpf(2) needs CAP_BPF and CAP_PERFMON, Linux 5.14, and no seccomp filter against it';
  return new EngineError('E-KERNEL', `the kernel refused ${what} (${error}); ${advice}`);
}
