// Columns by every tier: the fields that the packed record has, as `unpackColumns` makes them. Fields that are constants take no part.

import { createUnpacker } from '../../dist/index.js';
import { BLOCK, bytesAt } from '../work.mjs';

const POISON = 0xa5;

/** @param work as for `lanesOf`, of kind 'stride', whose records repeat after `BLOCK` of them */
export function columnLanes(tools, work) {
  const { format, count, packed } = work;
  const columns = format.fields.filter(({ bits }) => bits > 0).map(({ name }) => name);
  const block = Math.min(count, BLOCK);
  const want = createUnpacker(format, { engine: 'reference' }).unpackColumns(packed, block, { columns });
  return tools.tiers.map((tier) => {
    const unpacker = createUnpacker(format, { engine: 'bpf', tier });
    const out = Object.fromEntries(columns.map((name, i) => [name, arrayFor(want[name], count, i)]));
    const run = () => unpacker.unpackColumns(packed, count, { columns, out });
    run(); // the loop is made when it is first wanted
    const sample = tools.player.script(tools.player.record(run));
    const title = `BPF columns ${tier}`;
    const check = () => {
      for (const name of columns) bytesOf(out[name]).fill(POISON);
      sample();
      for (const name of columns)
        if (!repeats(bytesOf(out[name]), bytesOf(want[name])))
          throw new Error(`${title} does not give the reference's ${name}: nothing is timed`);
    };
    return { title, group: 'columns', kind: 'engine', keys: count, sample, check, out };
  });
}

const bytesOf = ({ buffer, byteOffset, byteLength }) => new Uint8Array(buffer, byteOffset, byteLength);

/** Whether bytes are the same ones over and over. */
function repeats(bytes, once) {
  for (let at = 0; at < bytes.length; at += once.length)
    if (Buffer.compare(bytes.subarray(at, at + once.length), once) !== 0) return false;
  return true;
}

/** An array of the kind of another; columns lie at lines of their own. */
function arrayFor({ constructor: Kind, BYTES_PER_ELEMENT: bytes }, count, index) {
  const { buffer, byteOffset } = bytesAt((2048 + 64 * index) % 4096, bytes * count);
  return new Kind(buffer, byteOffset, count);
}
