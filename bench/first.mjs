// In a process of its own, of which it prints the times in µs: `node bench/first.mjs ROUTE`. Loads the library's modules, then koffi and the
// code memory, then goes from a format to its first record: by an engine of `createUnpacker`, or ('stages') step by step.

const now = () => Number(process.hrtime.bigint()) / 1000;
const begun = now();
const { CodeArena, compileX64, contractFor, createUnpacker, lower, verify } = await import(
  '../dist/index.js'
);
const imported = now();
const { FORMATS } = await import('./work.mjs');
const format = FORMATS.F1;
const [packed, out] = [new Uint8Array(format.packedBytes), new Uint8Array(format.unpackedBytes)];
const times = { modules: imported - begun };

function timed(stage, work) {
  const start = now();
  const result = work();
  times[stage] = now() - start;
  return result;
}

const arena = timed('load', () => new CodeArena());
if (process.argv[2] === 'stages') {
  const program = timed('lower', () => lower(format));
  const verified = timed('verify', () => verify(program, contractFor(format)));
  const code = timed('JIT', () => compileX64(verified));
  const routine = timed('place', () => arena.place(code));
  timed('first call', () => routine.call([out, packed]));
} else {
  const unpacker = timed('make', () => createUnpacker(format, { engine: process.argv[2], arena }));
  timed('call', () => unpacker.unpack(packed, out));
}
console.log(JSON.stringify(times));
