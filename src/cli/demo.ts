// `npm start`: the whole pipeline on a real file system, on one screen.

import { fileURLToPath } from 'node:url';
import { type BtreeNode, openDevice, openFilesystem, packedFields } from '../bcachefs/index.js';
import {
  BKEY_BYTES,
  compileFormat,
  createUnpacker,
  disassemble,
  ENGINES,
  EngineError,
  type EngineName,
  type Format,
  listing,
  lower,
  type Unpacker,
} from '../index.js';
import { formatText } from './images.js';
import { type Command, EXIT } from './options.js';
import type { Output } from './output.js';

const SAMPLE = new URL('../../sample/mini.img.zst', import.meta.url);
/** How long each engine decodes before its figure and for it, in milliseconds. */
const WARM_MS = 300;
const MEASURED_MS = 200;
/** Keys of the long stream, about. */
const STREAM_KEYS = 8000;

export const demoCommand: Command = {
  name: 'demo',
  summary: 'run the whole pipeline on the bcachefs image that comes with it',
  usage: 'usage: bpf-unpack demo',
  help: 'Reads the sample image with all engines, compares them, times them, and shows one routine from format to x86.',
  values: [],
  flags: [],
  async run(line, output) {
    if (line.operands.length > 0) line.fail('demo takes no operands');
    const samples = await readSample();
    try {
      await printTrees(samples, output);
      const agree = await printEngines(samples, output);
      await printRoutine(samples, output);
      return agree ? EXIT.ok : EXIT.unreadable;
    } finally {
      for (const { unpackers } of samples) for (const unpacker of unpackers.values()) unpacker.dispose();
    }
  },
};

/** A node's keys, and what each engine has to unpack them with. */
interface Sample {
  readonly node: BtreeNode;
  readonly unpackers: ReadonlyMap<EngineName, Unpacker>;
}

async function readSample(): Promise<Sample[]> {
  const device = await openDevice(fileURLToPath(SAMPLE));
  const filesystem = await openFilesystem([device], { engine: 'reference' });
  const nodes = [...filesystem.nodes()];
  filesystem.close();
  device.close();
  const known = new Map<string, Map<EngineName, Unpacker>>();
  return nodes.map((node) => {
    const name = formatText(node);
    const unpackers = known.get(name) ?? unpackersOf(node.format);
    known.set(name, unpackers);
    return { node, unpackers };
  });
}

/** One of each engine, but of those that need what the CPU has not. */
function unpackersOf(format: Format): Map<EngineName, Unpacker> {
  const unpackers = new Map<EngineName, Unpacker>();
  for (const engine of ENGINES) {
    try {
      unpackers.set(engine, createUnpacker(format, { engine }));
    } catch (error) {
      if (!(error instanceof EngineError && error.code === 'E-TIER')) throw error;
    }
  }
  return unpackers;
}

async function printTrees(samples: readonly Sample[], output: Output): Promise<void> {
  await output.print(`bpf-unpack: a real bcachefs image. Each btree node packs its keys in a format of its own, known only when the node is
read. Each format becomes BPF, a verifier proves the BPF safe, and a JIT makes it x86 that runs from memory which is
never writable. The native path emits x86 directly, as bcachefs once did.
`);
  await output.print('btree                 nodes  formats     keys   BPF code  native code');
  const trees = new Map<string, Sample[]>();
  for (const sample of samples)
    trees.set(sample.node.btreeName, [...(trees.get(sample.node.btreeName) ?? []), sample]);
  for (const [name, tree] of trees) await output.print(treeLine(name, tree));
  await output.print(treeLine('all', samples));
}

function treeLine(name: string, samples: readonly Sample[]): string {
  const routines = [...new Set(samples.map(({ unpackers }) => unpackers))];
  const codeBytes = (engine: EngineName) =>
    routines.reduce((sum, unpackers) => sum + unpackers.get(engine)!.codeBytes!, 0);
  const keys = samples.reduce((sum, { node }) => sum + node.keyCount, 0);
  const counts = [
    String(samples.length).padStart(6),
    String(routines.length).padStart(8),
    String(keys).padStart(8),
  ];
  return `${name.padEnd(20)} ${counts.join(' ')} ${`${codeBytes('bpf')} B`.padStart(10)} ${`${codeBytes('native')} B`.padStart(12)}`;
}

