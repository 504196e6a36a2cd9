// What `nodes` and `keys` have in common: the images of a file system, its nodes, and what is said of damage.

import {
  type BtreeNode,
  type Device,
  openDevice,
  openFilesystem,
  packedFields,
  type UnpackLimits,
} from '../bcachefs/index.js';
import { ImageError } from '../errors.js';
import { bytesOption, type CommandLine, EXIT, engineOption } from './options.js';

export const IMAGE_VALUES = ['engine', 'btree', 'max-unpacked', 'max-kept'];
export const IMAGE_FLAGS = ['json', 'keep-going'];

export const IMAGE_USAGE = `IMAGE… [--btree NAME] [--engine NAME] [--json] [--keep-going]
       [--max-unpacked SIZE] [--max-kept SIZE]`;

export const IMAGE_HELP = `IMAGE is a bcachefs image or block device; name all devices of one file system. Images compressed with zstd or
gzip are read directly.

  --btree NAME        only this btree
  --engine NAME       bpf, native, interpreter, reference, or auto (the default: bpf where it runs)
  --json              a JSON object a line
  --keep-going        report damage and read what else can be read
  --max-unpacked SIZE how far a compressed image may unpack (default 16G)
  --max-kept SIZE     how much of it may be other than zeros, and so in memory (default 1G)`;

/**
 * Visits every node of the images that the command line names.
 * @returns the exit code
 */
export async function visitNodes(
  line: CommandLine,
  visit: (node: BtreeNode) => Promise<boolean>,
): Promise<number> {
  if (line.operands.length === 0) line.fail('which IMAGE?');
  const engine = engineOption(line);
  const keptBytes = bytesOption(line, 'max-kept');
  const totalBytes = bytesOption(line, 'max-unpacked');
  const limits = {
    ...(keptBytes !== undefined && { keptBytes }),
    ...(totalBytes !== undefined && { totalBytes }),
  };
  let damaged = false;
  const devices: Device[] = [];
  try {
    for (const path of line.operands) devices.push(await openImage(path, limits));
    const filesystem = await openFilesystem(devices, {
      engine,
      keepGoing: line.flags.has('keep-going'),
      onDamage(error, recovered) {
        damaged ||= !recovered;
        const consequence = recovered ? ' (another copy was read)' : '';
        process.stderr.write(`bpf-unpack: ${error.message} [${error.code}]${consequence}\n`);
      },
    });
    try {
      const { btree } = line.values;
      if (btree !== undefined && !filesystem.hasBtree(btree))
        line.fail(`there is no btree called '${btree}'`);
      for (const node of filesystem.nodes(btree === undefined ? {} : { btree })) {
        if (!(await visit(node))) break;
      }
    } finally {
      filesystem.close();
    }
  } finally {
    for (const device of devices) device.close();
  }
  return damaged ? EXIT.unreadable : EXIT.ok;
}

async function openImage(path: string, limits: Partial<UnpackLimits>): Promise<Device> {
  try {
    return await openDevice(path, limits);
  } catch (error) {
    if (!(error instanceof ImageError) || error.code !== 'unpack_limit') throw error;
    const message = `${error.message} (--max-kept and --max-unpacked raise the limits)`;
    throw new ImageError(error.code, message, error.where, { cause: error });
  }
}

/** `2 words: 32 29 32 11 0 0`, with the offsets that are not 0 behind a plus sign. */
export function formatText({ format }: BtreeNode): string {
  const fields = packedFields(format);
  return `${format.keyU64s}: ${fields.map(({ bits, offset }) => (offset === 0n ? `${bits}` : `${bits}+${offset}`)).join(' ')}`;
}
