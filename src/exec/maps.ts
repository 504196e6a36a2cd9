// What the kernel says is mapped, and what of it is ours: the claims about code memory can be checked from outside of the
// files that make them. Formats: proc_pid_maps(5), proc_pid_smaps(5).

import { readFileSync } from 'node:fs';
import { shown } from '../bytes.js';
import { ArgumentError, EngineError } from '../errors.js';
import { OWN_NAMES } from './own-code.js';

/** One mapping of the process. */
export interface Mapping {
  readonly start: bigint;
  /** The first byte behind it. */
  readonly end: bigint;
  readonly bytes: number;
  /** As the kernel writes them, such as 'r-xs': read, write, execute, and s for shared or p for private. */
  readonly permissions: string;
  readonly writable: boolean;
  readonly executable: boolean;
  /** Byte offset in the file. */
  readonly offset: bigint;
  readonly inode: bigint;
  /** A file, a name in brackets, or nothing. */
  readonly path: string;
  /** Bytes that are in memory now; undefined where it was not asked for. */
  readonly residentBytes: number | undefined;
  /** Of VmFlags, such as 'sl' for sealed; empty where it was not asked for. */
  readonly flags: readonly string[];
}

/** A mapping that breaks what is promised of code memory. */
export interface MemoryFinding {
  readonly code: 'writable' | 'writable-executable';
  readonly mapping: Mapping;
  readonly message: string;
}

export interface MemoryAudit {
  /** The mappings of code memory; addresses that are only reserved for it have no permissions. */
  readonly ours: readonly Mapping[];
  /** Of ours; there should be none. */
  readonly findings: readonly MemoryFinding[];
  /** What others have mapped both writable and executable: V8 of Node 20 does. */
  readonly others: readonly Mapping[];
}

/** What memfds of code have been called; a sealed mapping outlives its arena. */
const names = new Set<string>(['bpf-unpack', ...Object.values(OWN_NAMES)]);
/** Where the addresses for code begin and end. */
const regions = new Map<bigint, bigint>();

export function enterRegion(name: string, address: bigint, length: number): void {
  names.add(name);
  regions.set(address, address + BigInt(length));
}

export function leaveRegion(address: bigint): void {
  regions.delete(address);
}

const inRegion = ({ start, end }: Mapping): boolean =>
  [...regions].some(([first, behind]) => start < behind && end > first);

/**
 * Looks for mappings of code memory that are writable.
 * @param options.names of arenas that other threads made, besides those that this one did
 * @throws EngineError 'E-SYSTEM' where there is no /proc/self/smaps, 'E-MAPS' if it is not understood
 */
export function auditMemory(options: { readonly names?: readonly string[] } = {}): MemoryAudit {
  const known = new Set([...names, ...takeNames(options?.names ?? [])]);
  const all = readMaps({ resident: true });
  const ours = all.filter((mapping) => known.has(nameOf(mapping.path)) || inRegion(mapping));
  return {
    ours,
    findings: ours.filter(({ writable }) => writable).map(findingOf),
    others: all.filter((mapping) => mapping.writable && mapping.executable && !ours.includes(mapping)),
  };
}

function takeNames(given: readonly string[]): string[] {
  if (!Array.isArray(given)) throw new ArgumentError('A-TYPE', 'names must be an array of names of arenas');
  return Array.from(given, (name) => {
    if (typeof name === 'string') return name;
    throw new ArgumentError('A-TYPE', `names must be strings, got ${shown(name)}`);
  });
}

/** The name of a memfd, or of anonymous memory that was given one; nothing for other mappings. */
function nameOf(path: string): string {
  return /^(?:\/memfd:(.*) \(deleted\)|\[anon(?:_shmem)?:(.*)\])$/s.exec(path)?.slice(1).find(Boolean) ?? '';
}

function findingOf(mapping: Mapping): MemoryFinding {
  const { executable, permissions, path } = mapping;
  const place = `${path} at ${hex(mapping.start)}, ${mapping.bytes} bytes, is mapped ${permissions}`;
  return executable
    ? { code: 'writable-executable', mapping, message: `${place}: writable and executable at once` }
    : { code: 'writable', mapping, message: `${place}: code can be changed through it` };
}

/**
 * The mappings of this process, in the order of their addresses.
 * @param options.resident asks for residentBytes and flags too, which takes the kernel a walk through the page tables
 * @throws EngineError as `auditMemory`
 */
export function readMaps({ resident = false }: { readonly resident?: boolean } = {}): Mapping[] {
  const file = resident ? '/proc/self/smaps' : '/proc/self/maps';
  try {
    return parseMaps(readFileSync(file, 'latin1'));
  } catch (cause) {
    if (cause instanceof EngineError) throw cause;
    const message = `${file} cannot be read: ${(cause as Error).message}; is /proc mounted?`;
    throw new EngineError('E-SYSTEM', message, {}, { cause });
  }
}

const HEADER =
  /^([0-9a-f]+)-([0-9a-f]+) ([r-][w-][x-][sp]) ([0-9a-f]+) [0-9a-f]+:[0-9a-f]+ (\d+)(?: +(.*))?$/s;
const PROPERTY = /^(\w+): *(.*)$/s;

/**
 * Reads the text of /proc/PID/maps or /proc/PID/smaps.
 * @throws EngineError 'E-MAPS' naming the line that is neither a mapping nor a property of one
 */
export function parseMaps(text: string): Mapping[] {
  const mappings: (Mapping & { residentBytes: number | undefined; flags: readonly string[] })[] = [];
  for (const [i, line] of text.split('\n').entries()) {
    const header = HEADER.exec(line);
    const property = PROPERTY.exec(line);
    const last = mappings.at(-1);
    if (header) mappings.push(mappingOf(header));
    else if (property?.[1] === 'Rss' && last) last.residentBytes = Number.parseInt(property[2]!, 10) * 1024;
    else if (property?.[1] === 'VmFlags' && last) last.flags = property[2]!.trim().split(' ');
    else if (line !== '' && !(property && last)) {
      throw new EngineError('E-MAPS', `line ${i + 1} is not of a memory map: ${JSON.stringify(line)}`, {
        line: i + 1,
      });
    }
  }
  return mappings;
}

function mappingOf([, start, end, permissions, offset, inode, path = '']: RegExpExecArray) {
  const from = BigInt(`0x${start}`);
  const to = BigInt(`0x${end}`);
  return {
    start: from,
    end: to,
    bytes: Number(to - from),
    permissions: permissions!,
    writable: permissions![1] === 'w',
    executable: permissions![2] === 'x',
    offset: BigInt(`0x${offset}`),
    inode: BigInt(inode!),
    path,
    residentBytes: undefined,
    flags: [],
  };
}

const hex = (address: bigint): string => `0x${address.toString(16)}`;
