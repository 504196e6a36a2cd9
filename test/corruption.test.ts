// Damaged images give an ImageError that names a place, or what can be read; they never crash, hang or fill the memory.
//
// Each damage depends on its seed alone. FUZZ_SEED and FUZZ_SECONDS make this a longer run, see scripts/fuzz.mjs.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createContext, runInContext } from 'node:vm';
import { gzipSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import { Checksums } from '../src/bcachefs/checksum.js';
import { readCompressed } from '../src/bcachefs/compressed.js';
import { SECTOR_BYTES } from '../src/bcachefs/device.js';
import { Filesystem } from '../src/bcachefs/filesystem.js';
import { type Device, nodeKeys, openDevice } from '../src/bcachefs/index.js';
import { BpfUnpackError, type EngineName, type ImageError } from '../src/index.js';
import { hostileValue, MemoryDevice, OverlayDevice, Random, type Target, targetsOf } from './corruptions.js';
import { type ImageName, imageDevices, SAMPLE } from './images.js';
import { canMeasure, watchMemory } from './memory.js';
import { hex } from './vectors.js';

const NAMES = [
  'mini',
  'mini-synth',
  'v1.39-mini',
  'dirty',
  'multi',
  'encrypted',
] as const satisfies readonly ImageName[];
const PARSERS = ['superblock', 'journal', 'node', 'bset', 'key', 'pointer'] as const;
/** What each parser must have said, with its code, once it met so much damage. */
const FAULTS: Readonly<Record<(typeof PARSERS)[number], readonly RegExp[]>> = {
  superblock: [/^entry_length/, /^level/, /^section_length/, /^superblock_size/, /^members/, /^block_size/],
  journal: [/^journal_missing/, /^entry_length/, /^level/, /^not_a_pointer/, /^root_range/],
  node: [/^bad_format/, /^node_range/, /^node_magic/, /^node_btree/],
  bset: [/^bset_offset/, /^bset_length/, /^node_cut/, /^node_seq/, /^big_endian/, /^bad_key/],
  key: [/^bad_key: .* but an? (un)?packed key/, /^bad_key: .* bytes are left/, /^bad_key: .* key format/],
  pointer: [/^not_a_pointer/, /^node_seq/, /^node_gap/, /^node_range/, /^bad_address/, /^sectors_written/],
};
const SEED = Number(process.env.FUZZ_SEED ?? 1);
const SECONDS = Number(process.env.FUZZ_SECONDS ?? 0);
const SEALED_RUNS = 1500;
const OPEN_RUNS = 400;
const COMPRESSED_RUNS = 120;

const TESTS = PARSERS.length + 2;

const RUN_MS = 5000;
const RUN_RSS_BYTES = 256 * 2 ** 20;
const RUN_READ_BYTES = 256 * 2 ** 20;

interface Image {
  readonly name: ImageName;
  readonly devices: readonly Device[];
  readonly targets: ReadonlyMap<Target['parser'], readonly Target[]>;
  readonly btrees: readonly string[];
  /** Of all nodes and keys, undamaged. */
  readonly digest: string;
}

const images: Image[] = [];
let checksums: Checksums;

beforeAll(async () => {
  checksums = await Checksums.load();
  for (const name of NAMES) {
    const devices = await imageDevices(name);
    const targets = await targetsOf(devices, checksums);
    const digest = read(
      devices.map((device) => new OverlayDevice(device)),
      {},
    ).digest;
    const btrees = [...new Set(targets.flatMap(({ btree }) => btree ?? []))];
    images.push({ name, devices, targets: byParser(targets), btrees, digest });
  }
});

function byParser(targets: readonly Target[]): Map<Target['parser'], Target[]> {
  const groups = PARSERS.map(
    (parser) => [parser, targets.filter((target) => target.parser === parser)] as const,
  );
  return new Map(groups.filter(([, group]) => group.length > 0));
}

/** Reads everything there is, or one btree; throws what reading throws. */
function read(
  devices: readonly OverlayDevice[],
  options: { engine?: EngineName; keepGoing?: boolean; btree?: string | undefined },
): { digest: string; lost: ImageError[] } {
  const lost: ImageError[] = [];
  const onDamage = (error: ImageError, recovered: boolean) => {
    if (!recovered) lost.push(error);
    requirePlace(error);
  };
  const hash = createHash('sha1');
  const filesystem = new Filesystem(devices, checksums, {
    engine: options.engine ?? 'reference',
    keepGoing: options.keepGoing ?? false,
    onDamage,
  });
  try {
    for (const node of filesystem.nodes(options.btree === undefined ? {} : { btree: options.btree })) {
      hash.update(`${node.btreeName} ${node.level} ${node.dev} ${node.sector} ${node.keyCount}\n`);
      for (const { unpacked } of nodeKeys(node)) hash.update(unpacked);
    }
  } finally {
    filesystem.close();
  }
  return { digest: hash.digest('hex'), lost };
}

function requirePlace(error: unknown): asserts error is BpfUnpackError {
  if (!(error instanceof BpfUnpackError) || !['ImageError', 'FormatError'].includes(error.name)) throw error;
  if (error.code === '' || error.where.file === undefined || !error.message.includes(error.where.file)) {
    throw new Error(`no code or no place: ${error.message}`, { cause: error });
  }
}

type Outcome = {
  readonly error?: BpfUnpackError;
  readonly kept?: boolean;
  readonly digest?: string | undefined;
};

/** Starts the clock; what it returns is to be called at the end, and requires that the limits were kept. */
function limits(): () => void {
  const memory = watchMemory();
  const start = performance.now();
  return () => {
    expect(performance.now() - start).toBeLessThan(RUN_MS);
    expect(memory()).toBeLessThan(RUN_RSS_BYTES);
  };
}

/** Runs `body` under the limits of time and memory. */
function limited(body: () => { digest: string; lost: readonly ImageError[] }): Outcome {
  const requireKept = limits();
  let outcome: Outcome;
  try {
    // A timeout of node:vm also ends a loop without end.
    const { digest, lost } = runInContext('body()', createContext({ body }), { timeout: RUN_MS });
    outcome = lost.length === 0 ? { digest } : { error: lost[0], kept: true };
  } catch (error) {
    requirePlace(error);
    outcome = { error };
  }
  requireKept();
  return outcome;
}

/** Repeats `run` with one seed after the other; a failure says which. Returns the errors. */
async function runs(
  label: string,
  count: number,
  run: (random: Random, log: string[]) => Outcome | Promise<Outcome>,
): Promise<BpfUnpackError[]> {
  const errors: BpfUnpackError[] = [];
  const times = new Map<string, number>();
  const until = performance.now() + (SECONDS * 1000) / TESTS;
  let done = 0;
  for (; done < count || performance.now() < until; done++) {
    const log: string[] = [];
    const seed = SEED * 1_000_003 + done;
    try {
      const { error, kept } = await run(new Random(seed), log);
      if (error) errors.push(error);
      const word = error ? `${kept ? 'kept going: ' : ''}${error.code}` : 'ok';
      times.set(word, (times.get(word) ?? 0) + 1);
    } catch (error) {
      throw new Error(`${label}, run ${done} of seed ${SEED}: ${log.join('; ')}`, { cause: error });
    }
  }
  const parts = [...times].sort(([, a], [, b]) => b - a).map(([word, number]) => `${word} ${number}`);
  console.log(`${label}: ${done} runs: ${parts.join(', ')}`);
  return errors;
}

function readDamaged(random: Random, devices: OverlayDevice[], btree: string | undefined): Outcome {
  const engine = random.pick(['reference', 'reference', 'bpf', 'native'] as const);
  const options = {
    engine,
    keepGoing: random.below(2) === 0,
    btree: random.below(5) > 0 ? btree : undefined,
  };
  const outcome = limited(() => read(devices, options));
  for (const { bytesRead } of devices) expect(bytesRead).toBeLessThan(RUN_READ_BYTES);
  return options.btree === undefined ? outcome : { ...outcome, digest: undefined };
}

describe('damage behind a checksum made anew', () => {
  it.each(PARSERS)('to what the parser of the %s reads', async (parser) => {
    const errors = await runs(`sealed, ${parser}`, SEALED_RUNS / PARSERS.length, (random, log) => {
      const image = random.pick(
        images.filter(({ name, targets }) => targets.has(parser) && name !== 'encrypted'),
      );
      const devices = image.devices.map((device) => new OverlayDevice(device));
      const targets = image.targets.get(parser)!;
      const name = random.pick([...new Set(targets.map((target) => target.name))]);
      const alike = targets.filter((target) => target.name === name);
      const first = random.pick(alike);
      const near = targets.filter(
        ({ device, offset }) => device === first.device && Math.abs(offset - first.offset) < 4096,
      );
      const aimed = [first, ...Array.from({ length: random.pick([0, 0, 0, 1, 3]) }, () => random.pick(near))];
      for (const target of aimed) {
        const device = devices[target.device]!;
        const others = [0, 1, 2]
          .map(() => random.pick(alike))
          .map(({ offset, length }) => device.read(offset, length));
        const value = hostileValue(random, device.read(target.offset, target.length), others);
        log.push(`${image.name} ${target.parser} ${target.name} at ${target.offset} = ${hex(value)}`);
        device.patch(target.offset, value.subarray(0, target.length));
      }
      for (const target of aimed) target.seal(devices[target.device]!);
      return readDamaged(random, devices, first.btree ?? random.pick(image.btrees));
    });
    const said = errors.map(({ code, message }) => `${code}: ${message}`);
    for (const fault of FAULTS[parser]) expect(said).toContainEqual(expect.stringMatching(fault));
  });
});

describe('damage that no checksum knows of', () => {
  it('is noticed, or does not matter', async () => {
    const errors = await runs('unsealed', OPEN_RUNS, (random, log) => {
      const image = random.pick(images);
      const devices = image.devices.map((device) => new OverlayDevice(device));
      const target = random.pick(image.targets.get(random.pick(PARSERS)) ?? image.targets.get('key')!);
      const device = devices[target.device]!;
      const kind = random.below(5);
      const at = target.offset + random.below(target.length);
      log.push(`${image.name} kind ${kind} at ${at}`);
      if (kind === 0) device.truncate(random.below(2) === 0 ? at : random.below(device.size));
      else if (kind === 1) device.patch(at, new Uint8Array(random.pick([1, 512, 4096])));
      else if (kind === 2) {
        const other = random.pick(image.targets.get('node')!);
        const start = target.offset - (target.offset % SECTOR_BYTES);
        const from = other.offset - (other.offset % SECTOR_BYTES);
        device.patch(start, devices[other.device]!.read(from, 4096));
      } else device.flip(at + random.below(64), 1 << random.below(8));
      const outcome = readDamaged(random, devices, target.btree ?? random.pick(image.btrees));
      // An older state of the journal is as good as any, if the newest entry is torn.
      if (!outcome.error && outcome.digest !== undefined && image.name !== 'dirty') {
        expect(outcome.digest).toBe(image.digest);
      }
      return outcome;
    });
    const codes = errors.map(({ code }) => code);
    expect(codes).toEqual(expect.arrayContaining(['bad_checksum', 'truncated', 'node_seq', 'node_cut']));
  });
});

describe('damage to compressed images', () => {
  it('is noticed, or does not matter', async () => {
    const whole = await openDevice(SAMPLE);
    const image = whole.read(0, whole.size);
    const files = { zstd: readFileSync(SAMPLE), gzip: gzipSync(image) };
    const unpacked = { totalBytes: 64 * 2 ** 20, keptBytes: 16 * 2 ** 20 };
    const errors = await runs('compressed', COMPRESSED_RUNS, async (random, log) => {
      const compression = random.pick(['zstd', 'zstd', 'gzip'] as const);
      const bytes = Uint8Array.from(files[compression]);
      for (let i = random.pick([1, 1, 3, 20]); i > 0; i--) {
        const at = random.below(random.pick([20, 4000, bytes.length]));
        log.push(`${compression} byte ${at}`);
        bytes.set(hostileValue(random, bytes.subarray(at, at + random.pick([1, 1, 4])), []), at);
      }
      const requireKept = limits();
      try {
        const file = new MemoryDevice(`mini.img, ${compression}`, bytes);
        const device = await readCompressed(file, compression, unpacked);
        const same = device.size === whole.size && Buffer.compare(device.read(0, device.size), image) === 0;
        expect(same).toBe(true);
        return {};
      } catch (error) {
        requirePlace(error);
        return { error };
      } finally {
        requireKept();
      }
    });
    const codes = errors.map(({ code }) => code);
    expect(codes).toEqual(expect.arrayContaining(['bad_zstd', 'bad_gzip']));
  });
});

describe('the limits of these tests', () => {
  const result = { digest: '', lost: [] };

  it.skipIf(!canMeasure)('notice memory, also after an earlier peak', () => {
    for (let i = 0; i < 2; i++) {
      const body = () => ({ ...result, held: Buffer.alloc(2 * RUN_RSS_BYTES, 1) });
      expect(() => limited(body)).toThrow(/to be less than/);
    }
    expect(limited(() => result)).toEqual({ digest: '' });
  });
});
