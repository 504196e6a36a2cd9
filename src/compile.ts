// The whole pipeline. A format is lowered to BPF, the verifier proves the BPF, the JIT compiles the proof's
// program, and the arena publishes the code; or the native emitter makes the code without BPF.

import { contractFor } from './bpf/contract.js';
import { interpret } from './bpf/interpret.js';
import { lower } from './bpf/lower.js';
import { shown } from './bytes.js';
import { ArgumentError, EngineError } from './errors.js';
import { CodeArena } from './exec/arena.js';
import { libc } from './exec/libc.js';
import { callStream, callStride, loopsIn } from './exec/run.js';
import { requireFormat } from './format/define.js';
import type { Format } from './format/model.js';
import { referenceUnpack } from './format/reference.js';
import { type StreamEnd, walkKeys } from './format/stream.js';
import type { MachineCode } from './jit/target.js';
import { compileX64 } from './jit/x64/lower.js';
import { emitNative } from './native/emit.js';
import { ENGINES, type Engine, type EngineName, Unpacker } from './unpacker.js';
import { verify } from './verifier/verify.js';

export interface UnpackerOptions {
  /** Default: 'auto', which takes 'bpf' where machine code can run, and else 'reference'. */
  readonly engine?: 'auto' | EngineName;
  /** Where machine code goes; default: an arena shared by the process. */
  readonly arena?: CodeArena;
}

/**
 * Makes a format ready to use. The unpacker holds machine code until it is disposed of.
 * @throws FormatError for what is no format; EngineError if the engine that was asked for is not available here, with the reason
 */
export function createUnpacker(format: Format, options: UnpackerOptions = {}): Unpacker {
  requireFormat(format);
  const { engine = 'auto', arena } = options ?? {};
  if (arena !== undefined && !(arena instanceof CodeArena)) {
    throw new ArgumentError('A-TYPE', 'arena must be a CodeArena');
  }
  if (engine !== 'auto') return new Unpacker(format, makeEngine(format, engine, arena), 'it was asked for');
  try {
    return new Unpacker(format, makeEngine(format, 'bpf', arena), 'machine code runs here');
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    return new Unpacker(
      format,
      makeEngine(format, 'reference', undefined),
      `no machine code: ${error.message}`,
    );
  }
}

/** Format to machine code by way of BPF. */
export function compileFormat(format: Format): MachineCode {
  const program = lower(format);
  const verified = verify(program, contractFor(format));
  return compileX64(verified, { name: format.name });
}

function makeEngine(format: Format, engine: EngineName, arena: CodeArena | undefined): Engine {
  switch (engine) {
    case 'bpf':
      return machineEngine('bpf', format, compileFormat(format), arena);
    case 'native':
      return machineEngine('native', format, emitNative(format), arena);
    case 'interpreter':
      return interpreterEngine(format);
    case 'reference':
      return scriptEngine('reference', format, (packed, out) => out.set(referenceUnpack(format, packed)));
    default:
      throw new ArgumentError('A-ENGINE', `engine must be auto, ${ENGINES.join(', ')}; got ${shown(engine)}`);
  }
}

let sharedArena: CodeArena | undefined;

function machineEngine(
  name: EngineName,
  format: Format,
  code: MachineCode,
  arena: CodeArena | undefined,
): Engine {
  const home = arena ?? (sharedArena ??= new CodeArena());
  const routine = home.place(code);
  const loops = loopsIn(home);
  const { unpackedBytes: outStride, keyU64s = 0 } = format;
  return {
    name,
    codeBytes: code.length,
    addressOf: libc().addressOf,
    many: (packed, count, stride, out) =>
      callStride(home, loops.stride, routine, { out, packed, count, stride, outStride }),
    stream(keys, start, end, out, offsets) {
      const walk = callStream(home, loops.stream, routine, { out, keys, start, end, keyU64s, offsets });
      return { ...walk, ended: walk.ended as StreamEnd };
    },
    dispose: () => routine.free(),
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
    many(packed, count, stride, out) {
      for (let i = 0; i < count; i++) {
        one(
          packed.subarray(i * stride, i * stride + packedBytes),
          out.subarray(i * unpackedBytes, (i + 1) * unpackedBytes),
        );
      }
    },
    stream: (keys, start, end, out, offsets) => walkKeys(keys, start, end, keyU64s, one, out, offsets),
    dispose() {},
  };
}
