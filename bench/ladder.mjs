// Who is how fast: every lane on F1 to F5 and two formats that are not keys, on a fixed stride and along a key stream, in the
// first-level cache, in the second, and out of the caches.

import { lanesOf } from './lanes/lanes.mjs';
import { routinesOf } from './lanes/routines.mjs';
import { inC } from './machine.mjs';
import { race } from './race.mjs';
import { BLOCK, bytesAt, expected, FORMATS, keyStream, nextKey, OTHER_FORMATS, records } from './work.mjs';

export const IN_L1 = 384; // 15 KiB of records
const IN_L2 = 8192; // 320 KiB
const MOST_VALUE = 3;

/** @returns { format, kind, place, count, rows } for each workload */
export function ladder(tools, { random, rounds, outBytes, everywhere, say }) {
  const formats = { ...FORMATS, ...OTHER_FORMATS };
  const functions = inC(tools, Object.values(formats));
  return Object.entries(formats).flatMap(([name, format], i) => {
    const routines = routinesOf(tools, format, functions[i]);
    const kinds = format.keyU64s === undefined ? ['stride'] : ['stride', 'stream'];
    return kinds.flatMap((kind) =>
      placesOf(name, format, { outBytes, everywhere }).map(({ place, count, share }) => {
        say(`${name}, ${kind}, ${place}`);
        const work = makeWork(format, kind, count, random);
        const lanes = lanesOf(tools, work, routines, functions[i]).filter(
          (lane) => share === 1 || takesPart(lane),
        );
        const rows = race(tools, lanes, {
          rounds: Math.max(3, Math.round(rounds * share)),
          random,
          warm: place !== 'memory',
        });
        return { format: name, kind, place, count, rows };
      }),
    );
  });
}

/** In a quick run only two formats leave the first-level cache. */
const FAR = ['F1', 'F5'];

function placesOf(name, { unpackedBytes }, { outBytes, everywhere }) {
  const near = { place: 'L1', count: IN_L1, share: 1 };
  if (!everywhere && !FAR.includes(name)) return [near];
  return [
    near,
    { place: 'L2', count: IN_L2, share: 0.2 },
    { place: 'memory', count: Math.round(outBytes / unpackedBytes / BLOCK) * BLOCK, share: 0.03 },
  ];
}

/** Out of the first-level cache only those that differ there. */
const takesPart = ({ title, group, kind }) =>
  !['interpreter', 'other JITs'].includes(group) &&
  !['JS BigInt', 'BPF, plain', 'empty call'].includes(title) &&
  !(group === 'JavaScript' && kind !== 'loop') &&
  !title.includes('-O2');

/** Records that repeat after some thousands: input and output lie 2 KiB apart modulo 4 KiB. */
export function makeWork(format, kind, count, random) {
  const block = Math.min(count, BLOCK);
  const once =
    kind === 'stream' ? keyStream(format, block, MOST_VALUE, random) : records(format, block, random);
  const wantOnce = expected(format, once, block, kind === 'stream' ? nextKey : undefined);
  const times = Math.ceil(count / block);
  const packed = repeated(once, times, 0);
  const want = repeated(wantOnce, times, 0);
  return { format, kind, count, packed, out: bytesAt(2048, want.length), want };
}

function repeated(once, times, phase) {
  const all = bytesAt(phase, once.length * times);
  for (let i = 0; i < times; i++) all.set(once, i * once.length);
  return all;
}
