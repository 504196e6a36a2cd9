// Everybody who unpacks the bsets of real nodes: calls for all of them, one after the other, make a lane.

import { createUnpacker } from '../../dist/index.js';
import { inC } from '../machine.mjs';
import { rowsOf } from './c.mjs';
import { GENERAL_TITLE } from './lanes.mjs';
import { ownRoutines } from './routines.mjs';

const POISON = 0xa5;

/** Formats that say the same have the same text. */
export const formatText = ({ keyU64s, fields }) =>
  [keyU64s, ...fields.flatMap(({ bits, at, offset }) => [bits, at, offset])].join();

const argsOf = ({ node, start, end, out, keyCount }) => [
  out,
  node.bytes.subarray(start, end),
  BigInt(keyCount),
];

export class NodeLanes {
  #tools;
  #work;
  /** By the format's text: { format, routines, functions }. */
  #formats = new Map();

  /** @param work { bsets: { node, start, end, keyCount, out }, keys, out, want } where all `out` are parts of one */
  constructor(tools, work) {
    this.#tools = tools;
    this.#work = work;
    for (const { node } of work.bsets) this.#formats.set(formatText(node.format), { format: node.format });
    const known = [...this.#formats.values()];
    const compilers = tools.compilers.slice(0, 1);
    const functions = inC(
      { compilers },
      known.map(({ format }) => format),
      ['-O3'],
    );
    known.forEach((entry, i) => {
      entry.functions = functions[i];
      entry.routines = ownRoutines(tools, entry.format, functions[i]);
    });
  }

  get formatCount() {
    return this.#formats.size;
  }

  all() {
    const [first] = this.#formats.values();
    const titles = first.functions.map(({ title }) => title);
    const best = this.#tools.tiers.at(-1);
    return [
      this.#callEach('BPF', 'BPF'),
      this.#callEach('native', 'native'),
      ...titles.map((title) => this.#callEach(title, 'C')),
      ...titles.map((title) => this.#loop(title)),
      ...Object.keys(this.#tools.general).map((name) => this.#general(name)),
      this.#engine('native', 'native', { engine: 'native' }),
      this.#engine('BPF scalar', 'BPF', { engine: 'bpf', tier: 'scalar' }),
      ...(best ? [this.#engine(`BPF ${best}`, 'BPF', { engine: 'bpf', tier: best })] : []),
      ...(best ? [this.#together('BPF 4 streams', best)] : []),
    ];
  }

  #of({ node }) {
    return this.#formats.get(formatText(node.format));
  }

  /** @param result is kept as long as the lane, because the calls write to it */
  #lane(title, group, kind, calls, result) {
    const { keys, out, want } = this.#work;
    const sample = this.#tools.player.script(calls);
    const check = () => {
      out.fill(POISON);
      sample();
      if (Buffer.compare(out, want) !== 0) throw new Error(`${title} does not give the keys of the nodes`);
    };
    return { title, group, kind, keys, sample, check, result };
  }

  #callEach(title, group) {
    const { address } = this.#tools.player.streamLoop;
    const calls = this.#work.bsets.map((bset) => {
      const routine = this.#of(bset).routines.find((one) => one.title === title);
      return { address, args: [routine.address, ...argsOf(bset)] };
    });
    return this.#lane(title, group, 'a call each', calls);
  }

  #loop(title) {
    const calls = this.#work.bsets.map((bset) => {
      const { stream } = this.#of(bset).functions.find((one) => one.title === title);
      return { address: stream, args: argsOf(bset) };
    });
    return this.#lane(title, 'C', 'loop', calls);
  }

  #general(name) {
    const { stream } = this.#tools.general[name];
    const calls = this.#work.bsets.map((bset) => ({
      address: stream,
      args: [...argsOf(bset), rowsOf(bset.node.format)],
    }));
    return this.#lane(GENERAL_TITLE[name], 'C', 'loop', calls);
  }

  /** A call of `unpackStream` for each bset. */
  #engine(title, group, options) {
    const groups = this.#work.bsets.map((bset) => [bset]);
    return this.#recorded(title, group, options, groups, (unpacker, [{ keys, ...rest }]) =>
      unpacker.unpackStream(keys, rest),
    );
  }

  /** A call of `unpackStreams` for all bsets of a format. */
  #together(title, tier) {
    const groups = new Map();
    for (const bset of this.#work.bsets) {
      const name = formatText(bset.node.format);
      groups.set(name, [...(groups.get(name) ?? []), bset]);
    }
    return this.#recorded(title, 'BPF', { engine: 'bpf', tier }, [...groups.values()], (unpacker, streams) =>
      unpacker.unpackStreams(streams),
    );
  }

  #recorded(title, group, options, groups, unpack) {
    const unpackers = new Map(
      [...this.#formats].map(([name, { format }]) => [name, createUnpacker(format, options)]),
    );
    const results = [];
    const calls = groups.flatMap((bsets) => {
      const unpacker = unpackers.get(formatText(bsets[0].node.format));
      const streams = bsets.map(({ node, start, end, out }) => ({ keys: node.bytes, start, end, out }));
      unpack(unpacker, streams); // loops of a format are made when they are first wanted
      return this.#tools.player.record(() => results.push(unpack(unpacker, streams)));
    });
    return this.#lane(title, group, 'engine', calls, results);
  }
}
