// Helper functions: the interpreter and the machine code call the same JavaScript, with the same results and errors.

import { runInThisContext } from 'node:vm';
import { afterAll, describe, expect, it } from 'vitest';
import {
  ArgumentError,
  assemble,
  CodeArena,
  type Contract,
  compileX64,
  type Helpers,
  interpret,
  type Routine,
  verify,
} from '../src/index.js';
import { unsafeTrust } from '../src/unsafe.js';

const arena = new CodeArena({ name: 'helpers' });
afterAll(() => arena.dispose());

type Args = (Uint8Array | bigint)[];
type Run = (text: string, contract: Contract, helpers: Helpers, args: Args) => bigint;

const interpreted: Run = (text, contract, helpers, args) => {
  return interpret(assemble(text), { args, contract, helpers, strict: true }).r0;
};
const compiled: Run = (text, contract, helpers, args) => {
  const routine = arena.place(compileX64(verify(assemble(text), contract)), { helpers });
  try {
    return routine.call(args);
  } finally {
    routine.free();
  }
};
const trusted: Run = (text, _contract, helpers, args) => {
  const routine = arena.place(compileX64(unsafeTrust(assemble(text))), { helpers });
  try {
    return routine.call(args);
  } finally {
    routine.free();
  }
};
const ENGINES = [
  { engine: 'interpreter', run: interpreted },
  { engine: 'machine code', run: compiled },
  { engine: 'machine code on trust', run: trusted },
];

const bytes = (length: number, access: 'read' | 'write' | 'readwrite') =>
  ({ kind: 'memory', bytes: length, access }) as const;
const number = { kind: 'scalar' } as const;
const mixing = {
  args: [number, number, number, number, number],
  call: (...words: (Uint8Array | bigint)[]) =>
    BigInt.asUintN(
      64,
      (words as bigint[]).reduce((sum, word) => sum * 31n + word, 7n),
    ),
};
const twoNumbers: Contract = { args: [number, number], helpers: { 1: mixing } };
const MIXED = `
  r3 = 3
  r4 = 4
  r5 = -1
  call 1
  exit`;

