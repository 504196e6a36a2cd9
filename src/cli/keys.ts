import { type BtreeNode, type NodeKey, nodeKeys, readBkey } from '../bcachefs/index.js';
import { IMAGE_FLAGS, IMAGE_HELP, IMAGE_USAGE, IMAGE_VALUES, visitNodes } from './images.js';
import type { Command } from './options.js';

export const keysCommand: Command = {
  name: 'keys',
  summary: 'print every key of a bcachefs image, unpacked',
  usage: `usage: bpf-unpack keys ${IMAGE_USAGE}`,
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
  const { type, inode, offset, snapshot, size, versionHi, versionLo } = readBkey(unpacked);
  const version = versionHi === 0 && versionLo === 0n ? '' : ` ver ${versionHi}:${versionLo}`;
  return `${btreeName} ${level} ${dev}:${sector}+${o} ${packed ? 'packed' : 'unpacked'} type ${type} ${inode}:${offset}:${snapshot} len ${size}${version}`;
}

/** The members of struct bkey under bcachefs's own names; 64-bit ones in decimal, because JSON has no such numbers. */
function keyJson({ btreeName, level, dev, sector }: BtreeNode, { o, packed, unpacked }: NodeKey): string {
  const key = readBkey(unpacked);
  return JSON.stringify({
    btree_name: btreeName,
    level,
    dev,
    sector,
    o,
    packed,
    unpacked: Buffer.from(unpacked).toString('hex'),
    u64s: key.u64s,
    format: key.format,
    needs_whiteout: key.needsWhiteout,
    type: key.type,
    version_hi: key.versionHi,
    version_lo: String(key.versionLo),
    size: key.size,
    snapshot: key.snapshot,
    offset: String(key.offset),
    inode: String(key.inode),
  });
}
