// Everybody who takes part in a workload. A lane is { title, group, kind, keys, sample, check, slow?, warm?, bytes? }; `sample` gives the ns
// of one pass over `keys` records, `check` throws unless a pass gives the bytes that the reference gives.

import { contractFor, createUnpacker, interpret, lower } from '../../dist/index.js';
import { tableOf } from '../../dist/table/table.js';
import { nextKey } from '../work.mjs';
import { GENERAL, rowsOf } from './c.mjs';
import { columnLanes } from './columns.mjs';
import { bigintOf, halvesOf } from './javascript.mjs';
import { NotWritten } from './plan.mjs';
import { wasmOf } from './wasm.mjs';

const INTERPRETED = 8;
const SAMPLE_NS = 50_000;
const POISON = 0xa5;

/** @param work { format, kind: 'stride' | 'stream', count, packed, out, want } */
export function lanesOf(tools, work, routines, functions) {
  return [
    ...perRecord(tools, work, routines),
    ...loops(tools, work, functions),
    ...engines(tools, work),
    ...scripted(work),
    interpreter(work),
  ];
}

/** A lane that plays calls into machine code. */
function played(tools, work, title, group, kind, calls, bytes) {
  const sample = tools.player.script(calls);
  const floor = group === 'floor';
  return {
    title,
    group,
    kind,
    keys: work.count,
    sample,
    bytes,
    check: floor ? () => {} : () => check(work, title, sample),
  };
}

function check({ out, want }, title, run) {
  out.fill(POISON);
  run();
  if (Buffer.compare(out.subarray(0, want.length), want) !== 0)
    throw new Error(`${title} does not give the reference's bytes: nothing is timed`);
}

/** The same loop around every routine. */
export function perRecord(tools, work, routines) {
  const { format, kind, count, packed, out } = work;
  const { strideLoop, streamLoop } = tools.player;
  return routines.map(({ title, group, address, bytes }) => {
    const call =
      kind === 'stream'
        ? { address: streamLoop.address, args: [address, out, packed, BigInt(count)] }
        : {
            address: strideLoop.address,
            args: [
              address,
              out,
              packed,
              BigInt(count),
              BigInt(format.packedBytes),
              BigInt(format.unpackedBytes),
            ],
          };
    return played(tools, work, title, group, 'a call each', [call], bytes);
  });
}

/** C with the loop around it. */
export function loops(tools, work, functions) {
  const { format, kind, count, packed, out } = work;
  const own = functions.map((one) => {
    const call = { address: one[kind], args: [out, packed, BigInt(count)] };
    return played(tools, work, one.title, 'C', 'loop', [call]);
  });
  const rows = rowsOf(format);
  const general = GENERAL.filter((name) => rows && tools.general[name]).map((name) => {
    const call = { address: tools.general[name][kind], args: [out, packed, BigInt(count), rows] };
    return played(tools, work, GENERAL_TITLE[name], 'C', 'loop', [call]);
  });
  return [...own, ...general];
}

/** What the decoders in c/ are called in the tables. */
export const GENERAL_TITLE = { bitstream: 'C bit stream', table: 'C table' };

/** What `unpackMany`, `unpackStream` and `unpackStreams` do, without the crossing from JavaScript. */
export function engines(tools, work) {
  const { format, kind } = work;
  const lanes = [];
  const add = (title, group, engine, tier, run) => {
    const unpacker = createUnpacker(format, { engine, tier });
    for (let i = 0; i < 2; i++) run(unpacker); // loops of a format are made when they are first wanted
    let result;
    const calls = tools.player.record(() => {
      result = run(unpacker);
    });
    const lane = played(tools, work, title, group, 'engine', calls);
    lanes.push({ ...lane, result }); // the calls write to its arrays
  };
  const alone = kind === 'stream' ? streamRun(work) : strideRun(work);
  add('native', 'native', 'native', undefined, alone);
  for (const tier of tools.tiers) add(`BPF ${tier}`, 'BPF', 'bpf', tier, alone);
  if (tools.tiers.includes('avx512') && isInTable(format)) add('table', 'table', 'table', undefined, alone);
  if (kind === 'stream' && tools.tiers.length > 0) {
    add('BPF 4 streams', 'BPF', 'bpf', tools.tiers.at(-1), streamsRun(work));
  }
  return kind === 'stride' ? [...lanes, ...columnLanes(tools, work)] : lanes;
}

/** Whether a table describes the format: not if a record is longer than 64 bytes, packed or unpacked. */
export function isInTable(format) {
  try {
    tableOf(format);
    return true;
  } catch (error) {
    if (error.code !== 'E-FORMAT') throw error;
    return false;
  }
}

const strideRun =
  ({ packed, count, out }) =>
  (unpacker) =>
    unpacker.unpackMany(packed, count, { out });
