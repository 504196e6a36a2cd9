// The sample images and what bcachefs's own C code says is in them.

import { fileURLToPath } from 'node:url';
import { type Device, openDevice } from '../src/bcachefs/index.js';
import { jsonLines } from './vectors.js';

/** The image that comes with the package. */
export const SAMPLE = fileURLToPath(new URL('../sample/mini.img.zst', import.meta.url));

export const vectorPath = (file: string): string =>
  fileURLToPath(new URL(`vectors/bcachefs/${file}`, import.meta.url));

/** Image files of each file system. */
export const IMAGES = {
  mini: [SAMPLE],
  'mini-synth': [vectorPath('mini-synth.img.zst')],
  'v1.39-mini': [vectorPath('v1.39-mini.img.zst')],
  dirty: [vectorPath('dirty.img.zst')],
  multi: [vectorPath('multi-0.img.zst'), vectorPath('multi-1.img.zst')],
  encrypted: [vectorPath('encrypted.img.zst')],
  'csum-xxhash': [vectorPath('csum-xxhash.img.zst')],
  'csum-crc64': [vectorPath('csum-crc64.img.zst')],
  'v1.4': [vectorPath('v1.4.img.zst')],
} as const;

export type ImageName = keyof typeof IMAGES;
export const IMAGE_NAMES = Object.keys(IMAGES) as ImageName[];

export interface TrueNode {
  readonly btree_name: string;
  readonly level: number;
  readonly dev: number;
  readonly sector: number;
  readonly format: {
    readonly raw: string;
    readonly key_u64s: number;
    readonly bits_per_field: readonly number[];
    readonly field_offset: readonly string[];
  };
  readonly bsets: readonly { readonly keys_offset: number; readonly keys: readonly TrueKey[] }[];
}

export interface TrueKey {
  readonly o: number;
  readonly packed: boolean;
  readonly unpacked: string;
  readonly u64s: number;
  readonly format: number;
  readonly needs_whiteout: number;
  readonly type: number;
  readonly version_hi: number;
  readonly version_lo: string;
  readonly size: number;
  readonly snapshot: number;
  readonly offset: string;
  readonly inode: string;
}

const opened = new Map<string, Promise<Device>>();

/** The devices of an image, opened once. */
export function imageDevices(name: ImageName): Promise<Device[]> {
  return Promise.all(
    IMAGES[name].map((file) => {
      if (!opened.has(file)) opened.set(file, openDevice(file));
      return opened.get(file)!;
    }),
  );
}

export async function trueNodes(name: ImageName): Promise<TrueNode[]> {
  const file = await openDevice(vectorPath(`${name}.nodes.jsonl.zst`));
  const text = Buffer.from(file.read(0, file.size)).toString();
  file.close();
  return jsonLines<TrueNode>(text);
}
