import { type BtreeNode, packedFields } from '../bcachefs/index.js';
import { formatText, IMAGE_FLAGS, IMAGE_HELP, IMAGE_USAGE, IMAGE_VALUES, visitNodes } from './images.js';
import type { Command } from './options.js';

export const nodesCommand: Command = {
  name: 'nodes',
  summary: 'list the btree nodes of a bcachefs image, with their formats',
  usage: `usage: bpf-unpack nodes ${IMAGE_USAGE}`,
  help: `Prints a line for each btree node: btree, level, device:sector, keys, bytes of machine code of the routine that unpacks
them, and the key format: words of a packed key, then bits+offset of inode, offset, snapshot, size, version.hi and
version.lo.

${IMAGE_HELP}`,
  values: IMAGE_VALUES,
  flags: IMAGE_FLAGS,
  async run(line, output) {
    const json = line.flags.has('json');
    let lines = 0;
    return visitNodes(line, async (node) => {
      if (lines++ === 0 && !json) await output.print(HEADING);
      await output.print(json ? JSON.stringify(nodeObject(node)) : nodeLine(node));
      return !output.closed;
    });
  },
};

function columns(btree: string, level: string, place: string, keys: string, code: string): string {
  return `${btree.padEnd(20)} ${level.padStart(5)} ${place.padStart(14)} ${keys.padStart(7)} ${code.padStart(5)}`;
}

const HEADING = `${columns('btree', 'level', 'dev:sector', 'keys', 'code')}  format`;

function nodeLine(node: BtreeNode): string {
  const { btreeName, level, dev, sector, unpacker } = node;
  const code = unpacker.codeBytes === undefined ? '-' : String(unpacker.codeBytes);
  return `${columns(btreeName, String(level), `${dev}:${sector}`, String(node.keyCount), code)}  ${formatText(node)}`;
}

function nodeObject(node: BtreeNode): object {
  const { btreeName, level, dev, sector, format } = node;
  const fields = packedFields(format);
  return {
    btree_name: btreeName,
    level,
    dev,
    sector,
    format: {
      key_u64s: format.keyU64s,
      bits_per_field: fields.map(({ bits }) => bits),
      field_offset: fields.map(({ offset }) => String(offset)),
    },
    keys: node.keyCount,
  };
}
