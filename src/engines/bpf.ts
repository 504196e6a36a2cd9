// The engine 'bpf': the record routine that the JIT made for few records, and once there are many the format's own loops, from the
// slice form of the same proven program.

import type { ColumnTarget } from '../columns.js';
import type { CodeArena } from '../exec/arena.js';
import { BulkLoops, LazyLoop } from '../exec/bulk.js';
import { ColumnLoops } from '../exec/columns.js';
import { cpuTier, runsOn } from '../exec/cpu.js';
import { libc } from '../exec/libc.js';
import { callOnce, loopsIn } from '../exec/run.js';
import { columnKey } from '../format/column.js';
import type { Format } from '../format/model.js';
import type { StreamWalk } from '../format/stream.js';
import { type Lifted, lift } from '../jit/lift.js';
import type { BulkCode, MachineCode, Tier } from '../jit/target.js';
import { vectorStreamLoop, vectorStrideLoop } from '../jit/x64/bulk.js';
import { columnLoop } from '../jit/x64/columns.js';
import { lineStrideLoop } from '../jit/x64/lines.js';
import { streamsLoop } from '../jit/x64/streams.js';
import type { Engine, Walked } from '../unpacker.js';
import type { VerifiedProgram } from '../verifier/verified.js';
import { isPlaced, type Made } from './shared.js';

// A loop pays after as many records as make up for the time it takes to make. Measured (npm run bench prints it): 0.2 to 0.4 ms for one
// that saves 1 ns a record on a fixed stride and 2 ns along a key stream; 0.3 ms more for whole lines, which save another 0.15 ns; 0.5 ms for columns,
// which save 50 ns.
const RECORDS_FOR_A_LOOP = 200_000;
const RECORDS_FOR_LINES = 2_000_000;
const RECORDS_FOR_COLUMNS = 10_000;

/** @param wanted what its loops use of the CPU, from the first record on; default: the best there is, once it pays */
export function bpfEngine(
  format: Format,
  { program, code }: { readonly program: VerifiedProgram; readonly code: MachineCode },
  home: CodeArena,
  wanted: Tier | undefined,
): Made {
  const loops = loopsIn(home);
  const routine = home.place(code);
  const tier = () => wanted ?? cpuTier();
  const lifted = once(() => lift(program));
  const loop = (needs: Tier, records: number, make: (lifted: Lifted) => BulkCode | undefined) => {
    const ofFormat = () => {
      const form = runsOn(needs, tier()) ? lifted() : undefined;
      return form && make(form);
    };
    return new LazyLoop(home, ofFormat, wanted ? 1 : records);
  };
  const { unpackedBytes: outStride, keyU64s = 0 } = format;
  const own = {
    stride: loop('avx2', RECORDS_FOR_A_LOOP, (form) => vectorStrideLoop(form, tier())),
    stream: loop('avx2', RECORDS_FOR_A_LOOP, (form) => vectorStreamLoop(form, tier())),
    streams: loop('avx2', RECORDS_FOR_A_LOOP, (form) => streamsLoop(form, tier())),
    lines: (distance: number) => loop('avx512', RECORDS_FOR_LINES, (form) => lineStrideLoop(form, distance)),
  };
  const bulk = new BulkLoops(home, routine, loops, own, keyU64s);
  const columnLoops = new ColumnLoops(home);
  const columns = (packed: Uint8Array, count: number, stride: number, targets: readonly ColumnTarget[]) => {
    const specs = targets.map(({ spec }) => spec);
    const make = () => loop('scalar', RECORDS_FOR_COLUMNS, (form) => columnLoop(form, specs, stride, tier()));
    return columnLoops.run(specs.map(columnKey), make, {
      packed,
      count,
      stride,
      columns: targets.map(({ bytes }) => bytes),
    });
  };
  const engine: Engine = {
    name: 'bpf',
    tier,
    codeBytes: code.length,
    addressOf: libc().addressOf,
    one: (packed, out) => callOnce(home, routine, out, packed),
    many: (packed, count, stride, out) => bulk.stride({ out, packed, count, stride, outStride }),
    stream: (span, offsets) => bulk.stream(span, offsets) as StreamWalk,
    streams: (spans) => bulk.streams(spans) as Walked[],
    columns,
    dispose() {
      bulk.free();
      columnLoops.free();
      routine.free();
    },
  };
  return { engine, isPlaced: () => isPlaced(routine) };
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => (made ??= { value: make() }).value;
}

/** When 'bpf' unpacks by vectors: formats that lend themselves to it. */
export function loopsOf(wanted: Tier | undefined): string {
  if (wanted) return `${wanted} was asked for`;
  const tier = cpuTier();
  if (tier === 'scalar') return 'the CPU has no AVX2';
  const count = (records: number) => records.toLocaleString('en');
  const columns = `columns after ${count(RECORDS_FOR_COLUMNS)}`;
  if (tier === 'avx2') return `avx2 after ${count(RECORDS_FOR_A_LOOP)} records, ${columns}`;
  return `avx2 after ${count(RECORDS_FOR_A_LOOP)} records, avx512 after ${count(RECORDS_FOR_LINES)}, ${columns}`;
}
