// What can be asked of an arena, and what it tells of itself.

import { shown } from '../bytes.js';
import { ArgumentError } from '../errors.js';
import { STRATEGIES, type Strategy } from './pages.js';

const GRANULES = [16, 64] as const;
const CHECKS = ['compare', 'decode'] as const;

export interface ArenaOptions {
  /** Of the memfd, as it shows in /proc/PID/maps: 1 to 64 letters, digits, '.', '_' or '-'. Default: 'bpf-unpack'. */
  readonly name?: string;
  /** Routines start at multiples of so many bytes. Default: 16; with 64, no two of them have bytes in one cache line. */
  readonly granule?: (typeof GRANULES)[number];
  /**
   * How code gets to pages that run. Default: 'memfd', through a file's descriptor, so that no mapping of it is ever writable.
   * 'mprotect' is for systems that refuse that: its pages are writable while code is written to them, and then not
   * executable; such an arena cannot be shared with other threads.
   */
  readonly strategy?: Strategy;
  /** Code is read back and compared before it can be called; with 'decode', disassembled and compared as well. Default: 'compare'. */
  readonly check?: (typeof CHECKS)[number];
  /** Names of routines for profilers are added to a file: true for where perf looks, /tmp/perf-PID.map, or a path. Default: none are. */
  readonly symbols?: true | string | undefined;
}

export interface ArenaStats {
  readonly routines: number;
  /** Routines that needed no memory of their own, because the same code was there. */
  readonly sharing: number;
  /** Bytes of machine code placed. */
  readonly codeBytes: number;
  /** Bytes of granules in use: code and the padding behind it. */
  readonly usedBytes: number;
  /** Bytes of padding: usedBytes - codeBytes. */
  readonly wastedBytes: number;
  /** Bytes that code can be placed in without growing, and the runs that they are in. */
  readonly freeBytes: number;
  readonly fragments: number;
  /** Bytes of freed and replaced code that some thread may still be in. */
  readonly retiredBytes: number;
  readonly mappedBytes: number;
  readonly chunks: number;
  /** Bytes of addresses that the arena can grow to. */
  readonly reservedBytes: number;
  /** codeBytes / mappedBytes; 0 when nothing is mapped. */
  readonly occupancy: number;
}

/** A piece of an arena that is mapped. */
export interface ArenaChunk {
  readonly address: bigint;
  readonly length: number;
  /** Whether its mapping can never be changed any more, nor unmapped. */
  readonly sealed: boolean;
  /** The code that begins in it, ascending; the last may reach into the next chunk. */
  readonly extents: readonly ArenaExtent[];
}

export interface ArenaExtent {
  readonly address: bigint;
  /** Bytes of code. */
  readonly length: number;
  /** That of the code; of the first that was placed, where several routines share it. */
  readonly name: string;
}

/**
 * The options, each read once, with the defaults filled in.
 * @throws ArgumentError naming the option
 */
export function takeOptions(options: ArenaOptions | undefined): Required<ArenaOptions> {
  const { name = 'bpf-unpack', granule = 16, strategy = 'memfd', check = 'compare', symbols } = options ?? {};
  if (typeof name !== 'string' || !/^[\w.-]{1,64}$/.test(name)) {
    throw new ArgumentError(
      'A-NAME',
      "an arena's name is 1 to 64 letters, digits, '.', '_' or '-': it names the mapping",
    );
  }
  requireOneOf(granule, GRANULES, 'granule');
  requireOneOf(strategy, STRATEGIES, 'strategy');
  requireOneOf(check, CHECKS, 'check');
  return { name, granule, strategy, check, symbols };
}

function requireOneOf(value: unknown, allowed: readonly unknown[], what: string): void {
  if (!allowed.includes(value))
    throw new ArgumentError('A-OPTION', `${what} must be ${allowed.join(' or ')}, got ${shown(value)}`);
}
