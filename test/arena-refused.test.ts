// Where the system refuses executable memory: the error says what was refused and what to do, and nothing is left half done.

import { describe, expect, it } from 'vitest';
import { inChild } from './children.js';

const SYS = { mmap: 9, mprotect: 10, pwrite: 18, memfd: 319 };
const PROT_EXEC = 4;
const ERRNO = { EPERM: 1, ENOMEM: 12, EACCES: 13, ENOSPC: 28, ENOSYS: 38 };
const MAKE = (strategy: string) => `
  const use = (strategy) => { const arena = new CodeArena({ strategy }); const r0 = arena.place(returns(7)).call([]); arena.dispose(); return r0; };
  say(tryTo(() => use('${strategy}')));
  say({ files: files('memfd:').length, maps: maps('memfd:').length });`;

describe('an arena says what is refused, and what to do:', () => {
  it.each(['EPERM', 'EACCES', 'ENOSYS'] as const)('memfd_create, by a filter with %s', (name) => {
    const [said, left] = inChild(`refuse(${SYS.memfd}, ${ERRNO[name]}); ${MAKE('memfd')}`);
    expect(said).toMatch(
      new RegExp(`^E-SYSTEM memfd_create was refused \\(${name}\\): .*strategy: 'mprotect'`),
    );
    expect(left).toEqual({ files: 0, maps: 0 });
  });

  it.each(['EPERM', 'EACCES'] as const)('executable mappings, by a filter with %s', (name) => {
    const [said, left] = inChild(
      `refuse(${SYS.mmap}, ${ERRNO[name]}, 2, ${PROT_EXEC}); ${MAKE('memfd')} say(tryTo(() => use('mprotect')));`,
    );
    expect(said).toMatch(
      new RegExp(
        `^E-SYSTEM mapping code as read\\+execute was refused \\(${name}\\): .*strategy: 'mprotect'`,
      ),
    );
    expect(left).toMatchObject({ maps: 0 });
  });

  it('and the other strategy is one, asked for by name, where only the first is refused', () => {
    const script = `refuse(${SYS.memfd}, ${ERRNO.EPERM}); ${MAKE('mprotect')}`;
    expect(inChild(script)).toEqual(['7', { files: 0, maps: 0 }]);
    expect(inChild(`refuse(${SYS.mmap}, ${ERRNO.EACCES}, 2, ${PROT_EXEC}); ${MAKE('mprotect')}`)[0]).toBe(
      '7',
    );
  });

  it("mprotect to executable, by a filter, for strategy 'mprotect'", () => {
    const refused = `refuse(${SYS.mprotect}, ${ERRNO.EACCES}, 2, ${PROT_EXEC}); ${MAKE('mprotect')} say(tryTo(() => use('memfd')));`;
    const [said, left, memfd] = inChild(refused);
    expect(said).toMatch(
      /^E-SYSTEM making code memory executable by mprotect was refused \(EACCES\): .*strategy 'memfd'/,
    );
    expect(left).toEqual({ files: 0, maps: 0 });
    expect(memfd).toBe('7');
  });

  it("and a process that may never gain executable memory (PR_SET_MDWE) refuses strategy 'mprotect', not 'memfd'", () => {
    const [set, mprotect, , memfd] = inChild(`
      say(prctl(65, 1, 0, 0, 0)); ${MAKE('mprotect')} say(tryTo(() => use('memfd')));`);
    if (set === -1) return console.warn('NOT TESTED: this kernel has no PR_SET_MDWE (Linux 6.3)');
    expect(mprotect).toMatch(
      /^E-SYSTEM making code memory executable by mprotect was refused \(EACCES\): PR_SET_MDWE/,
    );
    expect(memfd).toBe('7');
  });

  it("code of strategy 'mprotect' that cannot be made executable again is not called", () => {
    const [before, refused, call, again] = inChild(`
      const arena = new CodeArena({ strategy: 'mprotect' });
      const routine = arena.place(returns(1));
      say(routine.call([]));
      refuse(${SYS.mprotect}, ${ERRNO.EACCES}, 2, ${PROT_EXEC});
      say(tryTo(() => arena.place(returns(2))));
      say(tryTo(() => routine.call([])));
      say(tryTo(() => arena.place(returns(3))));
      arena.dispose();`);
    expect(before).toBe('1');
    for (const said of [refused, again]) expect(said).toMatch(/^E-SYSTEM making code memory executable/);
    expect(call).toMatch(/^E-NOT-RUNNABLE .*dispose of this arena/);
  });
});

