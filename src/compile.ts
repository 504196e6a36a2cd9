// The whole pipeline. A format is lowered to BPF, the verifier proves the BPF, the JIT compiles the proof's
// program, and the arena publishes the code; or the native emitter makes the code without BPF.

import { contractFor } from './bpf/contract.js';
import { interpret } from './bpf/interpret.js';
import { lower } from './bpf/lower.js';
import { shown } from './bytes.js';
import type { ColumnTarget } from './columns.js';
import { ArgumentError, EngineError } from './errors.js';
import { CodeArena, type Routine } from './exec/arena.js';
import { BulkLoops, LazyLoop } from './exec/bulk.js';
import { ColumnLoops } from './exec/columns.js';
import { cpuTier, runsOn } from './exec/cpu.js';
import { libc } from './exec/libc.js';
import { callOnce, callStream, callStride, loopsIn } from './exec/run.js';
import { TableCalls } from './exec/table.js';
import { columnKey } from './format/column.js';
import { requireFormat } from './format/define.js';
import { formatLabel } from './format/label.js';
import type { Format } from './format/model.js';
import { referenceUnpack } from './format/reference.js';
import { type StreamWalk, walkKeys } from './format/stream.js';
import { type Lifted, lift } from './jit/lift.js';
import { type BulkCode, type MachineCode, TIERS, type Tier } from './jit/target.js';
import { vectorStreamLoop, vectorStrideLoop } from './jit/x64/bulk.js';
import { columnLoop } from './jit/x64/columns.js';
import { lineStrideLoop } from './jit/x64/lines.js';
import { compileX64 } from './jit/x64/lower.js';
import { streamsLoop } from './jit/x64/streams.js';
import { emitNative } from './native/emit.js';
import { type Made, SharedEngines } from './shared.js';
import { tableOf } from './table/table.js';
import { ENGINES, type Engine, type EngineName, Unpacker, type Walked } from './unpacker.js';
import type { VerifiedProgram } from './verifier/verified.js';
import { verify } from './verifier/verify.js';

export interface UnpackerOptions {
  /** Default: 'auto', which takes 'bpf' where machine code can run, and else 'reference'. */
  readonly engine?: 'auto' | EngineName;
  /** Where machine code goes; default: an arena shared by the process. */
  readonly arena?: CodeArena;
  /**
   * What the engine 'bpf' uses of the CPU for many records, from the first on; default: the best it has, once enough
   * have gone by to pay for the machine code.
   */
  readonly tier?: Tier;
}

/**
 * Makes a format ready to use. The unpacker holds machine code until it is disposed of; unpackers of equal formats, in one arena and
 * with the same options, hold the same, which the arena lists under the name of the first of them.
 * @throws FormatError for what is no format; EngineError if the engine that was asked for is not available here, with the reason
 */
export function createUnpacker(format: Format, options: UnpackerOptions = {}): Unpacker {
  requireFormat(format);
  const { engine = 'auto', arena, tier } = options ?? {};
  if (arena !== undefined && !(arena instanceof CodeArena)) {
    throw new ArgumentError('A-TYPE', 'arena must be a CodeArena');
  }
  if (tier !== undefined && !TIERS.includes(tier)) {
    throw new ArgumentError('A-TIER', `tier must be ${TIERS.join(', ')}; got ${shown(tier)}`);
  }
  if (engine !== 'auto')
    return new Unpacker(format, makeEngine(format, engine, arena, tier), () => 'it was asked for');
  try {
    const made = makeEngine(format, 'bpf', arena, tier);
    return new Unpacker(format, made, () => `machine code runs here; ${loopsOf(tier)}`);
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    return new Unpacker(format, makeEngine(format, 'reference'), () => `no machine code: ${error.message}`);
  }
}

/** When 'bpf' unpacks by vectors. */
function loopsOf(wanted: Tier | undefined): string {
  if (wanted) return `${wanted} was asked for`;
  const tier = cpuTier();
  if (tier === 'scalar') return 'the CPU has no AVX2';
  const loops = `avx2 after ${RECORDS_FOR_A_LOOP.toLocaleString('en')} records`;
  return tier === 'avx2' ? loops : `${loops}, avx512 after ${RECORDS_FOR_LINES.toLocaleString('en')}`;
}

/** Format to machine code by way of BPF. */
export function compileFormat(format: Format): MachineCode {
  return compileX64(proven(format), { name: () => formatLabel(format) });
}

const proven = (format: Format): VerifiedProgram => verify(lower(format), contractFor(format));

function makeEngine(format: Format, engine: EngineName, arena?: CodeArena, tier?: Tier): Engine {
  switch (engine) {
    case 'bpf': {
      const home = homeOf(arena);
      return enginesIn(home).take(format, 'bpf', tier, () => bpfEngine(format, home, tier));
    }
    case 'native': {
      const home = homeOf(arena);
      return enginesIn(home).take(format, 'native', undefined, () => nativeEngine(format, home));
    }
    case 'table':
      return tableEngine(format, homeOf(arena));
    case 'interpreter':
      return interpreterEngine(format);
    case 'reference':
      return scriptEngine('reference', format, (packed, out) => out.set(referenceUnpack(format, packed)));
    default:
      throw new ArgumentError('A-ENGINE', `engine must be auto, ${ENGINES.join(', ')}; got ${shown(engine)}`);
  }
}

