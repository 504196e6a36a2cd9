// Programs as text, in every engine. The format is described in program-vectors.ts.

import { afterAll, expect, test } from 'vitest';
import { assemble } from '../src/bpf/assemble.js';
import { interpret } from '../src/bpf/interpret.js';
import { CodeArena } from '../src/exec/arena.js';
import { compileX64 } from '../src/jit/x64/lower.js';
import { unsafeTrust } from '../src/unsafe.js';
import { verify } from '../src/verifier/verify.js';
import { HELPERS } from './fuzz/helper-functions.js';
import { programVectors } from './program-vectors.js';
import { hex, unhex } from './vectors.js';
import { ubpfContract } from './verifier-cases.js';

const arena = new CodeArena();
afterAll(() => arena.dispose());

test.each(programVectors().map((vector) => [vector.file, vector.title, vector] as const))(
  '%s: %s',
  (_, __, vector) => {
    const program = assemble(vector.text);
    const expected = { r0: vector.r0, mem: vector.memAfter };
    const interpreted = unhex(vector.mem);
    const args = [interpreted, BigInt(interpreted.length)];
    const { r0 } = interpret(program, { args, helpers: HELPERS, strict: true });
    expect({ r0, mem: hex(interpreted) }).toEqual(expected);
    for (const verified of [
      unsafeTrust(program),
      verify(program, { ...ubpfContract(vector), helpers: HELPERS }),
    ]) {
      const memory = unhex(vector.mem);
      const routine = arena.place(compileX64(verified), { helpers: HELPERS });
      expect({ r0: routine.call([memory, BigInt(memory.length)]), mem: hex(memory) }).toEqual(expected);
      routine.free();
    }
  },
);
