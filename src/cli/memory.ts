// What the routines of an image take of executable memory, and what the kernel says of that memory.

import { fileURLToPath } from 'node:url';
import {
  type ArenaChunk,
  type ArenaStats,
  auditMemory,
  CodeArena,
  compileFormat,
  type Format,
  type Mapping,
  type MemoryAudit,
} from '../index.js';
import { formatText, visitNodes } from './images.js';
import { type Command, type CommandLine, EXIT } from './options.js';
import type { Output } from './output.js';

const SAMPLE = fileURLToPath(new URL('../../sample/mini.img.zst', import.meta.url));
const PAGE_BYTES = 4096;
/** Of the picture: bytes that a character stands for, and characters of a line. */
const CELL_BYTES = 256;
const CELLS = 64;
/** How full a cell is, from nothing on. */
const SHADES = ' .:+#';
const SHOWN_CHUNKS = 8;
const GRANULES = ['16', '64'] as const;

export const memoryCommand: Command = {
  name: 'memory',
  summary: 'place the routines of an image, and show the memory that they are in',
  usage: 'usage: bpf-unpack memory [IMAGE…] [--granule 16|64] [--btree NAME] [--json] [--keep-going]',
  help: `Makes a routine for every key format of a bcachefs image, or of the sample that comes with it, in one arena. Prints the
mappings that hold code, as the kernel tells them, with their permissions; what is wrong with them, which should be
nothing; bytes in use, beside a page for each routine; and a picture of each chunk.

  --granule BYTES     where routines begin: at multiples of 16 (the default) or 64, a cache line
  --btree NAME        only this btree
  --json              one JSON object
  --keep-going        report damage and read what else can be read
  --max-unpacked SIZE how far a compressed image may unpack (default 16G)
  --max-kept SIZE     how much of it may be other than zeros, and so in memory (default 1G)`,
  values: ['granule', 'btree', 'max-unpacked', 'max-kept'],
  flags: ['json', 'keep-going'],
  async run(line, output) {
    const granule = GRANULES.find((value) => value === (line.values.granule ?? '16'));
    if (!granule) line.fail(`--granule must be ${GRANULES.join(' or ')}, not '${line.values.granule}'`);
    const { formats, nodes, code } = await formatsOf(line);
    const arena = new CodeArena({ granule: granule === '64' ? 64 : 16 });
    try {
      arena.placeAll(formats.map(compileFormat));
      const memory = { nodes, stats: arena.stats(), audit: auditMemory(), chunks: arena.layout() };
      if (line.flags.has('json')) await output.print(json(memory));
      else await print(memory, output);
      return memory.audit.findings.length > 0 ? EXIT.unreadable : code;
    } finally {
      arena.dispose();
    }
  },
};

interface Memory {
  readonly nodes: number;
  readonly stats: ArenaStats;
  readonly audit: MemoryAudit;
  readonly chunks: readonly ArenaChunk[];
}

/** Read by the engine that needs no code memory: what is shown is the arena's alone. */
async function formatsOf(line: CommandLine): Promise<{ formats: Format[]; nodes: number; code: number }> {
  const formats = new Map<string, Format>();
  let nodes = 0;
  const operands = line.operands.length > 0 ? line.operands : [SAMPLE];
  const values = { ...line.values, engine: 'reference' };
  const code = await visitNodes({ ...line, operands, values }, async (node) => {
    nodes++;
    formats.set(formatText(node), node.format);
    return true;
  });
  return { formats: [...formats.values()], nodes, code };
}

async function print({ nodes, stats, audit, chunks }: Memory, output: Output): Promise<void> {
  await output.print(`${stats.routines} routines, for the formats of ${nodes} nodes\n`);
  await output.print('mappings of code memory, as the kernel tells them');
  for (const mapping of audit.ours) await output.print(mappingLine(mapping));
  for (const { message } of audit.findings) await output.print(`FOUND: ${message}`);
  if (audit.findings.length === 0)
    await output.print('found: none is writable, and so none writable and executable');
  const bytes = audit.others.reduce((sum, mapping) => sum + mapping.bytes, 0);
  await output.print(
    `not ours: ${audit.others.length} mappings of ${size(bytes)} that are writable and executable (V8's)\n`,
  );
  for (const row of statsRows(stats)) await output.print(row);
  for (const chunk of chunks.slice(0, SHOWN_CHUNKS)) await printChunk(chunk, output);
  if (chunks.length > SHOWN_CHUNKS) await output.print(`\nand ${chunks.length - SHOWN_CHUNKS} chunks more`);
}

