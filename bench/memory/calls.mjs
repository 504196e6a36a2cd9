// Calls of many routines in random order, by a loop in machine code: what it costs that code lies here and there.

import { callLoop } from '../../dist/exec/arena.js';
import { CodeArena } from '../../dist/index.js';
import { makeCode } from '../../dist/jit/target.js';
import { bytesOf } from '../player.mjs';
import { median, minimum, shuffle } from '../work.mjs';
import { Pages } from './pages.mjs';

// u64 each(u64 *entries, u64 count, u64 passes, u8 *dst, u8 *src): entries[i](dst, src) from the last to the first, so many times.
const EACH = `53 55 4154 4155 4156 4157 50            push rbx, rbp, r12, r13, r14, r15, rax
  4889fb 4889f5 4989d4 4989cd 4d89c6          rbx = entries, rbp = count, r12 = passes, r13 = dst, r14 = src
  4989ef                                      pass: r15 = count
  4c89ef 4c89f6 42ff54fbf8                    each: rdi = dst; rsi = src; call [rbx + r15 * 8 - 8]
  49ffcf 75f0                                 dec r15; jne each
  49ffcc 75e8                                 dec r12; jne pass
  58 415f 415e 415d 415c 5d 5b c3             pop rax, r15, r14, r13, r12, rbp, rbx; ret`;

/** Long enough that the crossing into the loop does not show. */
const SAMPLE_CALLS = 20_000;
const RECORD_BYTES = 64;

/** @returns rows of { count, how, ns, median }, the ways in turns */
export function callsInRandomOrder(codes, counts, { rounds, random }) {
  const arena = new CodeArena({ name: 'bench-calls' });
  const each = arena.place(
    makeCode({ isa: 'x64', bytes: bytesOf(EACH), offsets: [], abi: undefined, name: 'each' }),
  );
  const rows = counts.flatMap((count) => {
    const order = shuffle([...Array(count).keys()], random);
    const ways = waysOf(codes.slice(0, count));
    const lanes = ways.map(({ how, addresses }) => ({
      how,
      sample: sampler(
        arena,
        each,
        BigUint64Array.from(order, (i) => addresses[i]),
      ),
      times: [],
    }));
    for (const { sample } of lanes) sample();
    for (let round = 0; round < rounds; round++)
      for (const { sample, times } of shuffle(lanes, random)) times.push(sample());
    for (const { dispose } of ways) dispose();
    return lanes.map(({ how, times }) => ({ count, how, ns: minimum(times), median: median(times) }));
  });
  arena.dispose();
  return rows;
}

function waysOf(codes) {
  const packed = [16, 64].map((granule) => {
    const arena = new CodeArena({ name: 'bench-calls', granule });
    const addresses = arena.placeAll(codes).map(({ address }) => address);
    return { how: `packed, ${granule} bytes`, addresses, dispose: () => arena.dispose() };
  });
  const pages = new Pages(codes);
  return [...packed, { how: 'a page each', addresses: pages.addresses, dispose: () => pages.dispose() }];
}

/** @returns what gives the ns of a call */
function sampler(arena, each, entries) {
  const passes = Math.ceil(SAMPLE_CALLS / entries.length);
  const [dst, src] = [new Uint8Array(RECORD_BYTES), new Uint8Array(RECORD_BYTES)];
  return () => {
    const begun = process.hrtime.bigint();
    callLoop(arena, each, [entries, BigInt(entries.length), BigInt(passes), dst, src, 0n]);
    return Number(process.hrtime.bigint() - begun) / passes / entries.length;
  };
}
