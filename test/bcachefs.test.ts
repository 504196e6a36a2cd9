import { beforeAll, describe, expect, it } from 'vitest';
import { Blacklist } from '../src/bcachefs/blacklist.js';
import { Checksums } from '../src/bcachefs/checksum.js';
import type { Device } from '../src/bcachefs/device.js';
import { type BtreeNode, nodeKeys, openFilesystem, positionText } from '../src/bcachefs/index.js';
import { btreeName, versionText } from '../src/bcachefs/names.js';
import { POSITION_MAX, POSITION_MIN, positionAt, successor } from '../src/bcachefs/position.js';
import type { ImageError } from '../src/index.js';
import { journalEntries, OverlayDevice } from './corruptions.js';
import { ENGINES_HERE } from './engines.js';
import { IMAGE_NAMES, type ImageName, imageDevices, type TrueNode, trueNodes } from './images.js';
import { hex } from './vectors.js';

const KEYS: Record<ImageName, number> = {
  mini: 2904,
  'mini-synth': 2741,
  'v1.39-mini': 2455,
  dirty: 2695,
  multi: 2098,
  encrypted: 1552,
  'csum-xxhash': 15660,
  'csum-crc64': 24135,
  'v1.4': 25665,
};

function nodeText(node: BtreeNode): string {
  const bsets = node.bsets.map(({ start }) => start).join(',');
  return `${node.btreeName} ${node.level} ${node.dev} ${node.sector} ${hex(node.formatBytes)} ${bsets}`;
}

function trueNodeText(node: TrueNode): string {
  const bsets = node.bsets.map(({ keys_offset }) => keys_offset).join(',');
  return `${node.btree_name} ${node.level} ${node.dev} ${node.sector} ${node.format.raw} ${bsets}`;
}

describe.each(IMAGE_NAMES)('%s', (name) => {
  let devices: Device[];
  let truth: TrueNode[];
  beforeAll(async () => {
    devices = await imageDevices(name);
    truth = await trueNodes(name);
  });

  it.each(ENGINES_HERE)('has the nodes and keys that the C code finds, by engine %s', async (engine) => {
    const damages: ImageError[] = [];
    const filesystem = await openFilesystem(devices, { engine, onDamage: (error) => damages.push(error) });
    const nodes: string[] = [];
    const keys: string[] = [];
    for (const node of filesystem.nodes()) {
      nodes.push(nodeText(node));
      for (const { o, packed, unpacked } of nodeKeys(node)) keys.push(`${o} ${packed} ${hex(unpacked)}`);
    }
    filesystem.close();
    expect(damages).toEqual([]);
    expect(nodes).toEqual(truth.map(trueNodeText));
    const trueKeys = truth.flatMap((node) => node.bsets.flatMap((bset) => bset.keys));
    expect(keys.length).toBe(KEYS[name]);
    expect(keys).toEqual(trueKeys.map(({ o, packed, unpacked }) => `${o} ${packed} ${unpacked}`));
  });
});