function mappingLine({ start, end, bytes, permissions, residentBytes, flags, path }: Mapping): string {
  const range = `${start.toString(16)}-${end.toString(16)}`;
  const state = permissions.startsWith('---')
    ? 'addresses reserved'
    : `${size(residentBytes!)} resident, ${flags.includes('mw') ? 'can be made writable' : 'can never be made writable'}`;
  return `  ${range}  ${permissions}  ${size(bytes).padStart(9)}  ${state}  ${path}`.trimEnd();
}

function statsRows(stats: ArenaStats): string[] {
  const { routines, sharing, codeBytes, usedBytes, mappedBytes, freeBytes, fragments, chunks } = stats;
  const pages = routines * PAGE_BYTES;
  return [
    ['bytes of code', count(codeBytes)],
    [
      'bytes in use',
      `${count(usedBytes)}, ${percent(codeBytes, usedBytes)} of them code, ${percent(usedBytes, mappedBytes)} of what is mapped`,
    ],
    ['routines that share', count(sharing)],
    ['bytes free', `${count(freeBytes)} in ${several(fragments, 'run')}`],
    ['bytes mapped', `${count(mappedBytes)} in ${several(chunks, 'chunk')}`],
    [
      'with a page each',
      `${count(pages)}, ${(pages / Math.max(1, usedBytes)).toFixed(0)} times the bytes in use`,
    ],
  ].map(([title, figure]) => `${title!.padEnd(20)} ${figure}`);
}

async function printChunk(chunk: ArenaChunk, output: Output): Promise<void> {
  const title = `chunk at ${chunk.address.toString(16)}${chunk.sealed ? ', sealed' : ''}`;
  await output.print(
    `\n${title}: ${chunk.extents.length} routines; a character is ${CELL_BYTES} bytes, '#' full of code`,
  );
  const cells = cellsOf(chunk);
  const last = cells.findLastIndex((cell) => cell > 0);
  for (let at = 0; at <= last; at += CELLS) {
    const text = cells
      .slice(at, at + CELLS)
      .map(shade)
      .join('');
    await output.print(`${(at * CELL_BYTES).toString(16).padStart(6, '0')} |${text}|`);
  }
}

/** Bytes of code in each cell. */
function cellsOf({ address, length, extents }: ArenaChunk): number[] {
  const cells = new Array<number>(Math.ceil(length / CELL_BYTES)).fill(0);
  for (const extent of extents) {
    const start = Number(extent.address - address);
    const end = Math.min(start + extent.length, length);
    for (let at = start; at < end; ) {
      const cell = Math.floor(at / CELL_BYTES);
      const next = Math.min(end, (cell + 1) * CELL_BYTES);
      cells[cell]! += next - at;
      at = next;
    }
  }
  return cells;
}

const shade = (bytes: number): string => SHADES[Math.ceil((bytes / CELL_BYTES) * (SHADES.length - 1))]!;

function json({ nodes, stats, audit, chunks }: Memory): string {
  const address = (_: string, value: unknown) =>
    typeof value === 'bigint' ? `0x${value.toString(16)}` : value;
  const { ours, findings, others } = audit;
  return JSON.stringify(
    { nodes, stats, pageEachBytes: stats.routines * PAGE_BYTES, mappings: ours, findings, others, chunks },
    address,
  );
}

const count = (number: number): string => number.toLocaleString('en-US');
const several = (number: number, what: string): string =>
  `${count(number)} ${what}${number === 1 ? '' : 's'}`;
const percent = (part: number, whole: number): string =>
  `${whole === 0 ? 0 : ((part / whole) * 100).toFixed(1)} %`;

function size(bytes: number): string {
  return bytes >= 2 ** 20 ? `${(bytes / 2 ** 20).toFixed(0)} MiB` : `${(bytes / 2 ** 10).toFixed(0)} KiB`;
}
