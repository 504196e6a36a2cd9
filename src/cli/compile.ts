import { readFileSync } from 'node:fs';
import {
  bkeyFormat,
  bkeyU64s,
  compileFormat,
  defineFormat,
  disassemble,
  emitNative,
  encodeProgram,
  type Format,
  FormatError,
  type FormatSpec,
  listing,
  lower,
} from '../index.js';
import type { Command, CommandLine } from './options.js';

const EMITS = ['bpf', 'x64', 'hex', 'bpf-hex'] as const;

export const compileCommand: Command = {
  name: 'compile',
  summary: 'show a format as BPF or as machine code',
  usage: `usage: bpf-unpack compile --format FILE --emit ${EMITS.join('|')} [--engine bpf|native]
       bpf-unpack compile --bits B,B,… --offsets O,O,… --emit ${EMITS.join('|')} [--engine bpf|native]`,
  help: `Compiles a record format and prints the code.

  --bits B,…      a bcachefs key format: bits of inode, offset, snapshot, size, version.hi, version.lo
  --offsets O,…   their offsets (default: all 0)
  --format FILE   a format as JSON: either {"key_u64s": …, "bits_per_field": […], "field_offset": […]} or what
                  defineFormat takes, with 64-bit numbers as decimal strings; '-' is standard input
  --emit bpf      the BPF program (the default), with its slot numbers
  --emit x64      the x86-64 routine, disassembled
  --emit hex      the bytes of the x86-64 routine
  --emit bpf-hex  the bytes of the BPF program
  --engine NAME   the way to x86-64: bpf (the default: lowered, verified, compiled) or native (emitted directly;
                  it has no BPF, only --emit x64 or hex)`,
  values: ['format', 'bits', 'offsets', 'emit', 'engine'],
  flags: [],
  async run(line, output) {
    if (line.operands.length > 0) line.fail(`compile takes options only, not '${line.operands[0]}'`);
    const format = readFormat(line);
    const emit = line.values.emit ?? 'bpf';
    const engine = line.values.engine ?? 'bpf';
    if (engine !== 'bpf' && engine !== 'native') line.fail(`--engine must be bpf or native, not '${engine}'`);
    if (engine === 'native' && emit.startsWith('bpf'))
      line.fail(`the native engine has no BPF; --emit ${emit} is of --engine bpf`);
    const code = () => (engine === 'native' ? emitNative(format) : compileFormat(format));
    switch (emit) {
      case 'bpf':
        await output.print(numbered(format));
        return 0;
      case 'x64':
        for (const { offset, bytes, text } of listing(code())) {
          await output.print(
            `${offset.toString(16).padStart(4)}: ${Buffer.from(bytes).toString('hex').padEnd(22)} ${text}`,
          );
        }
        return 0;
      case 'hex':
        await output.print(Buffer.from(code().bytes).toString('hex'));
        return 0;
      case 'bpf-hex':
        await output.print(Buffer.from(encodeProgram(lower(format))).toString('hex'));
        return 0;
      default:
        return line.fail(`--emit must be ${EMITS.join(', ')}, not '${emit}'`);
    }
  },
};

/** The program with the number of each instruction's slot. */
function numbered(format: Format): string {
  const program = lower(format);
  return disassemble(program)
    .trimEnd()
    .split('\n')
    .map((text, i) => `${String(program.slotOf(i)).padStart(4)}: ${text}`)
    .join('\n');
}

/** A format that is not legal is wrong usage here. */
function readFormat(line: CommandLine): Format {
  try {
    return formatOf(line);
  } catch (error) {
    if (error instanceof FormatError) return line.fail(`${error.message} [${error.code}]`);
    throw error;
  }
}

function formatOf(line: CommandLine): Format {
  const { format, bits, offsets } = line.values;
  if (format !== undefined && bits !== undefined)
    line.fail('--format and --bits are two ways to say one thing; give one');
  if (format !== undefined) return formatFromJson(readJson(format, line));
  if (bits === undefined) return line.fail('which format? Give --format FILE, or --bits and --offsets');
  const bitsPerField = numberList(bits, '--bits', line).map(Number);
  const fieldOffset =
    offsets === undefined ? bitsPerField.map(() => 0n) : numberList(offsets, '--offsets', line);
  return bkeyFormat({ keyU64s: bkeyU64s(bitsPerField), bitsPerField, fieldOffset });
}

function numberList(text: string, option: string, { fail }: CommandLine): bigint[] {
  return text.split(',').map((word) => {
    if (!/^\s*(0x[0-9a-f]+|\d+)\s*$/i.test(word))
      fail(`${option} is a list of numbers with commas between them, '${word}' is none`);
    const number = BigInt(word.trim());
    return number < 1n << 64n ? number : fail(`${option}: ${word.trim()} needs more than 64 bits`);
  });
}

function readJson(path: string, { fail }: CommandLine): unknown {
  try {
    return JSON.parse(readFileSync(path === '-' ? 0 : path, 'utf8'));
  } catch (error) {
    return fail(`--format ${path}: ${(error as Error).message}`);
  }
}

/** JSON has no 64-bit numbers: offsets and constants are decimal (or 0x…) strings, or numbers while they are exact. */
function formatFromJson(json: unknown): Format {
  const spec = json as Record<string, unknown>;
  if (typeof spec !== 'object' || spec === null || !('bits_per_field' in spec)) {
    return defineFormat(withBigints(json, ['offset', 'value']) as FormatSpec);
  }
  const bitsPerField = spec.bits_per_field as number[];
  const words = Array.isArray(bitsPerField) ? bkeyU64s(bitsPerField) : 0;
  const fieldOffset = Array.isArray(spec.field_offset) ? spec.field_offset.map(toBigint) : [];
  const keyU64s = (spec.key_u64s as number | undefined) ?? words;
  return bkeyFormat({ keyU64s, bitsPerField, fieldOffset: fieldOffset as bigint[] });
}

function withBigints(json: unknown, names: readonly string[]): unknown {
  if (Array.isArray(json)) return json.map((item) => withBigints(item, names));
  if (typeof json !== 'object' || json === null) return json;
  return Object.fromEntries(
    Object.entries(json).map(([name, value]) => [
      name,
      names.includes(name) ? toBigint(value) : withBigints(value, names),
    ]),
  );
}

/** Leaves what is no number as it is: whoever checks the format says what is wrong with it. */
function toBigint(value: unknown): unknown {
  if (typeof value === 'string' && /^(-?\d+|0x[0-9a-f]+)$/i.test(value)) return BigInt(value);
  return Number.isSafeInteger(value) ? BigInt(value as number) : value;
}
