// `node bench/crossing.mjs`: what it costs to get from JavaScript into machine code, by each way that koffi has; the way that is used
// is marked. Minimum and median of short samples in random turns, in one process.

import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { gateBy } from '../dist/exec/gate.js';
import { libc } from '../dist/exec/libc.js';
import { CodeArena, createUnpacker, emitNative } from '../dist/index.js';
import { makeCode } from '../dist/jit/target.js';
import { compare } from './calls.mjs';
import { table } from './report.mjs';
import { FORMATS, machine, minimum, seeded } from './work.mjs';

const MANY = 1000;
const POINTERS = (count) => Array.from({ length: count }, () => 'void *').join(', ');

/** Code that takes what it calls, and with what, from a block of words whose address is written into it. */
function blockCode(block) {
  // mov rax, block; mov rdi, [rax+8]; mov rsi, [rax+16]; jmp [rax]
  const bytes = Buffer.from('48b80000000000000000488b7808488b7010ff20', 'hex');
  bytes.writeBigUInt64LE(block, 2);
  return makeCode({ isa: 'x64', bytes, offsets: [], abi: undefined, name: 'block' });
}

/** @returns { one, many, making }: rows of { title, ns, median } for one record and for many, and µs to make a function */
export async function crossing(options) {
  const koffi = createRequire(import.meta.url)('koffi');
  const format = FORMATS.F2;
  const arena = new CodeArena({ name: 'bench-crossing' });
  const routine = arena.place(emitNative(format));
  const gate = gateBy('memfd');
  const entry = routine.address;
  const block = new BigUint64Array(new ArrayBuffer(24));
  const blockGate = koffi.decode(
    arena.place(blockCode(libc().addressOf(new Uint8Array(block.buffer)))).address,
    koffi.proto('void bench_block()'),
  );
  const two = koffi.proto(`void bench_two(${POINTERS(2)})`);
  const six = koffi.proto(`uint64_t bench_six(${POINTERS(6)})`);
  const numbers = koffi.decode(entry, koffi.proto('void bench_numbers(uint64_t, uint64_t)'));
  const own = koffi.decode(entry, two);
  const [packed, out] = [format.packedBytes, format.unpackedBytes].map(
    (bytes) => new Uint8Array(new ArrayBuffer(bytes)),
  );
  const kept = [out, packed].map((bytes) => libc().addressOf(bytes));
  const keptNumbers = kept.map(Number);
  const unpacker = createUnpacker(format, { engine: 'native', arena });
  const askInto = (words) => {
    words[0] = entry;
    words[1] = koffi.address(out);
    words[2] = koffi.address(packed);
  };
  const one = compare(
    {
      'koffi.call of the address, two buffers': () => koffi.call(entry, two, out, packed),
      'koffi.call of the address, six arguments': () => koffi.call(entry, six, out, packed, 0n, 0n, 0n, 0n),
      'a function for each routine, two buffers': () => own(out, packed),
      'the same, addresses kept, as numbers': () => numbers(keptNumbers[0], keptNumbers[1]),
      'the same, addresses kept, as BigInt': () => numbers(kept[0], kept[1]),
      'the gate, two buffers (what unpack uses)': () => gate.two(entry, out, packed),
      'the gate, six arguments (what loops use)': () => gate.six(entry, out, packed, 0n, 0n, 0n, 0n),
      'the gate, a new small buffer each time': () =>
        gate.two(entry, new Uint8Array(format.unpackedBytes), packed),
      'a block of words, addresses kept': () => {
        block[0] = entry;
        block[1] = kept[0];
        block[2] = kept[1];
        blockGate();
      },
      'a block of words, addresses asked for': () => {
        askInto(block);
        blockGate();
      },
      'unpack into a buffer': () => unpacker.unpack(packed, out),
      'unpack into a new one': () => unpacker.unpack(packed),
      'routine.call': () => routine.call([out, packed]),
    },
    options,
  );
  const records = new Uint8Array(format.packedBytes * MANY);
  const all = new Uint8Array(format.unpackedBytes * MANY);
  const many = compare(
    { [`unpackMany, ${MANY} records`]: () => unpacker.unpackMany(records, MANY, { out: all }) },
    options,
  );
  const waits = await asynchronous(own, out, packed);
  const making = minimum(Array.from({ length: 200 }, () => elapsed(() => koffi.decode(entry, two)) / 1000));
  unpacker.dispose();
  arena.dispose();
  return { one: [...one, { title: 'asynchronous, one after the other', ...waits }], many, making };
}

function elapsed(work) {
  const begun = process.hrtime.bigint();
  work();
  return Number(process.hrtime.bigint() - begun);
}

async function asynchronous(call, out, packed) {
  const times = [];
  for (let i = 0; i < 300; i++) {
    const begun = process.hrtime.bigint();
    await new Promise((resolve) => call.async(out, packed, resolve));
    times.push(Number(process.hrtime.bigint() - begun));
  }
  times.sort((a, b) => a - b);
  return { ns: times[0], median: times[150] };
}

async function main() {
  const { one, many, making } = await crossing({ rounds: 200, random: seeded(1) });
  console.log(`${machine()}\n\nns of a call that unpacks one record: minimum, median`);
  const rows = [...one, ...many].map(({ title, ns, median }) => [title, ns.toFixed(0), median.toFixed(0)]);
  console.log(table(['', 'ns', 'median'], rows).slice(1).join('\n'));
  console.log(`making a function of koffi's: ${making.toFixed(1)} µs`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