const streamRun =
  ({ packed, count, out }) =>
  (unpacker) =>
    unpacker.unpackStream(packed, { maxRecords: count, out });

const TOGETHER = 4;
function streamsRun({ packed, count, out }) {
  const each = Math.ceil(count / TOGETHER);
  const starts = [];
  for (let i = 0, at = 0; i < count; i++, at += nextKey(packed, at)) if (i % each === 0) starts.push(at);
  const streams = starts.map((start, i) => ({
    keys: packed,
    start,
    end: starts[i + 1] ?? packed.length,
    maxRecords: Math.min(each, count - i * each),
    out: out.subarray(i * each * 40, Math.min(count, (i + 1) * each) * 40),
  }));
  return (unpacker) => unpacker.unpackStreams(streams);
}

/** JavaScript and WebAssembly, where the format can be written in them. */
export function scripted(work) {
  return [halvesLanes, bigintLanes, wasmLanes].flatMap((make) => {
    try {
      return make(work);
    } catch (error) {
      if (error instanceof NotWritten) return [];
      throw error;
    }
  });
}

function script(work, title, kind, run, prepare = () => {}) {
  const time = timer(run);
  const checked = () => {
    run();
    prepare();
  };
  return {
    title,
    group: 'JavaScript',
    kind,
    keys: work.count,
    sample: time,
    warm: true,
    check: () => check(work, title, checked),
  };
}

/** ns of a run, the mean of as many as take about 50 µs. */
export function timer(run) {
  let calls;
  const time = (count) => {
    const begun = process.hrtime.bigint();
    for (let i = 0; i < count; i++) run();
    return Number(process.hrtime.bigint() - begun) / count;
  };
  let warm = 0;
  return () => {
    if (warm++ < 3) return time(1);
    calls ??= Math.max(1, Math.round(SAMPLE_NS / Math.min(time(1), time(1))));
    return time(calls);
  };
}

function halvesLanes(work) {
  const { format, kind, count, packed, out } = work;
  const { one, many, stream } = halvesOf(format);
  const s = new Int32Array(packed.buffer, packed.byteOffset, packed.length >> 2);
  const d = new Int32Array(out.buffer, out.byteOffset, out.length >> 2);
  const [step, outStep] = [format.packedBytes / 4, format.unpackedBytes / 4];
  const loop = kind === 'stream' ? stream : many;
  const calls = () => {
    for (let n = 0, i = 0, o = 0; n < count; n++, o += outStep) {
      const next = kind === 'stream' ? i + 2 * (s[i] & 0xff) : i + step;
      one(s, i, d, o);
      i = next;
    }
  };
  return [
    script(work, 'JS halves', 'a call each', calls),
    script(work, 'JS halves', 'loop', () => loop(s, count, d)),
  ];
}

function bigintLanes(work) {
  const { format, kind, count, packed, out } = work;
  const { many, stream } = bigintOf(format);
  const s = new DataView(packed.buffer, packed.byteOffset, packed.length);
  const d = new DataView(out.buffer, out.byteOffset, out.length);
  const loop = kind === 'stream' ? stream : many;
  return [{ ...script(work, 'JS BigInt', 'loop', () => loop(s, count, d)), slow: true }];
}

function wasmLanes(work) {
  const { format, kind, count, packed, out } = work;
  const to = Math.ceil(packed.length / 4096) * 4096 + 2048;
  const { one, many, stream, memory } = wasmOf(format, to + out.length);
  memory.set(packed);
  const back = () => out.set(memory.subarray(to, to + out.length));
  const loop = kind === 'stream' ? stream : many;
  const calls = () => {
    for (let n = 0, i = 0, o = to; n < count; n++, o += format.unpackedBytes) {
      const next = kind === 'stream' ? i + 8 * memory[i] : i + format.packedBytes;
      one(i, o, 1);
      i = next;
    }
  };
  return [
    script(work, 'WebAssembly', 'a call each', calls, back),
    script(work, 'WebAssembly', 'loop', () => loop(0, to, count), back),
  ];
}

function interpreter(work) {
  const { format, kind, packed, out, want } = work;
  const program = lower(format);
  const contract = contractFor(format);
  const count = Math.min(INTERPRETED, work.count);
  const run = () => {
    for (let n = 0, at = 0; n < count; n++) {
      const to = out.subarray(n * format.unpackedBytes, (n + 1) * format.unpackedBytes);
      interpret(program, { args: [to, packed.subarray(at, at + format.packedBytes)], contract });
      at += kind === 'stream' ? nextKey(packed, at) : format.packedBytes;
    }
  };
  const part = { ...work, want: want.subarray(0, count * format.unpackedBytes) };
  return {
    ...script(part, 'interpreter', 'a call each', run),
    group: 'interpreter',
    keys: count,
    slow: true,
  };
}
