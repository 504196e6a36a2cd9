// The engines that are TypeScript: they run everywhere, one record at a time.

import type { Contract } from '../bpf/contract.js';
import { interpret } from '../bpf/interpret.js';
import type { Program } from '../bpf/program.js';
import type { Format } from '../format/model.js';
import { referenceUnpack } from '../format/reference.js';
import { walkKeys } from '../format/stream.js';
import type { Engine, EngineName } from '../unpacker.js';

export function interpreterEngine(format: Format, program: Program, contract: Contract): Engine {
  return scriptEngine('interpreter', format, (packed, out) => {
    interpret(program, { args: [out, packed.subarray(0, format.packedBytes)], contract });
  });
}

export const referenceEngine = (format: Format): Engine =>
  scriptEngine('reference', format, (packed, out) => out.set(referenceUnpack(format, packed)));

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
