import { closeSync, openSync, readdirSync, readlinkSync } from 'node:fs';
import koffi from 'koffi';
import { afterEach, describe, expect, it } from 'vitest';
import { parseMaps, readMaps } from '../src/exec/maps.js';
import { auditMemory, CodeArena, compileFormat } from '../src/index.js';
import { randomBkeyFormat, seeded } from './random-formats.js';

const arenas: CodeArena[] = [];
function arena(name: string): CodeArena {
  const made = new CodeArena({ name });
  arenas.push(made);
  made.place(compileFormat(randomBkeyFormat(seeded(1))));
  return made;
}
afterEach(() => {
  for (const one of arenas.splice(0)) one.dispose();
});

const MAPS = `55f58e402000-55f58e407000 r-xp 00002000 fe:00 260131                     /usr/bin/a name (deleted)
7f158b743000-7f158b77f000 rwxp 00000000 00:00 0 
7f158b77f000-7f158b78f000 r-xs 00010000 00:01 1034                       /memfd:bpf-unpack (deleted)
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
`;

describe('a memory map', () => {
  it('is read line by line', () => {
    const rows = parseMaps(MAPS);
    expect(rows.map(({ permissions, path }) => [permissions, path])).toEqual([
      ['r-xp', '/usr/bin/a name (deleted)'],
      ['rwxp', ''],
      ['r-xs', '/memfd:bpf-unpack (deleted)'],
      ['--xp', '[vsyscall]'],
    ]);
    expect(rows[2]).toEqual({
      start: 0x7f158b77f000n,
      end: 0x7f158b78f000n,
      bytes: 65536,
      permissions: 'r-xs',
      writable: false,
      executable: true,
      offset: 65536n,
      inode: 1034n,
      path: '/memfd:bpf-unpack (deleted)',
      residentBytes: undefined,
      flags: [],
    });
  });

  it('has resident bytes and flags in its long form, and whatever else kernels will tell', () => {
    const text = MAPS.split('\n')
      .map((line) =>
        line ? `${line}\nSize: 64 kB\nRss:    12 kB\nNovelty: of 2031\nVmFlags: rd ex sl \n` : '',
      )
      .join('');
    for (const row of parseMaps(text))
      expect(row).toMatchObject({ residentBytes: 12288, flags: ['rd', 'ex', 'sl'] });
  });

  it.each(['Rss: 12 kB', 'nonsense', '55f58e402000 r-xp', `${MAPS}55f5-55f6 rwx 0 0:0 0`])(
    'is refused where it is none: %j',
    (text) => {
      expect(() => parseMaps(text)).toThrow(expect.objectContaining({ code: 'E-MAPS' }));
    },
  );

  it('is had of this process, in order, with the stack in it', () => {
    for (const resident of [false, true]) {
      const rows = readMaps({ resident });
      expect(rows.some(({ path }) => path === '[stack]')).toBe(true);
      expect(rows.every(({ start, end }, i) => start < end && (i === 0 || rows[i - 1]!.end <= start))).toBe(
        true,
      );
      expect(rows.every(({ residentBytes }) => (residentBytes !== undefined) === resident)).toBe(true);
    }
  });
});

describe('the audit', () => {
  it('finds the mappings of arenas by any name, readable and executable, and never to be made writable', () => {
    arena('audit-one');
    arena('audit-two');
    const { ours, findings } = auditMemory();
    for (const name of ['one', 'two']) {
      const [mapping, ...more] = ours.filter(({ path }) => path === `/memfd:audit-${name} (deleted)`);
      expect(more).toEqual([]);
      expect(mapping).toMatchObject({ permissions: 'r-xs', writable: false, executable: true });
      expect(mapping!.residentBytes).toBeGreaterThan(0);
      expect(mapping!.flags).not.toContain('mw');
    }
    expect(findings).toEqual([]);
  });

  it('finds a writable mapping of code memory, whoever made it', () => {
    arena('audit-bad');
    const lib = koffi.load(null);
    const mmap = lib.func('uintptr_t mmap(void *, size_t, int, int, int, int64_t)');
    const munmap = lib.func('int munmap(uintptr_t, size_t)');
    const path = readdirSync('/proc/self/fd')
      .map((name) => `/proc/self/fd/${name}`)
      .find((link) => linkOf(link).startsWith('/memfd:audit-bad'))!;
    const fd = openSync(path, 'r+');
    for (const [protection, code] of [
      [3, 'writable'],
      [7, 'writable-executable'],
    ]) {
      const address = mmap(null, 4096, protection, 1, fd, 0);
      const { findings } = auditMemory();
      munmap(address, 4096);
      expect(findings.map((finding) => finding.code)).toEqual([code]);
      expect(findings[0]!.message).toMatch(
        /^\/memfd:audit-bad \(deleted\) at 0x[0-9a-f]+, 4096 bytes, is mapped rw/,
      );
    }
    closeSync(fd);
    expect(auditMemory().findings).toEqual([]);
  });

  it('shows apart what others have mapped writable and executable', () => {
    const { ours, others } = auditMemory();
    for (const { writable, executable } of others) expect([writable, executable]).toEqual([true, true]);
    expect(others.filter((mapping) => ours.includes(mapping))).toEqual([]);
  });

  it('knows arenas of other threads by the names that it is given, and takes nothing but names', () => {
    expect(auditMemory({ names: ['of-a-worker'] }).findings).toEqual([]);
    for (const names of ['bpf-unpack', [7], [null], 5])
      expect(() => auditMemory({ names } as never)).toThrow(expect.objectContaining({ code: 'A-TYPE' }));
  });
});

/** Where a link leads; nowhere if it has gone meanwhile. */
function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}