describe('an arena whose limits are reached stays as it was:', () => {
  const USE = `
    const arena = new CodeArena({ name: 'limited' });
    const first = arena.place(returns(1));
    first.call([]);
    const make = () => Array.from({ length: 4500 }, (_, i) => returns(i + 2));
    const fill = (codes) => { for (const code of codes) arena.place(code); };
    const state = () => { const { routines, usedBytes, freeBytes, mappedBytes } = arena.stats();
      return { routines, whole: usedBytes + freeBytes === mappedBytes, mappedBytes, r0: String(first.call([])) }; };`;

  it('the size of files (ulimit -f)', () => {
    const [all, none, said, state, after] = inChild(
      `${USE}
      limit(1, 100000);
      const many = make();
      say(tryTo(() => arena.placeAll(many)));
      say(state());
      say(tryTo(() => fill(many)));
      say(state());
      first.free();
      say(tryTo(() => arena.place(returns(-1)).call([])));`,
      '--no-jitless',
    );
    expect(said).toMatch(/^E-SYSTEM enlarging the code file was refused: EFBIG/);
    expect(all).toBe(said);
    expect(none).toEqual({ routines: 1, whole: true, mappedBytes: 65536, r0: '1' });
    expect(state).toEqual({ routines: 65536 / 16, whole: true, mappedBytes: 65536, r0: '1' });
    expect(after).toBe('18446744073709551615');
  });

  it('open files (ulimit -n)', () => {
    const [said, placed] = inChild(
      `${USE}
      limit(7, fs.readdirSync('/proc/self/fd').length - 1);
      say(tryTo(() => new CodeArena()));
      say(tryTo(() => (fill(make()), state().routines)));`,
      '--no-jitless',
    );
    expect(said).toMatch(/^E-SYSTEM .*EMFILE/);
    expect(placed).toBe('4501');
  });

  it('memory itself (ENOSPC): what is placed goes on, and can be given up', () => {
    const [place, all, replace, free, calls] = inChild(`${USE}
      const second = arena.place(returns(2));
      refuse(${SYS.pwrite}, ${ERRNO.ENOSPC});
      say(tryTo(() => arena.place(returns(3))));
      say(tryTo(() => arena.placeAll(Array.from({ length: 5000 }, (_, i) => returns(i + 10)))));
      say(tryTo(() => arena.replace(first, returns(4))));
      say(tryTo(() => second.free()));
      say([tryTo(() => first.call([])), tryTo(() => second.call([])), arena.stats().routines, tryTo(() => arena.dispose())]);`);
    for (const said of [place, all, replace, free])
      expect(said).toMatch(/^E-SYSTEM writing code was refused \(ENOSPC\): memory has run out/);
    expect(calls).toEqual(['1', expect.stringMatching(/^A-FREED/), 1, 'undefined']);
  });

  it('its own addresses, where there are few: what does not fit is refused, and what is freed serves again', () => {
    const [reserved, said, state, again] = inChild(
      `
      refuse(${SYS.mmap}, ${ERRNO.ENOMEM}, 1, 0xfff00000);
      ${USE}
      const long = (last) => compileX64(verify(assemble('r0 = 0x123456789 ll\\n'.repeat(1500) + 'r0 = ' + last + '\\nexit'), { args: [] }));
      const codes = Array.from({ length: 30 }, (_, i) => long(i));
      const kept = [];
      say(arena.stats().reservedBytes);
      say(tryTo(() => { for (const code of codes) kept.push(arena.place(code)); }));
      say(state());
      kept.forEach((routine) => routine.free());
      say(arena.placeAll(codes.slice(0, kept.length)).map((routine) => routine.call([])).join());`,
      '--no-jitless',
    );
    expect(reserved).toBe(2 ** 18);
    expect(said).toMatch(
      /^E-FULL this arena's 262144 bytes of addresses have no room for 65536 more in a row/,
    );
    expect(state).toEqual({ routines: 17 + 1, whole: true, mappedBytes: 2 ** 18, r0: '1' });
    expect(again).toBe([...Array(17).keys()].join());
  });

  it('addresses (ulimit -v): it reserves fewer, and says how many', () => {
    const [reserved, r0] = inChild(`
      const size = 1024 * Number(/VmSize:\\s+(\\d+)/.exec(fs.readFileSync('/proc/self/status', 'utf8'))[1]);
      limit(9, size + 900 * 2 ** 20);
      const arena = new CodeArena();
      say(arena.stats().reservedBytes);
      say(arena.place(returns(9)).call([]));`);
    expect([reserved, r0]).toEqual([2 ** 28, '9']);
  });
});
