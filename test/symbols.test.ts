import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { perfMap, SymbolFile } from '../src/exec/symbols.js';
import { formatLabel } from '../src/format/label.js';
import {
  assemble,
  bkeyFormat,
  CodeArena,
  compileFormat,
  compileX64,
  defineFormat,
  emitNative,
  verify,
} from '../src/index.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'symbols-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
  rmSync(perfMap(), { force: true, recursive: true });
});
const symbol = (name: string) => ({ address: 0x7f00_1234_0010n, length: 86, name });

describe('the file of names', () => {
  it('has a line for each routine: address and length in hexadecimal, and the name', () => {
    const path = join(folder, 'map');
    const file = new SymbolFile(path);
    file.add([symbol('unpack[inode:42]'), { ...symbol('second'), address: 1n }]);
    file.add([symbol('later')]);
    file.close();
    expect(readFileSync(path, 'latin1')).toBe(
      '7f0012340010 56 unpack[inode:42]\n1 56 second\n7f0012340010 56 later\n',
    );
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it('lets no name break a line, or send a terminal anything', () => {
    const path = join(folder, 'map');
    const file = new SymbolFile(path);
    const names = ['two words', 'a\nffff 1 forged', '\x1b[31mred', 'é…💥', '', 'x'.repeat(5000)];
    file.add(names.map(symbol));
    file.close();
    const lines = readFileSync(path, 'latin1').trimEnd().split('\n');
    expect(lines).toHaveLength(names.length);
    for (const line of lines) expect(line).toMatch(/^7f0012340010 56 [\x21-\x7e]{1,200}$/);
  });

  it('is where perf looks, and shared by all who add to it; what an earlier process left there goes', () => {
    writeFileSync(perfMap(), 'dead 1 stale\n');
    utimesSync(perfMap(), 1, 1);
    const [one, other] = [new SymbolFile(true), new SymbolFile(true)];
    one.add([symbol('one')]);
    other.add([symbol('other')]);
    one.add([symbol('more')]);
    for (const file of [one, other]) file.close();
    const names = readFileSync(perfMap(), 'latin1').match(/\w+$/gm);
    expect(names).toEqual(['one', 'other', 'more']);
  });

  const traps: Record<string, (path: string) => void> = {
    'a symbolic link': (path) => symlinkSync(join(folder, 'victim'), path),
    'a symbolic link that leads nowhere': (path) => symlinkSync(join(folder, 'not there'), path),
    'a hard link': (path) => linkSync(join(folder, 'victim'), path),
    'a folder': (path) => mkdirSync(path),
    'a file of somebody else’s': (path) => {
      writeFileSync(path, 'theirs');
      chownSync(path, 12345, 12345);
      chmodSync(path, 0o666);
    },
  };
  for (const [what, set] of Object.entries(traps)) {
    it.runIf(process.geteuid!() === 0 || !what.includes('somebody'))(`is not ${what}`, () => {
      for (const symbols of [true, join(folder, 'trap')] as const) {
        writeFileSync(join(folder, 'victim'), 'precious');
        const path = symbols === true ? perfMap() : symbols;
        set(path);
        expect(() => new SymbolFile(symbols)).toThrow(expect.objectContaining({ code: 'E-SYMBOLS' }));
        expect(readFileSync(join(folder, 'victim'), 'latin1')).toBe('precious');
        expect(existsSync(join(folder, 'not there'))).toBe(false);
      }
    });
  }

  it.each([false, 1, '', 'a\0b', {}, null])('is not %j', (symbols) => {
    expect(() => new SymbolFile(symbols)).toThrow(expect.objectContaining({ code: 'A-SYMBOLS' }));
  });
});

describe('an arena with symbols', () => {
  const format = (bits: number) =>
    bkeyFormat({ keyU64s: 1, bitsPerField: [bits, 0, 0, 0, 0, 0], fieldOffset: [0n, 0n, 0n, 0n, 0n, 0n] });
  const linesOf = (path: string) => readFileSync(path, 'latin1').trimEnd().split('\n');

  it('has the address, length and name of each routine in the file as it is placed, and of what replaces it', () => {
    const path = join(folder, 'map');
    const arena = new CodeArena({ name: 'with-symbols', symbols: path });
    const [one, two] = arena.placeAll([compileFormat(format(8)), emitNative(format(16))]);
    const named = () => arena.layout().flatMap(({ extents }) => extents);
    const text = ({ address, length, name }: ReturnType<typeof named>[0]) =>
      `${address.toString(16)} ${length.toString(16)} ${name}`;
    expect(linesOf(path)).toEqual(named().map(text));
    expect(named().map(({ name }) => name)).toEqual(['unpack[inode:8]', 'unpack[inode:16]']);
    arena.place(compileFormat(format(8)));
    expect(linesOf(path)).toHaveLength(2);
    arena.replace(two!, compileFormat(format(24)));
    expect(linesOf(path).at(-1)).toBe(text(named().find(({ name }) => name === 'unpack[inode:24]')!));
    one!.call([new Uint8Array(40), new Uint8Array(8)]);
    const lines = linesOf(path);
    arena.dispose();
    expect(linesOf(path)).toEqual(lines);
  });

  it('is not made where the file is a trap, and leaves nothing behind', () => {
    symlinkSync(join(folder, 'victim'), join(folder, 'map'));
    const options = { name: 'no-symbols', symbols: join(folder, 'map') };
    expect(() => new CodeArena(options)).toThrow(expect.objectContaining({ code: 'E-SYMBOLS' }));
    expect(readFileSync('/proc/self/maps', 'latin1')).not.toContain('no-symbols');
  });

  it('asks for no name where there are none', () => {
    const code = compileX64(verify(assemble('r0 = 0\nexit'), { args: [] }), {
      name: () => {
        throw new Error('nobody wants to know');
      },
    });
    const arena = new CodeArena();
    expect(arena.place(code).call([])).toBe(0n);
    arena.dispose();
  });
});

describe('the label of a format', () => {
  it('tells its fields, their bits and what is added, and leaves out what all have', () => {
    const format = bkeyFormat({
      keyU64s: 2,
      bitsPerField: [42, 29, 0, 0, 0, 0],
      fieldOffset: [0x1003n, 0n, 0xffff_ffffn, 0n, 0n, 0n],
    });
    expect(formatLabel(format)).toBe('unpack[inode:42+0x1003,offset:29,snapshot=0xffffffff]');
  });

  it('begins with the name that a format was given, and is cut where it gets long', () => {
    const fields = Array.from({ length: 64 }, (_, byte) => ({
      name: `field${byte}`,
      bits: 8,
      at: byte * 8,
      ...(byte === 0 && { offset: -5n }),
      to: { byte, size: 1 as const },
    }));
    const format = defineFormat({ name: 'long', packedBytes: 64, unpackedBytes: 64, fields });
    const label = formatLabel(format);
    expect(label).toMatch(/^unpack_long\[field0:8-0x5,field1:8,.*\.\.\.\]$/);
    expect(label).toHaveLength(120);
  });
});
