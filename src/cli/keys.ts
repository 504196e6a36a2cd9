import { type BtreeNode, type NodeKey, nodeKeys } from '../bcachefs/index.js';
import { IMAGE_FLAGS, IMAGE_HELP, IMAGE_VALUES, visitNodes } from './images.js';
import type { Command } from './options.js';

export const keysCommand: Command = {
  name: 'keys',
  summary: 'print every key of a bcachefs image, unpacked',
  usage: 'usage: bpf-unpack keys IMAGE… [--btree NAME] [--engine NAME] [--json] [--keep-going]',
  help: `Prints a line for each key of each bset of each btree node, as it is stored: btree, level, device:sector, byte in the
node, type, position (inode:offset:snapshot), size and version. Bsets are not merged and the journal is not replayed.

${IMAGE_HELP}`,
  values: IMAGE_VALUES,
  flags: IMAGE_FLAGS,
  run(line, output) {
    const text = line.flags.has('json') ? keyJson : keyLine;
    return visitNodes(line, async (node) => {
      for (const key of nodeKeys(node)) {
        if (output.closed) return false;
        await output.print(text(node, key));
      }
      return true;
    });
  },
};

function keyLine({ btreeName, level, dev, sector }: BtreeNode, { o, packed, unpacked }: NodeKey): string {
  const key = readKey(unpacked);
  const version =
    key.version_hi === 0 && key.version_lo === '0' ? '' : ` ver ${key.version_hi}:${key.version_lo}`;
  return `${btreeName} ${level} ${dev}:${sector}+${o} ${packed ? 'packed' : 'unpacked'} type ${key.type} ${key.inode}:${key.offset}:${key.snapshot} len ${key.size}${version}`;
}

function keyJson({ btreeName, level, dev, sector }: BtreeNode, { o, packed, unpacked }: NodeKey): string {
  const { u64s, format, needs_whiteout, type, version_hi, version_lo, size, snapshot, offset, inode } =
    readKey(unpacked);
  return JSON.stringify({
    btree_name: btreeName,
    level,
    dev,
    sector,
    o,
    packed,
    unpacked: Buffer.from(unpacked).toString('hex'),
    u64s,
    format,
    needs_whiteout,
    type,
    version_hi,
    version_lo,
    size,
    snapshot,
    offset,
    inode,
  });
}

/** The members of struct bkey, under bcachefs's own names; 64-bit ones in decimal. */
function readKey(unpacked: Uint8Array) {
  const view = new DataView(unpacked.buffer, unpacked.byteOffset, unpacked.length);
  return {
    u64s: view.getUint8(0),
    format: view.getUint8(1) & 0x7f,
    needs_whiteout: view.getUint8(1) >> 7,
    type: view.getUint8(2),
    version_lo: String(view.getBigUint64(4, true)),
    version_hi: view.getUint32(12, true),
    size: view.getUint32(16, true),
    snapshot: view.getUint32(20, true),
    offset: String(view.getBigUint64(24, true)),
    inode: String(view.getBigUint64(32, true)),
  };
}