describe('a file system', () => {
  const engine = 'reference';

  it('reads one btree alone', async () => {
    const filesystem = await openFilesystem(await imageDevices('mini'), { engine });
    const names = new Set([...filesystem.nodes({ btree: 'inodes' })].map((node) => node.btreeName));
    expect([...names]).toEqual(['inodes']);
  });

  it('shares one unpacker among nodes of one format', async () => {
    const filesystem = await openFilesystem(await imageDevices('mini'), { engine });
    const nodes = [...filesystem.nodes()];
    const formats = new Set(nodes.map((node) => hex(node.formatBytes)));
    expect(new Set(nodes.map((node) => node.unpacker)).size).toBe(formats.size);
    expect(filesystem.formatCount).toBe(formats.size);
    expect(formats.size).toBeLessThan(nodes.length);
  });

  it('takes its devices in any order', async () => {
    const devices = await imageDevices('multi');
    const count = async (order: Device[]) => [...(await openFilesystem(order, { engine })).nodes()].length;
    expect(await count([...devices].reverse())).toBe(await count(devices));
  });

  it('is read from replicas where a device is missing, under the address of the first one', async () => {
    const truth = await trueNodes('multi');
    const [, second] = await imageDevices('multi');
    const heard: [string, boolean][] = [];
    const filesystem = await openFilesystem([second!], {
      engine,
      onDamage: (error, recovered) => heard.push([error.code, recovered]),
    });
    expect([...filesystem.nodes()].map(nodeText)).toEqual(truth.map(trueNodeText));
    expect(heard).toEqual([['missing_device', true]]);
  });

  it('is read from the other replica where a node is damaged', async () => {
    const [first, second] = await imageDevices('multi');
    const node = (await trueNodes('multi'))[0]!;
    const damaged = new OverlayDevice(first!);
    damaged.flip(node.sector * 512 + 200, 1);
    const heard: [string, boolean, number | undefined][] = [];
    const filesystem = await openFilesystem([damaged, second!], {
      engine,
      onDamage: (error, recovered) => heard.push([error.code, recovered, error.where.sector]),
    });
    expect([...filesystem.nodes()].length).toBe((await trueNodes('multi')).length);
    expect(heard).toEqual([['bad_checksum', true, node.sector]]);
  });

  it.each([
    ['two file systems', ['mini', 'mini-synth'], 'foreign_device'],
    ['one device twice', ['mini', 'mini'], 'duplicate_device'],
  ] as const)('refuses %s', async (_, names, code) => {
    const devices = (await Promise.all(names.map(imageDevices))).flat();
    await expect(openFilesystem(devices, { engine })).rejects.toMatchObject({ name: 'ImageError', code });
  });

  it('refuses no devices, and what is no image', async () => {
    await expect(openFilesystem([], { engine })).rejects.toMatchObject({ code: 'no_device' });
    const [mini] = await imageDevices('mini');
    const blank = new OverlayDevice(mini!);
    for (const sector of [7, 8, 2056, 129024 / 8]) blank.patch(sector * 512, new Uint8Array(512));
    await expect(openFilesystem([blank], { engine })).rejects.toMatchObject({ code: 'no_superblock' });
    const short = new OverlayDevice(mini!);
    short.truncate(1000);
    await expect(openFilesystem([short], { engine })).rejects.toMatchObject({ code: 'past_end' });
  });

  it('needs the first superblock no more than any other copy', async () => {
    const [mini] = await imageDevices('mini');
    const damaged = new OverlayDevice(mini!);
    damaged.patch(4096, new Uint8Array(4096));
    const heard: [string, boolean][] = [];
    const filesystem = await openFilesystem([damaged], {
      engine,
      onDamage: (error, recovered) => heard.push([error.code, recovered]),
    });
    expect(filesystem.superblock.sector).toBe(2056);
    expect([...filesystem.nodes()].length).toBe(92);
    expect(heard).toEqual([['no_superblock', true]]);
  });

  it('says that an image was cut off, and reads the rest of it on demand', async () => {
    const [mini] = await imageDevices('mini');
    const cut = new OverlayDevice(mini!);
    cut.truncate(3_600_000);
    await expect(openFilesystem([cut], { engine })).rejects.toMatchObject({
      code: 'truncated',
      where: { file: mini!.name, byte: 3_600_000 },
    });
    const codes = new Map<string, number>();
    const onDamage = ({ code }: ImageError) => codes.set(code, (codes.get(code) ?? 0) + 1);
    const filesystem = await openFilesystem([cut], { engine, keepGoing: true, onDamage });
    const whole = new Set((await trueNodes('mini')).map(trueNodeText));
    const read = [...filesystem.nodes()].map(nodeText);
    expect(read.length).toBeGreaterThan(10);
    expect(read.filter((node) => !whole.has(node))).toEqual([]);
    expect(codes.get('truncated')).toBe(1);
    expect(codes.get('past_end')).toBeGreaterThan(0);
  });

  it('keeps the bsets before a damaged one, when asked to keep going', async () => {
    const [mini] = await imageDevices('mini');
    const truth = (await trueNodes('mini'))[0]!;
    const damaged = new OverlayDevice(mini!);
    damaged.flip(truth.sector * 512 + truth.bsets[2]!.keys_offset + 3, 4);
    const heard: string[] = [];
    const filesystem = await openFilesystem([damaged], {
      engine,
      keepGoing: true,
      onDamage: (error, recovered) => heard.push(`${recovered} ${error.message}`),
    });
    const [node] = filesystem.nodes();
    expect(node!.bsets.map(({ start }) => start)).toEqual(
      truth.bsets.slice(0, 2).map((bset) => bset.keys_offset),
    );
    const byte = truth.sector * 512 + truth.bsets[2]!.keys_offset - 40;
    expect(heard).toEqual([
      `false ${mini!.name}, btree extents, level 0, sector ${truth.sector}, byte ${byte}: bset: the checksum does not match`,
    ]);
  });

  it('does not wait for a passphrase: it refuses', async () => {
    const [encrypted] = await imageDevices('encrypted');
    const superblock = Buffer.from(encrypted!.read(4096, 65536));
    const at = superblock.indexOf('bch**key');
    expect(at).toBeGreaterThan(0);
    const locked = new OverlayDevice(encrypted!);
    locked.patch(4096 + at, Buffer.from('no clear'));
    locked.sealSuperblock(4096, await Checksums.load());
    locked.patch(3584, new Uint8Array(512));
    for (const copy of locked.superblockCopies().slice(1)) locked.patch(copy, new Uint8Array(4096));
    await expect(openFilesystem([locked], { engine })).rejects.toMatchObject({ code: 'passphrase' });
  });
});

