// The engine 'table': one routine for all formats, and the constants of each.

import type { CodeArena } from '../exec/arena.js';
import { libc } from '../exec/libc.js';
import { loopsIn } from '../exec/run.js';
import { TableCalls } from '../exec/table.js';
import type { Format } from '../format/model.js';
import type { StreamWalk } from '../format/stream.js';
import type { Table } from '../table/table.js';
import type { Engine } from '../unpacker.js';

export function tableEngine(format: Format, { kind, bytes }: Table, home: CodeArena): Engine {
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
