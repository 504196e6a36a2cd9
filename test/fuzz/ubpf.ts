// libubpf as an oracle, by its public interface (ubpf.h): its interpreter, since its JIT crashes on fetching atomics
// whose address is in r0.

import { createRequire } from 'node:module';
import { encodeProgram } from '../../src/bpf/encode.js';
import { libc } from '../../src/exec/libc.js';
import { callsHelpers, type Oracle } from './oracles.js';

/** @param path of libubpf.so; what cannot be loaded is an error */
export function openUbpf(path: string): Oracle {
  const koffi: typeof import('koffi') = createRequire(import.meta.url)('koffi');
  const lib = koffi.load(path);
  const create = lib.func('void *ubpf_create()');
  const destroy = lib.func('void ubpf_destroy(void *vm)');
  const load = lib.func('int ubpf_load(void *vm, const void *code, uint32_t bytes, _Out_ void **message)');
  const exec = lib.func('int ubpf_exec(const void *vm, void *memory, size_t bytes, void *result)');
  const free = koffi.load(null).func('void free(void *memory)');
  const notes = new Map<string, number>();
  return {
    name: 'uBPF',
    notes,
    load(program) {
      if (callsHelpers(program)) return undefined;
      const code = encodeProgram(program);
      const vm = create();
      const message: unknown[] = [null];
      if (load(vm, code, code.length, message) !== 0) {
        const text = message[0] ? koffi.decode(message[0], 'char', -1) : 'no message';
        if (message[0]) free(message[0]);
        destroy(vm);
        const reason = `refused: ${String(text).trim().replace(/\d+/g, 'N')}`;
        notes.set(reason, (notes.get(reason) ?? 0) + 1);
        return undefined;
      }
      return {
        run(memory) {
          const result = new BigUint64Array(1);
          if (exec(vm, libc().addressOf(memory), memory.length, result) !== 0)
            throw new Error('uBPF stopped the program');
          return result[0]!;
        },
        free: () => destroy(vm),
      };
    },
    dispose() {},
  };
}
