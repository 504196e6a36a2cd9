// Reads the vectors: JSON, an object a line, compressed.

import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

const folder = new URL('./vectors/', import.meta.url);

/** The objects of a .jsonl.gz below test/vectors. */
export function vectors<T>(path: string): T[] {
  return jsonLines(gunzipSync(readFileSync(new URL(path, folder))).toString());
}

export function jsonLines<T>(text: string): T[] {
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as T);
}

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
/** A buffer of its own, so that nothing else lies in its ArrayBuffer. */
export const unhex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'hex'));

/** A line of ubpf/vectors.jsonl: memory and r0 after a run in uBPF with r1 = mem, r2 = its length. */
export interface UbpfVector {
  id: string;
  insns: string;
  mem: string;
  r0: string;
  mem_after: string;
}

/** A line of formats.jsonl or real_formats.jsonl. */
export interface FormatVector {
  format: { key_u64s: number; bits_per_field: number[]; field_offset: string[]; raw: string };
  keys: { packed: string; unpacked: string }[];
}
