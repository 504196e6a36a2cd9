// What others take for a program.

import { lower } from '../../dist/index.js';
import { KernelLane } from '../lanes/kernel.mjs';
import { median } from '../work.mjs';

/** Linux packs programs (kernel/bpf/core.c, bpf_prog_pack_alloc): a header of 8 bytes, multiples of 64, in packs of 2 MiB. */
const LINUX = { header: 8, granule: 64, packBytes: 2 * 2 ** 20 };

/**
 * Bytes of a program as measured with uBPF 2a8edd11 and DPDK 22.11 for the formats F1 to F5. uBPF maps the code by itself; DPDK the
 * code, and the program beside it.
 */
export const PUBLISHED = [
  { title: 'uBPF', code: [701, 787], taken: 4096 },
  { title: 'DPDK', code: [67, 136], taken: 8192 },
];

/** Machine code that this machine's kernel makes of formats, and what its pack takes for it; or { missing }. */
export function inLinux(formats) {
  const lengths = [];
  try {
    for (const format of formats) {
      const lane = new KernelLane(format);
      try {
        lengths.push(lane.codeOf(lower(format)).bytes);
      } finally {
        lane.dispose();
      }
    }
  } catch (error) {
    return { missing: error.message };
  }
  const taken = lengths.map((length) => Math.ceil((length + LINUX.header) / LINUX.granule) * LINUX.granule);
  const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
  return {
    programs: lengths.length,
    code: median(lengths),
    taken: sum(taken) / taken.length,
    perPack: Math.floor(LINUX.packBytes / (sum(taken) / taken.length)),
    occupancy: sum(lengths) / sum(taken),
  };
}