let sharedArena: CodeArena | undefined;

const homeOf = (arena: CodeArena | undefined): CodeArena => arena ?? (sharedArena ??= new CodeArena());

/**
 * Engines that are kept though nobody uses them, in the arena that the process shares. A file system has some dozens of key formats,
 * and an engine takes 3 KB without loops, 30 KB with all of them. An arena of the caller's keeps none, so that it is as
 * empty as its unpackers leave it.
 */
const KEPT = 64;

const engines = new WeakMap<CodeArena, SharedEngines>();

function enginesIn(home: CodeArena): SharedEngines {
  let found = engines.get(home);
  if (!found) engines.set(home, (found = new SharedEngines(home === sharedArena ? KEPT : 0)));
  return found;
}

/** Whether the arena of a routine that nobody else can free has not been disposed of. */
function isPlaced(routine: Routine): boolean {
  try {
    return routine.address !== 0n;
  } catch (error) {
    if (error instanceof ArgumentError) return false;
    throw error;
  }
}

// A loop pays after as many records as make up for the time it takes to make. Measured (npm run bench prints it): 0.2 to 0.4 ms for one
// that saves 1 ns a record on a fixed stride and 2 ns along a key stream; 0.3 ms more for whole lines, which save another 0.15 ns; 0.5 ms for columns,
// which save 50 ns.
const RECORDS_FOR_A_LOOP = 200_000;
const RECORDS_FOR_LINES = 2_000_000;
const RECORDS_FOR_COLUMNS = 10_000;

/** The record routine for few records, and once there are many the format's own loops. */
function bpfEngine(format: Format, home: CodeArena, wanted: Tier | undefined): Made {
  if (wanted !== undefined) requireTier(wanted);
  const program = proven(format);
  const code = compileX64(program, { name: () => formatLabel(format) });
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
  const bulk = new BulkLoops(home, routine, loopsIn(home), own, keyU64s);
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

/** @throws EngineError where the CPU has not what was asked for */
function requireTier(wanted: Tier): void {
  const best = cpuTier();
  if (!runsOn(wanted, best))
    throw new EngineError('E-TIER', `this CPU has no ${wanted}; the best tier that it has is '${best}'`);
}

function nativeEngine(format: Format, home: CodeArena): Made {
  const code = emitNative(format);
  const routine = home.place(code);
  const loops = loopsIn(home);
  const { unpackedBytes: outStride, keyU64s = 0 } = format;
  const engine: Engine = {
    name: 'native',
    codeBytes: code.length,
    addressOf: libc().addressOf,
    one: (packed, out) => callOnce(home, routine, out, packed),
    many: (packed, count, stride, out) =>
      callStride(home, loops.stride, routine, { out, packed, count, stride, outStride }),
    stream({ keys, start, end, out }, offsets) {
      const run = { keys, start, end, out, keyU64s, offsets };
      return callStream(home, loops.stream, routine, run) as StreamWalk;
    },
    dispose: () => routine.free(),
  };
  return { engine, isPlaced: () => isPlaced(routine) };
}

/** No code of its own: one routine serves all formats. */
function tableEngine(format: Format, home: CodeArena): Engine {
  requireTier('avx512');
  const { kind, bytes } = tableOf(format);
  const loops = loopsIn(home);
  const { packedBytes, unpackedBytes: outStride, keyU64s = 0 } = format;
  const calls = new TableCalls(home, kind, bytes, packedBytes, outStride);
  return {
    name: 'table',
    tier: () => 'avx512',
    addressOf: libc().addressOf,
    one: (packed, out) => calls.stride({ out, packed, count: 1, stride: packedBytes, outStride }),
    many: (packed, count, stride, out) => calls.stride({ out, packed, count, stride, outStride }),
    stream({ out, keys, start, end }, offsets) {
      return calls.stream(loops.stream, { out, keys, start, end, keyU64s, offsets }) as StreamWalk;
    },
    dispose() {},
  };
}

function interpreterEngine(format: Format): Engine {
  const program = lower(format);
  const contract = contractFor(format);
  return scriptEngine('interpreter', format, (packed, out) => {
    interpret(program, { args: [out, packed.subarray(0, format.packedBytes)], contract });
  });
}

/** An engine in TypeScript: one record at a time, the loops around it in the plainest form. */
function scriptEngine(
  name: EngineName,
  format: Format,
  one: (packed: Uint8Array, out: Uint8Array) => void,
): Engine {
  const { packedBytes, unpackedBytes, keyU64s = 0 } = format;
  return {
    name,
    one,
    many(packed, count, stride, out) {
      for (let i = 0; i < count; i++) {
        one(
          packed.subarray(i * stride, i * stride + packedBytes),
          out.subarray(i * unpackedBytes, (i + 1) * unpackedBytes),
        );
      }
    },
    stream: ({ keys, start, end, out }, offsets) => walkKeys(keys, start, end, keyU64s, one, out, offsets),
    dispose() {},
  };
}
