// The whole pipeline. A format is lowered to BPF, the verifier proves the BPF, the JIT compiles the proof's
// program, and the arena publishes the code; or the native emitter makes the code without BPF.

import { contractFor } from './bpf/contract.js';
import { lower } from './bpf/lower.js';
import { shown } from './bytes.js';
import { bpfEngine, loopsOf } from './engines/bpf.js';
import { nativeEngine } from './engines/native.js';
import { interpreterEngine, referenceEngine } from './engines/script.js';
import { SharedEngines } from './engines/shared.js';
import { tableEngine } from './engines/table.js';
import { ArgumentError, EngineError } from './errors.js';
import { CodeArena } from './exec/arena.js';
import { cpuTier, runsOn } from './exec/cpu.js';
import { requireFormat } from './format/define.js';
import { formatLabel } from './format/label.js';
import type { Format } from './format/model.js';
import { type MachineCode, TIERS, type Tier } from './jit/target.js';
import { compileX64 } from './jit/x64/lower.js';
import { emitNative } from './native/emit.js';
import { tableOf } from './table/table.js';
import { ENGINES, type Engine, type EngineName, Unpacker } from './unpacker.js';
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
    if (!(error instanceof EngineError && NO_MACHINE_CODE.includes(error.code))) throw error;
    return new Unpacker(format, makeEngine(format, 'reference'), () => `no machine code: ${error.message}`);
  }
}

/** What says that machine code does not run here, and not that something cannot be had which was asked for. */
const NO_MACHINE_CODE = ['E-PLATFORM', 'E-FFI', 'E-SYSTEM'];

/** Format to machine code by way of BPF. */
export const compileFormat = (format: Format): MachineCode => compiled(format, proven(format));

const proven = (format: Format): VerifiedProgram => verify(lower(format), contractFor(format));

const compiled = (format: Format, program: VerifiedProgram): MachineCode =>
  compileX64(program, { name: () => formatLabel(format) });

function makeEngine(format: Format, engine: EngineName, arena?: CodeArena, tier?: Tier): Engine {
  switch (engine) {
    case 'bpf': {
      const home = homeOf(arena);
      return enginesIn(home).take(format, 'bpf', tier, () => {
        if (tier !== undefined) requireTier(tier);
        const program = proven(format);
        return bpfEngine(format, { program, code: compiled(format, program) }, home, tier);
      });
    }
    case 'native': {
      const home = homeOf(arena);
      return enginesIn(home).take(format, 'native', undefined, () =>
        nativeEngine(format, emitNative(format), home),
      );
    }
    case 'table':
      requireTier('avx512');
      return tableEngine(format, tableOf(format), homeOf(arena));
    case 'interpreter':
      return interpreterEngine(format, lower(format), contractFor(format));
    case 'reference':
      return referenceEngine(format);
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

/** @throws EngineError where the CPU has not what was asked for */
function requireTier(wanted: Tier): void {
  const best = cpuTier();
  if (!runsOn(wanted, best))
    throw new EngineError('E-TIER', `this CPU has no ${wanted}; the best tier that it has is '${best}'`);
}
