// The engine 'native': a routine emitted without BPF, and the loops around any routine.

import type { CodeArena } from '../exec/arena.js';
import { libc } from '../exec/libc.js';
import { callOnce, callStream, callStride, loopsIn } from '../exec/run.js';
import type { Format } from '../format/model.js';
import type { StreamWalk } from '../format/stream.js';
import type { MachineCode } from '../jit/target.js';
import type { Engine } from '../unpacker.js';
import { isPlaced, type Made } from './shared.js';

export function nativeEngine(format: Format, code: MachineCode, home: CodeArena): Made {
  const loops = loopsIn(home);
  const routine = home.place(code);
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