async function printEngines(samples: readonly Sample[], output: Output): Promise<boolean> {
  const keys = samples.reduce((sum, { node }) => sum + node.keyCount, 0);
  const engines = [...samples[0]!.unpackers.keys()];
  const differing = new Map(engines.map((engine) => [engine, countDifferences(samples, engine)]));
  const agree = [...differing.values()].every((count) => count === 0);
  await output.print(
    agree
      ? `\nAll ${engines.length} engines give the same ${BKEY_BYTES} bytes for each of the ${keys} keys. Keys per second on one core:\n`
      : '\nThe engines DISAGREE:\n',
  );
  await output.print(`${'engine'.padEnd(12)} ${'as stored'.padStart(13)} ${'in a stream'.padStart(13)}`);
  for (const engine of ENGINES) {
    const differences = differing.get(engine);
    if (differences === undefined) {
      await output.print(`${engine.padEnd(12)} needs more than this CPU has`);
      continue;
    }
    const rates = [rate(storedWork(samples, engine)), rate(streamWork(samples, engine))];
    const figures = rates.map((figure) => figure.padStart(13)).join(' ');
    const what = differences === 0 ? figures : `${differences} keys differ from the reference`;
    await output.print(`${engine.padEnd(12)} ${what}   ${WHAT[engine]}`);
  }
  return agree;
}

const WHAT: Readonly<Record<EngineName, string>> = {
  bpf: 'format → BPF → verifier → x86',
  native: 'format → x86',
  table: 'one routine for all formats, constants of each',
  interpreter: 'the same BPF, each access checked',
  reference: 'plain TypeScript, the oracle',
};

function countDifferences(samples: readonly Sample[], engine: EngineName): number {
  let count = 0;
  for (const { node, unpackers } of samples) {
    for (const { start, end, unpacked, keyCount: keys } of node.bsets) {
      const { out } = unpackers.get(engine)!.unpackStream(node.bytes, { start, end });
      for (let i = 0; i < keys; i++) {
        const range = [i * BKEY_BYTES, (i + 1) * BKEY_BYTES] as const;
        if (Buffer.compare(out.subarray(...range), unpacked.subarray(...range)) !== 0) count++;
      }
    }
  }
  return count;
}

/** Keys to decode over and over. */
interface Work {
  readonly unpacker: Unpacker;
  readonly bytes: Uint8Array;
  readonly options: { readonly start: number; readonly end: number; readonly out: Uint8Array };
}

/** Every bset of every node: a call for each, mostly of a few keys. */
function storedWork(samples: readonly Sample[], engine: EngineName): Work[] {
  return samples.flatMap(({ node, unpackers }) =>
    node.bsets.map(({ start, end, unpacked }) => ({
      unpacker: unpackers.get(engine)!,
      bytes: node.bytes,
      options: { start, end, out: new Uint8Array(unpacked.length) },
    })),
  );
}

/** A large bset again and again in one call: what is left of the cost when the crossing is paid. */
function streamWork(samples: readonly Sample[], engine: EngineName): Work[] {
  const { node, unpackers } = mostKeys(samples);
  const bset = node.bsets.reduce((most, one) => (one.keyCount > most.keyCount ? one : most));
  const times = Math.ceil(STREAM_KEYS / bset.keyCount);
  const keys = node.bytes.subarray(bset.start, bset.end);
  const bytes = Buffer.concat(Array.from({ length: times }, () => keys));
  const out = new Uint8Array(times * bset.unpacked.length);
  return [{ unpacker: unpackers.get(engine)!, bytes, options: { start: 0, end: bytes.length, out } }];
}

/** Keys per second, once V8 has compiled what calls the engine, and the engine has loops of the format's own. */
function rate(work: readonly Work[]): string {
  keysPerMs(work, WARM_MS);
  return Math.round(keysPerMs(work, MEASURED_MS) * 1000).toLocaleString('en-US');
}

function keysPerMs(work: readonly Work[], ms: number): number {
  let keys = 0;
  const begun = performance.now();
  let elapsed = 0;
  while (elapsed < ms) {
    for (const { unpacker, bytes, options } of work) keys += unpacker.unpackStream(bytes, options).count;
    elapsed = performance.now() - begun;
  }
  return keys / elapsed;
}

function mostKeys(samples: readonly Sample[]): Sample {
  return samples.reduce((most, sample) => (sample.node.keyCount > most.node.keyCount ? sample : most));
}

/** The format of the node with the most keys, beside what it became. */
async function printRoutine(samples: readonly Sample[], output: Output): Promise<void> {
  const { node } = mostKeys(samples);
  const { format } = node;
  const code = compileFormat(format);
  await output.print(`\nOne routine: ${node.btreeName}, ${node.keyCount} keys, ${formatWords(format)}\n`);
  const bpf = disassemble(lower(format)).trimEnd().split('\n');
  const x86 = listing(code).map(({ text }) => text);
  await output.print(`${`BPF, ${bpf.length} instructions`.padEnd(36)}x86-64, ${code.length} bytes`);
  for (let i = 0; i < Math.max(bpf.length, x86.length); i++) {
    await output.print(`${(bpf[i] ?? '').padEnd(36)}${x86[i] ?? ''}`.trimEnd());
  }
}

function formatWords(format: Format): string {
  const fields = packedFields(format).map(({ name, bits, offset }) => {
    if (bits === 0) return `${name} always ${offset}`;
    return `${name} ${bits} bits${offset === 0n ? '' : ` + ${offset}`}`;
  });
  return `${format.packedBytes} bytes packed: ${fields.join(', ')}`;
}
