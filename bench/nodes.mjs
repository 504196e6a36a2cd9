// Real work: every bset of every node of bcachefs images, unpacked as a file system does after it has read them. Bsets with
// a key that is stored unpacked are left out, because C without checks would not see it.

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { openDevice, openFilesystem } from '../dist/bcachefs/index.js';
import { BKEY_BYTES } from '../dist/index.js';
import { NodeLanes } from './lanes/node-lanes.mjs';
import { race } from './race.mjs';
import { nextKey } from './work.mjs';

const IMAGES = {
  mini: ['../sample/mini.img.zst'],
  'mini-synth': ['../test/vectors/bcachefs/mini-synth.img.zst'],
  'v1.4': ['../test/vectors/bcachefs/v1.4.img.zst'],
  multi: ['../test/vectors/bcachefs/multi-0.img.zst', '../test/vectors/bcachefs/multi-1.img.zst'],
};
/** Of a key's second byte; 0 for a packed key. */
const FORMAT_BITS = 0x7f;

/** @returns { image, nodes, bsets, keys, leftOut, formats, rows } for each image that is here */
export async function realNodes(tools, { random, rounds, images, say }) {
  const results = [];
  for (const [image, files] of Object.entries(IMAGES).slice(0, images)) {
    const paths = files.map((file) => fileURLToPath(new URL(file, import.meta.url)));
    if (!paths.every((path) => existsSync(path))) {
      tools.missing.push(`the nodes of ${image} are left out: the image is not here`);
      continue;
    }
    say(`the nodes of ${image}`);
    results.push({ image, ...measure(tools, await readNodes(paths), random, rounds) });
  }
  return results;
}

async function readNodes(paths) {
  const devices = await Promise.all(paths.map((path) => openDevice(path)));
  const filesystem = await openFilesystem(devices, { engine: 'reference' });
  const nodes = [...filesystem.nodes()];
  filesystem.close();
  for (const device of devices) device.close();
  return nodes;
}

function measure(tools, nodes, random, rounds) {
  const all = nodes.flatMap((node) => node.bsets.map((bset) => ({ ...bset, node })));
  const bsets = all.filter((bset) => bset.keyCount > 0 && isPacked(bset));
  const keys = bsets.reduce((sum, { keyCount }) => sum + keyCount, 0);
  const out = new Uint8Array(keys * BKEY_BYTES);
  let at = 0;
  for (const bset of bsets) {
    bset.out = out.subarray(at, at + bset.keyCount * BKEY_BYTES);
    at += bset.out.length;
  }
  const want = Buffer.concat(
    bsets.map(({ unpacked, keyCount }) => unpacked.subarray(0, keyCount * BKEY_BYTES)),
  );
  const lanes = new NodeLanes(tools, { bsets, keys, out, want });
  return {
    nodes: nodes.length,
    bsets: bsets.length,
    keys,
    leftOut: all.length - bsets.length,
    formats: lanes.formatCount,
    rows: race(tools, lanes.all(), { rounds, random }),
  };
}

function isPacked({ node, start, keyCount }) {
  for (let i = 0, at = start; i < keyCount; i++, at += nextKey(node.bytes, at))
    if (node.bytes[at + 1] & FORMAT_BITS) return false;
  return true;
}
