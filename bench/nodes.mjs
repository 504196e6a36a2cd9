// Real work: every bset of every node of bcachefs images, unpacked as a file system does after it has read them. Bsets with
// a key that is stored unpacked are left out, because C without checks would not see it.

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { openDevice, openFilesystem } from '../dist/bcachefs/index.js';
import { createUnpacker } from '../dist/index.js';
import { rowsOf } from './lanes/c.mjs';
import { ownRoutines } from './lanes/routines.mjs';
import { inC } from './machine.mjs';
import { race } from './race.mjs';
import { nextKey } from './work.mjs';

const IMAGES = {
  mini: ['../sample/mini.img.zst'],
  'mini-synth': ['../test/vectors/bcachefs/mini-synth.img.zst'],
  'v1.4': ['../test/vectors/bcachefs/v1.4.img.zst'],
  multi: ['../test/vectors/bcachefs/multi-0.img.zst', '../test/vectors/bcachefs/multi-1.img.zst'],
};
const KEY_BYTES = 40;

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
  const bsets = nodes.flatMap((node) =>
    node.bsets.map(({ start, end, keyCount, unpacked }) => ({ node, start, end, keyCount, unpacked })),
  );
  const taken = bsets.filter((bset) => bset.keyCount > 0 && isPacked(bset));
  const keys = taken.reduce((sum, { keyCount }) => sum + keyCount, 0);
  const out = new Uint8Array(keys * KEY_BYTES);
  let at = 0;
  for (const bset of taken) {
    bset.out = out.subarray(at, at + bset.keyCount * KEY_BYTES);
    at += bset.out.length;
  }
  const want = Buffer.concat(
    taken.map(({ unpacked, keyCount }) => unpacked.subarray(0, keyCount * KEY_BYTES)),
  );
  const formats = new Map();
  for (const { node } of taken)
    if (!formats.has(textOf(node.format))) formats.set(textOf(node.format), node.format);
  const lanes = lanesOf(tools, { taken, keys, out, want, formats });
  const rows = race(tools, lanes, { rounds, random });
  return {
    nodes: nodes.length,
    bsets: taken.length,
    keys,
    leftOut: bsets.length - taken.length,
    formats: formats.size,
    rows,
  };
}

const textOf = ({ keyU64s, fields }) =>
  [keyU64s, ...fields.flatMap(({ bits, at, offset }) => [bits, at, offset])].join();

function byFormat(bsets) {
  const groups = new Map();
  for (const bset of bsets) {
    const name = textOf(bset.node.format);
    groups.set(name, [...(groups.get(name) ?? []), bset]);
  }
  return [...groups.values()];
}

function isPacked({ node, start, keyCount }) {
  for (let i = 0, at = start; i < keyCount; i++, at += nextKey(node.bytes, at))
    if (node.bytes[at + 1] & 0x7f) return false;
  return true;
}

function lanesOf(tools, { taken, keys, out, want, formats }) {
  const names = [...formats.keys()];
  const functions = inC({ compilers: tools.compilers.slice(0, 1) }, [...formats.values()], ['-O3']);
  const routines = new Map(
    names.map((name, i) => [name, ownRoutines(tools, formats.get(name), functions[i])]),
  );
  const inFormat = new Map(names.map((name, i) => [name, functions[i]]));
  const { player } = tools;
  const add = (title, group, kind, calls, result) => {
    const sample = player.script(calls);
    const check = () => {
      out.fill(0xa5);
      sample();
      if (Buffer.compare(out, want) !== 0) throw new Error(`${title} does not give the keys of the nodes`);
    };
    return { title, group, kind, keys, sample, check, result };
  };
  const bytesOf = ({ node, start, end }) => node.bytes.subarray(start, end);
  const each = (title, group) =>
    add(
      title,
      group,
      'a call each',
      taken.map((bset) => {
        const { address } = routines.get(textOf(bset.node.format)).find((routine) => routine.title === title);
        return {
          address: player.streamLoop.address,
          args: [address, bset.out, bytesOf(bset), BigInt(bset.keyCount)],
        };
      }),
    );
  const loop = (title) =>
    add(
      title,
      'C',
      'loop',
      taken.map((bset) => {
        const { stream } = inFormat.get(textOf(bset.node.format)).find((one) => one.title === title);
        return { address: stream, args: [bset.out, bytesOf(bset), BigInt(bset.keyCount)] };
      }),
    );
  const general = ([name, { stream }]) =>
    add(
      `C ${name === 'table' ? 'table' : 'bit stream'}`,
      'C',
      'loop',
      taken.map((bset) => ({
        address: stream,
        args: [bset.out, bytesOf(bset), BigInt(bset.keyCount), rowsOf(bset.node.format)],
      })),
    );
  const engine = (title, group, options, together) => {
    const unpackers = new Map(names.map((name) => [name, createUnpacker(formats.get(name), options)]));
    const results = [];
    const calls = [];
    for (const bsets of together ? byFormat(taken) : taken.map((bset) => [bset])) {
      const unpacker = unpackers.get(textOf(bsets[0].node.format));
      const streams = bsets.map(({ node, start, end, out }) => ({ keys: node.bytes, start, end, out }));
      const run = () =>
        together ? unpacker.unpackStreams(streams) : unpacker.unpackStream(streams[0].keys, streams[0]);
      run();
      calls.push(...player.record(() => results.push(run())));
    }
    return add(title, group, 'engine', calls, results);
  };
  const titles = (functions[0] ?? []).map(({ title }) => title);
  const best = tools.tiers.at(-1);
  return [
    each('BPF', 'BPF'),
    each('native', 'native'),
    ...titles.map((title) => each(title, 'C')),
    ...titles.map(loop),
    ...Object.entries(tools.general).map(general),
    engine('native', 'native', { engine: 'native' }),
    engine('BPF scalar', 'BPF', { engine: 'bpf', tier: 'scalar' }),
    ...(best ? [engine(`BPF ${best}`, 'BPF', { engine: 'bpf', tier: best })] : []),
    ...(best ? [engine('BPF 4 streams', 'BPF', { engine: 'bpf', tier: best }, true)] : []),
  ];
}