describe.each(ENGINES)('in the $engine', ({ run }) => {
  it('a helper function gets r1 to r5 as unsigned numbers, and r0 is what it returns', () => {
    const expected = mixing.call(1n, 2n ** 64n - 1n, 3n, 4n, 2n ** 64n - 1n);
    expect(run(MIXED, twoNumbers, { 1: mixing }, [1n, 2n ** 64n - 1n])).toBe(expected);
  });

  it('memory goes in as a copy, and comes back where it may be written', () => {
    const seen: Uint8Array[] = [];
    const helpers: Helpers = {
      7: {
        args: [bytes(4, 'read'), bytes(3, 'readwrite'), bytes(16, 'write')],
        call(a, b, c) {
          const [read, both, written] = [a, b, c] as Uint8Array[];
          seen.push(read!, Uint8Array.from(both!), Uint8Array.from(written!));
          read!.fill(0xee);
          both![1]! ^= 0xff;
          written!.fill(0x5a);
          return 0n;
        },
      },
    };
    const contract: Contract = { args: [bytes(4, 'read'), bytes(8, 'readwrite')], helpers };
    const text = `
      r6 = r2
      r2 += 2
      r3 = r10
      r3 += -16
      call 7
      r0 = *(u64 *)(r10 - 9)   ; not aligned, wholly inside of what was written
      *(u8 *)(r6 + 7) = 9
      exit`;
    const source = Uint8Array.of(1, 2, 3, 4);
    const target = Uint8Array.of(10, 11, 12, 13, 14, 15, 16, 17);
    const aligned = text.replace('r10 - 9', 'r10 - 8');
    expect(run(aligned, contract, helpers, [source, target])).toBe(0x5a5a_5a5a_5a5a_5a5an);
    expect([...source]).toEqual([1, 2, 3, 4]);
    expect([...target]).toEqual([10, 11, 12, 13 ^ 0xff, 14, 15, 16, 9]);
    expect(seen.slice(1).map((copy) => [...copy])).toEqual([[12, 13, 14], Array(16).fill(0)]);
  });

  it('r6 to r10 are kept, from every depth of local calls, whichever of them the program uses', () => {
    for (let used = 0; used < 16; used++) {
      const saved = [6, 7, 8, 9].filter((_, i) => used & (1 << i));
      const text = `
        ${saved.map((r) => `r${r} = ${r * 1000}`).join('\n')}
        ${used & 1 ? '*(u64 *)(r10 - 8) = 77' : ''}
        call one
        ${saved.map((r) => `r0 += r${r}`).join('\n')}
        ${used & 1 ? 'r1 = *(u64 *)(r10 - 8)\nr0 += r1' : ''}
        exit
      one:
        ${saved.map((r) => `r${r} = ${r}`).join('\n')}
        r1 = 5
        call 2
        ${saved.map((r) => `r0 += r${r}`).join('\n')}
        exit`;
      const helpers: Helpers = { 2: { args: [number], call: (x) => (x as bigint) * 2n } };
      const sum = saved.reduce((total, r) => total + r * 1001, used & 1 ? 77 : 0);
      expect(run(text, { args: [], helpers }, helpers, [])).toBe(BigInt(10 + sum));
    }
  });

  it('what a helper function throws ends the program at once and reaches the caller, from any depth', () => {
    const memory = new Uint8Array(8);
    const failure = new RangeError('no more');
    const helpers: Helpers = {
      3: {
        args: [],
        call() {
          throw failure;
        },
      },
    };
    const text = `
      r6 = r1
      r7 = 1
      call inner
      *(u8 *)(r6 + 0) = 1
      r0 = 0
      exit
    inner:
      r8 = r10
      call 3
      *(u8 *)(r6 + 1) = 1
      r0 = 0
      exit`.replaceAll('(r6 + 1)', '(r10 - 1)');
    const contract: Contract = { args: [bytes(8, 'readwrite')], helpers };
    for (let again = 0; again < 3; again++) {
      expect(() => run(text, contract, helpers, [memory])).toThrow(failure);
    }
    expect([...memory]).toEqual(Array(8).fill(0));
  });

  it.each([undefined, 5, 'five', -1n, 2n ** 64n, 11n, Promise.resolve(1n)])(
    'a result of %s is refused by its signature',
    (result) => {
      const helpers = { 1: { args: [], returns: { max: 10n }, call: () => result as bigint } };
      const contract: Contract = { args: [], helpers };
      expect(() => run('call 1\nexit', contract, helpers, [])).toThrow(/must be a bigint from 0 to 10/);
    },
  );

  it('a helper function may be a method, and may throw anything', () => {
    class Counter {
      #count = 40n;
      readonly args = [];
      call() {
        this.#count += 2n;
        return this.#count;
      }
    }
    const contract: Contract = { args: [], helpers: { 1: { args: [] } } };
    expect(run('call 1\nexit', contract, { 1: new Counter() }, [])).toBe(42n);
    const nothing = () => {
      throw undefined;
    };
    let thrown: unknown = 'none';
    try {
      run('call 1\nexit', contract, { 1: { args: [], call: nothing } }, []);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBe(undefined);
  });

  it('a helper function may run programs itself, and catch what fails there', () => {
    const helpers: Helpers = {
      1: {
        args: [number],
        call(x) {
          const inner: Helpers = { 1: { args: [], call: () => BigInt(null as unknown as string) } };
          expect(run('r0 = 1\nexit', { args: [] }, {}, [])).toBe(1n);
          expect(() => run('call 1\nexit', { args: [], helpers: inner }, inner, [])).toThrow(TypeError);
          return (x as bigint) + 1n;
        },
      },
    };
    const text = 'call 1\nr1 = r0\ncall 1\nexit';
    expect(run(text, { args: [number], helpers }, helpers, [40n])).toBe(42n);
  });

  it('a program may call itself through a helper function, to a depth that has an end', () => {
    let left = 20;
    const contract: Contract = { args: [], helpers: { 1: { args: [] } } };
    const helpers: Helpers = {
      1: { args: [], call: () => (left-- === 0 ? 5n : run('call 1\nexit', contract, helpers, [])) },
    };
    expect(run('call 1\nexit', contract, helpers, [])).toBe(5n);
    left = 10_000_000;
    expect(() => run('call 1\nexit', contract, helpers, [])).toThrow(/nested more than 32 deep|call stack/);
    left = 1;
    expect(run('call 1\nexit', contract, helpers, [])).toBe(5n);
  });

  it('a buffer in use may not be detached or resized', () => {
    const contract = (call: () => bigint): [Contract, Helpers] => {
      const helpers = { 1: { args: [], call } };
      return [{ args: [bytes(100, 'readwrite')], helpers }, helpers];
    };
    const text = 'r6 = r1\ncall 1\nr0 = *(u8 *)(r6 + 99)\nexit';
    const detached = new Uint8Array(100);
    const detaching = () => BigInt(structuredClone(detached, { transfer: [detached.buffer] }).length);
    expect(() => run(text, ...contract(detaching), [detached])).toThrow(/detach or resize a buffer in use/);
    const Resizable = ArrayBuffer as unknown as new (
      length: number,
      options: object,
    ) => ArrayBuffer & { resize(length: number): void };
    const buffer = new Resizable(100, { maxByteLength: 200 });
    for (const length of [50, 150]) {
      buffer.resize(100);
      const view = new Uint8Array(buffer);
      const resizing = () => {
        buffer.resize(length);
        return 0n;
      };
      expect(() => run(text, ...contract(resizing), [view])).toThrow(`had 100 bytes and has ${length} now`);
    }
  });
});

const place = (call: () => bigint) => {
  const helpers = { 1: { args: [], call } };
  const code = compileX64(verify(assemble('call 1\nexit'), { args: [], helpers }), { name: 'caller' });
  return { code, helpers };
};

describe('machine code that calls helper functions', () => {
  it.each([
    ['freed', (routine: Routine) => routine.free()],
    ['disposed of', (_routine: Routine, own: CodeArena) => own.dispose()],
  ])('is not %s while it runs', (_, attempt) => {
    const own = new CodeArena();
    const { code, helpers } = place(() => {
      attempt(routine, own);
      return 1n;
    });
    const routine = own.place(code, { helpers });
    expect(() => routine.call([])).toThrow(expect.objectContaining({ code: 'A-IN-USE' }));
    routine.free();
    own.dispose();
  });

  it('is not replaced while it runs; other routines of its arena are', () => {
    const other = arena.place(compileX64(verify(assemble('r0 = 1\nexit'), { args: [] })));
    const next = compileX64(verify(assemble('r0 = 2\nexit'), { args: [] }));
    const { code, helpers } = place(() => {
      arena.replace(other, next);
      arena.replace(routine, next);
      return 1n;
    });
    const routine = arena.place(code, { helpers });
    expect(() => routine.call([])).toThrow(/routine 'caller' is running/);
    expect(other.call([])).toBe(2n);
    arena.replace(routine, next);
    expect(routine.call([])).toBe(2n);
  });

  it('is placed only with all of its helper functions', () => {
    const { code } = place(() => 1n);
    expect(() => arena.place(code)).toThrow(/calls helper function 1, and none was given/);
    const wrong = { 1: { args: [] } } as unknown as Helpers;
    expect(() => arena.place(code, { helpers: wrong })).toThrow(ArgumentError);
  });

  it('takes the signature that was proven, whatever the table says', () => {
    const signature = { args: [bytes(4, 'read')] } as const;
    const code = compileX64(
      verify(assemble('call 1\nexit'), { args: [bytes(4, 'read')], helpers: { 1: signature } }),
    );
    const lengths: number[] = [];
    const call = (memory: Uint8Array | bigint) => {
      lengths.push((memory as Uint8Array).length);
      return 0n;
    };
    const routine = arena.place(code, { helpers: { 1: { args: [bytes(4000, 'readwrite')], call } } });
    routine.call([new Uint8Array(4)]);
    expect(lengths).toEqual([4]);
  });

  it('shares one native function, however many routines there are', () => {
    const { code } = place(() => 0n);
    const placed = Array.from({ length: 9000 }, (_, i) =>
      arena.place(code, { helpers: { 1: { args: [], call: () => BigInt(i) } } }),
    );
    for (const i of [0, 1, 4095, 8999]) expect(placed[i]!.call([])).toBe(BigInt(i));
    for (const routine of placed) routine.free();
    const { helpers } = place(() => 5n);
    expect(arena.place(code, { helpers }).call([])).toBe(5n);
  });
});

describe('where JavaScript is cut off', () => {
  /** Runs until it is cut off; node:vm's timeout ends it without any \`finally\`. */
  const cutOff = (name: string, work: () => void) => {
    (globalThis as Record<string, unknown>)[name] = work;
    expect(() => runInThisContext(`${name}()`, { timeout: 20 })).toThrow(/timed out/);
  };
  const spinning = () => {
    const helpers = {
      1: {
        args: [],
        call(): bigint {
          for (;;);
        },
      },
    };
    const code = compileX64(verify(assemble('call 1\nexit'), { args: [], helpers }));
    return arena.place(code, { helpers });
  };

  it('routines can still be called, and freed, however often it happens', () => {
    const routine = spinning();
    for (let i = 0; i < 40; i++) cutOff('spin', () => routine.call([]));
    const three: Helpers = { 1: { args: [], call: () => 3n } };
    expect(compiled('call 1\nexit', { args: [], helpers: three }, three, [])).toBe(3n);
    routine.free();
  });

  it('a call that goes on still knows its buffers', () => {
    const inner = spinning();
    const Resizable = ArrayBuffer as unknown as new (
      length: number,
      options: object,
    ) => ArrayBuffer & { resize(length: number): void };
    const buffer = new Resizable(8192, { maxByteLength: 8192 });
    let calls = 0;
    const helpers: Helpers = {
      1: {
        args: [],
        call() {
          if (calls++ === 0) cutOff('nested', () => inner.call([]));
          else buffer.resize(0);
          return 1n;
        },
      },
    };
    const text = 'r6 = r1\ncall 1\ncall 1\n*(u64 *)(r6 + 4096) = 65\nr0 = 0\nexit';
    const contract: Contract = { args: [bytes(8192, 'readwrite')], helpers };
    expect(() => compiled(text, contract, helpers, [new Uint8Array(buffer)])).toThrow(/detach or resize/);
    expect(calls).toBe(2);
    inner.free();
  });
});

describe('what reading options and arguments runs', () => {
  it('cannot free a routine that is being called or replaced', () => {
    const one = compileX64(verify(assemble('r0 = 1\nexit'), { args: [{ kind: 'scalar' }] }));
    const routine = arena.place(one);
    const args = Object.defineProperty([0n], 0, {
      get() {
        routine.free();
        return 1n;
      },
    });
    expect(() => routine.call(args)).toThrow(expect.objectContaining({ code: 'A-FREED' }));

    const { code, helpers } = place(() => 7n);
    const other = arena.place(code, { helpers });
    const options = {
      get helpers() {
        other.free();
        return helpers;
      },
    };
    expect(() => arena.replace(other, code, options)).toThrow(expect.objectContaining({ code: 'A-FREED' }));
  });
});

describe('the verifier', () => {
  const contract: Contract = {
    args: [bytes(8, 'read'), bytes(8, 'write'), number],
    writesAll: [],
    helpers: {
      1: { args: [bytes(8, 'read')], returns: { min: 1n, max: 7n } },
      2: { args: [{ kind: 'scalar', max: 10n }] },
      3: { args: [bytes(8, 'write')] },
      4: { args: [number] },
      5: { args: [bytes(16, 'readwrite')] },
    },
  };
  const stack = (length: number) => `r1 = r10\nr1 += -${length}\n`;

  it.each([
    ['call 1\nr2 = r10\nr2 -= r0\nr0 = 0\n*(u8 *)(r2 - 1) = 0\nexit', 'a result in its range'],
    [`r1 = 10\ncall 2\nr0 = 0\nexit`, 'a number in its range'],
    ['if r3 > 10 goto +3\nr1 = r3\ncall 2\nexit\nr0 = 0\nexit', 'a number that was compared'],
    [`${stack(8)}call 3\nr0 = *(u64 *)(r10 - 8)\nexit`, 'stack that it has written'],
    ['r1 = r2\ncall 3\nr0 = 0\nexit', "an argument's memory that it writes"],
  ])('accepts %j: %s', (text) => {
    expect(() => verify(assemble(text), contract)).not.toThrow();
  });

  it('counts what a helper function writes', () => {
    const text = 'r6 = r2\nr1 = r2\ncall 3\nr0 = 0\nexit';
    expect(() => verify(assemble(text), { ...contract, writesAll: [1] })).not.toThrow();
    expect(() => verify(assemble('r0 = 0\nexit'), { ...contract, writesAll: [1] })).toThrow(/byte 0/);
  });

  it.each([
    ['call 9\nexit', 'V-HELPER', /9 is not declared/],
    ['r1 = 11\ncall 2\nexit', 'V-HELPER-ARG', /r1 may be 11 to 11, and helper function 2 takes 0 to 10/],
    ['r1 = r3\ncall 2\nexit', 'V-HELPER-ARG', /0 to 18446744073709551615/],
    ['call 4\nexit', 'V-LEAK', /holds an address/],
    ['r1 = r3\ncall 1\nexit', 'V-NOT-POINTER', /r1/],
    ['r1 += 1\ncall 1\nexit', 'V-OOB-READ', /r1\+1\.\.9/],
    ['call 3\nexit', 'V-READ-ONLY', /helper function's 8-byte write through r1 of r1's memory/],
    ['r1 = r2\ncall 1\nexit', 'V-WRITE-ONLY', /helper function's 8-byte read through r1 of r2's memory/],
    [`${stack(8)}call 1\nexit`, 'V-UNINIT-STACK', /r10-8/],
    [`*(u64 *)(r10 - 8) = r2\n${stack(8)}call 1\nexit`, 'V-LEAK', /part of an address/],
    [`*(u64 *)(r10 - 8) = r3\n${stack(8)}call 5\nexit`, 'V-OOB-READ', /reaches past/],
    ['call 1\nr0 = r3\nexit', 'V-UNINIT-REG', /r3/],
    [
      'r6 = r1\ncall 1\nr1 = r6\ncall 1\nr2 = r0\nr2 *= 8\nr6 += r2\nr0 = *(u8 *)(r6 + 0)\nexit',
      'V-OOB-READ',
      /8/,
    ],
  ])('refuses %j with %s', (text, code, message) => {
    const refused = () => verify(assemble(text), contract);
    expect(refused).toThrow(message);
    expect(refused).toThrow(expect.objectContaining({ code }));
  });

  it.each([
    [{ helpers: { 1: {} } }, /helpers\[1\] must be/],
    [{ helpers: { '-1': { args: [] } } }, /'-1' is no number/],
    [{ helpers: { 1.5: { args: [] } } }, /'1.5' is no number/],
    [{ helpers: { 1: { args: [undefined] } } }, /helpers\[1\].args\[0\]/],
    [{ helpers: { 1: { args: [bytes(0, 'read')] } } }, /at least one byte/],
    [{ helpers: { 1: { args: [], returns: { min: 2n, max: 1n } } } }, /helpers\[1\].returns/],
    [{ helpers: 5 }, /helpers must be an object/],
  ])('refuses contract %#, saying what is wrong in it', (part, message) => {
    const wrong = { args: [], ...part } as unknown as Contract;
    expect(() => verify(assemble('r0 = 0\nexit'), wrong)).toThrow(message);
  });
});