describe('pointers to nodes', () => {
  const engine = 'reference';
  const NODE_BYTES = 8192;

  /** Replaces what follows each occurrence of a node's seq in the journal, and makes the checksums anew. */
  async function pointElsewhere(
    device: OverlayDevice,
    base: Device,
    seq: Uint8Array,
    change: (at: number) => void,
  ) {
    const checksums = await Checksums.load();
    for (const { offset, length } of journalEntries(base)) {
      const entry = Buffer.from(base.read(offset, length));
      for (let at = entry.indexOf(seq); at >= 0; at = entry.indexOf(seq, at + 1)) change(offset + at);
      device.sealJournalEntry(offset, checksums);
    }
  }

  /** A leaf of inodes to which a newer pointer is in the journal. */
  async function updatedLeaf(device: Device): Promise<TrueNode> {
    const journal = journalEntries(device).map(({ offset, length }) =>
      Buffer.from(device.read(offset, length)),
    );
    const leaves = (await trueNodes('dirty')).filter(
      (node) => node.btree_name === 'inodes' && node.level === 0,
    );
    return leaves.find(({ sector }) => {
      const seq = Buffer.from(device.read(sector * 512 + 136, 8));
      return journal.some((entry) => entry.includes(seq));
    })!;
  }

  const word = (value: bigint): Uint8Array => new Uint8Array(BigUint64Array.of(value).buffer);

  it('in the journal replace those in interior nodes', async () => {
    const [dirty] = await imageDevices('dirty');
    const truth = await trueNodes('dirty');
    const moved = await updatedLeaf(dirty!);
    const device = new OverlayDevice(dirty!);
    const bytes = dirty!.read(moved.sector * 512, NODE_BYTES);
    const place = 100_000;
    expect(dirty!.read(place * 512, NODE_BYTES).every((byte) => byte === 0)).toBe(true);
    device.patch(place * 512, bytes);
    device.patch(moved.sector * 512, new Uint8Array(NODE_BYTES));
    const pointer = word((BigInt(place) << 4n) | 1n);
    await pointElsewhere(device, dirty!, bytes.subarray(136, 144), (at) => device.patch(at + 32, pointer));
    const filesystem = await openFilesystem([device], { engine });
    const expected = truth.map((node) => (node.sector === moved.sector ? { ...node, sector: place } : node));
    expect([...filesystem.nodes()].map(nodeText)).toEqual(expected.map(trueNodeText));
  });

  it('that the journal deletes leave a gap, which is damage', async () => {
    const [dirty] = await imageDevices('dirty');
    const device = new OverlayDevice(dirty!);
    const seq = dirty!.read((await updatedLeaf(dirty!)).sector * 512 + 136, 8);
    await pointElsewhere(device, dirty!, seq, (at) => device.patch(at - 46, Uint8Array.of(0)));
    const opened = await openFilesystem([device], { engine });
    expect(() => [...opened.nodes({ btree: 'inodes' })]).toThrow(
      expect.objectContaining({ code: 'node_gap' }),
    );
  });

  it('may not lead to one node twice, nor back up the tree', async () => {
    const [mini] = await imageDevices('mini');
    const checksums = await Checksums.load();
    const whole = await openFilesystem([mini!], { engine });
    const nodes = [...whole.nodes({ btree: 'extents' })];
    const root = nodes.at(-1)!;
    // In the last bset, so nothing replaces it.
    const changed = [...nodeKeys(root)].at(-1)!.value;
    const offset = root.where.byte! + changed.byteOffset - root.bytes.byteOffset;
    const codes = async (target: BtreeNode) => {
      const device = new OverlayDevice(mini!);
      device.patch(offset + 8, target.bytes.subarray(136, 144));
      device.patch(offset + 40, word((BigInt(target.sector) << 4n) | 1n));
      root.bsets.forEach(({ start }, i) => {
        const keys = i === 0 ? 160 : 40;
        device.sealBset(root.where.byte! + start - keys, keys, checksums);
      });
      const heard: string[] = [];
      const onDamage = (error: ImageError) =>
        heard.push(`${error.code} ${error.where.btree} ${error.where.level}`);
      const filesystem = await openFilesystem([device], { engine, keepGoing: true, onDamage });
      expect([...filesystem.nodes()].length).toBe(91);
      return heard;
    };
    expect(await codes(nodes[0]!)).toEqual(['node_twice extents 0']);
    expect(await codes(root)).toEqual(['node_twice extents 0']);
  });
});

describe('checksums', () => {
  // Check values of the catalogued algorithms for the text 123456789: CRC-32C, CRC-64/WE, CRC-32C with neither initial
  // value nor inversion, CRC-64/ECMA-182, XXH64.
  it.each([
    [0, '0000000000000000'],
    [1, '839206e300000000'],
    [2, '0af0a4f1e359ec62'],
    [5, '20fae35800000000'],
    [6, '4773490b5fdf406c'],
    [7, '83aee640db41b88c'],
  ])('of type %i have the catalogued check value', async (type, expected) => {
    const checksum = (await Checksums.load()).of(type, Buffer.from('123456789'))!;
    expect(hex(checksum)).toBe(expected + '0'.repeat(16));
  });

  it('of other types are unknown, and MACs need a key', async () => {
    const checksums = await Checksums.load();
    expect([3, 4, 8, 15].map((type) => checksums.of(type, new Uint8Array(8)))).toEqual(
      new Array(4).fill(undefined),
    );
  });
});

describe('positions', () => {
  it('are ordered by inode, offset, snapshot', () => {
    const bytes = new Uint8Array(20);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, 3, true);
    view.setBigUint64(4, 1n << 40n, true);
    view.setBigUint64(12, 7n, true);
    const position = positionAt(bytes, 0);
    expect(positionText(position)).toBe('7:1099511627776:3');
    expect(positionText(successor(position))).toBe('7:1099511627776:4');
    expect(positionText(successor('\0'.repeat(16) + '\xff'.repeat(4)))).toBe('0:1:0');
    expect(successor(POSITION_MAX)).toBe(POSITION_MIN);
    expect(POSITION_MIN < position && position < POSITION_MAX).toBe(true);
  });
});

describe('names', () => {
  it('follow the version, and say so when a number is unknown', () => {
    expect(btreeName(0, 1060)).toBe('extents');
    expect(btreeName(18, 1028)).toBe('rebalance_work');
    expect(btreeName(18, 1060)).toBe('reconcile_work');
    expect(btreeName(28, 1063)).toBe('damage');
    expect(btreeName(29, 1063)).toBe('unknown_btree_29');
    expect([versionText(1060), versionText(12)]).toEqual(['1.36', '0.12']);
  });
});

describe('blacklisted sequence numbers', () => {
  it('are merged from ranges in any order', () => {
    const blacklist = new Blacklist([
      { start: 20n, end: 30n },
      { start: 5n, end: 9n },
      { start: 9n, end: 12n },
      { start: 3n, end: 3n },
    ]);
    const skipped = [2n, 3n, 5n, 8n, 11n, 12n, 19n, 20n, 29n, 30n].map((seq) => blacklist.skip(seq));
    expect(skipped).toEqual([2n, 3n, 12n, 12n, 12n, 12n, 19n, 30n, 30n, 30n]);
    expect([4n, 5n, 29n].map((seq) => blacklist.has(seq))).toEqual([false, true, true]);
  });
});
