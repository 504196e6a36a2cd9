// Every way back into a sealed arena that is known, tried in a process of its own: each is refused, and the code stays what it was.

import { describe, expect, it } from 'vitest';
import { inChild } from './children.js';

/** What a refusal may be called. */
const REFUSALS = ['EPERM', 'EACCES', 'EBUSY', 'EINVAL', 'ENOTSUP', 'EFAULT', 'EIO'];

/** Each way is given the address, the length, and a descriptor of the code where there is one; it answers with what the kernel said. */
const WAYS = `
  const [READ, WRITE, EXEC, SHARED, PRIVATE, FIXED, ANONYMOUS] = [1, 2, 4, 1, 2, 0x10, 0x20];
  const words = (name, types, returns = 'int') => libc.func(returns + ' ' + name + '(' + types + ')');
  const mmap = words('mmap', 'uint64_t, uint64_t, int, int, int, int64_t', 'int64_t');
  const mprotect = words('mprotect', 'uint64_t, uint64_t, int');
  const munmap = words('munmap', 'uint64_t, uint64_t');
  const mremap = words('mremap', 'uint64_t, uint64_t, uint64_t, int, uint64_t', 'int64_t');
  const madvise = words('madvise', 'uint64_t, uint64_t, int');
  const fallocate = words('fallocate', 'int, int, int64_t, int64_t');
  const fcntl = words('fcntl', 'int, int, int');
  const syscall = words('syscall', 'int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t', 'int64_t');
  const name = () => Object.entries(koffi.os.errno).find(([, value]) => value === koffi.errno())?.[0];
  const answer = (result) => (result === -1 || result === -1n ? name() : 'done');
  const caught = (run) => { try { run(); return 'done'; } catch (error) { return error.code; } };
  const anywhere = () => mmap(0, 65536, READ | WRITE, PRIVATE | ANONYMOUS, -1, 0);
  const throughMemory = (address) => {
    const fd = fs.openSync('/proc/self/mem', 'r+');
    try { return caught(() => fs.writeSync(fd, Buffer.of(0xc3), 0, 1, address)); } finally { fs.closeSync(fd); }
  };
  const iovec = (address, length) => new BigUint64Array([BigInt(address), BigInt(length)]);
  const throughVector = (address) => {
    const byte = Buffer.of(0xc3);
    const [from, to] = [iovec(koffi.address(byte), 1), iovec(address, 1)];
    return answer(syscall(311, process.pid, koffi.address(from), 1, koffi.address(to), 1, 0));
  };
  const MAPPING = {
    'mprotect to read and write': (at, length) => answer(mprotect(at, length, READ | WRITE)),
    'mprotect to read, write and execute': (at, length) => answer(mprotect(at, length, READ | WRITE | EXEC)),
    'mprotect to read': (at, length) => answer(mprotect(at, length, READ)),
    'pkey_mprotect to write': (at, length) => answer(syscall(329, at, length, READ | WRITE, 2n ** 64n - 1n, 0, 0)),
    'a mapping over it': (at, length) => answer(mmap(at, length, READ | WRITE | EXEC, PRIVATE | ANONYMOUS | FIXED, -1, 0)),
    'another mapping moved over it': (at, length) => answer(mremap(anywhere(), length, length, 3, at)),
    'moving it away': (at, length) => answer(mremap(at, length, length, 3, anywhere())),
    'shrinking it': (at, length) => answer(mremap(at, length, 4096, 0, 0)),
    'munmap': (at, length) => answer(munmap(at, length)),
    'madvise(MADV_REMOVE)': (at, length) => answer(madvise(at, length, 9)),
    'System V shared memory over it': (at) => {
      const id = syscall(29, 0, 65536, 0o1600, 0, 0, 0);
      const result = answer(syscall(30, id, at, 0o40000, 0, 0, 0));
      syscall(31, id, 0, 0, 0, 0, 0);
      return result;
    },
    'process_vm_writev': (at) => throughVector(at),
  };
  const FILE = {
    'pwrite by a new descriptor': (at, length, fd) => caught(() => fs.writeSync(fd, Buffer.of(0xc3), 0, 1, 0)),
    'a writable shared mapping of it': (at, length, fd) => answer(mmap(0, length, READ | WRITE, SHARED, fd, 0)),
    'an executable one that is writable': (at, length, fd) => answer(mmap(0, length, READ | WRITE | EXEC, SHARED, fd, 0)),
    'ftruncate to nothing': (at, length, fd) => caught(() => fs.ftruncateSync(fd, 0)),
    'ftruncate to more': (at, length, fd) => caught(() => fs.ftruncateSync(fd, 2 ** 30)),
    'a hole punched into it': (at, length, fd) => answer(fallocate(fd, 3, 0, length)),
    'zeros over it': (at, length, fd) => answer(fallocate(fd, 16, 0, length)),
    'taking its seals off': (at, length, fd) => answer(fcntl(fd, 1033, 0)),
    'opening it anew and truncating': (at, length, fd) => caught(() => fs.closeSync(fs.openSync('/proc/self/fd/' + fd, 'w+'))),
  };
  const bytesAt = (address, length) => {
    const fd = fs.openSync('/proc/self/mem', 'r');
    const bytes = Buffer.alloc(length);
    fs.readSync(fd, bytes, 0, length, address);
    fs.closeSync(fd);
    return bytes;
  };
  const attack = (arena, routine, ways, fd) => {
    const [{ address, length }] = arena.layout();
    const before = bytesAt(address, length);
    const said = {};
    for (const [way, run] of Object.entries(ways)) {
      said[way] = run(address, length, fd);
      if (!bytesAt(address, length).equals(before) || routine.call([]) !== 5n) said[way] += ' AND CHANGED';
    }
    return said;
  };
  const sealed = (options) => {
    const arena = new CodeArena({ name: 'sealed', ...options });
    const routine = arena.place(returns(5));
    arena.seal();
    return { arena, routine, mseal: arena.layout()[0].sealed };
  };
`;

const open = (answers: Record<string, string>) =>
  Object.entries(answers).filter(([, answer]) => !REFUSALS.includes(answer));

describe('an arena that was sealed', () => {
  const [mapping, file, memory, mseal, dontneed] = inChild(`${WAYS}
    const { arena, routine, mseal } = sealed();
    const number = files('memfd:sealed')[0];
    const fd = fs.openSync('/proc/self/fd/' + number, 'r+');
    say(mseal ? attack(arena, routine, MAPPING) : {});
    say(attack(arena, routine, FILE, fd));
    say(attack(arena, routine, { memory: throughMemory }));
    say(mseal);
    say(attack(arena, routine, { dontneed: (at, length) => answer(madvise(at, length, 4)) }));
    arena.dispose();`) as [
    Record<string, string>,
    Record<string, string>,
    { memory: string },
    boolean,
    { dontneed: string },
  ];

  it('cannot be changed by its file: no write, no writable mapping, no cutting, no hole, no seal taken off', () => {
    expect(Object.keys(file)).toHaveLength(9);
    expect(open(file)).toEqual([]);
  });

  it('cannot be changed by its mapping, where the kernel has mseal: no protection, no mapping over it, none away', () => {
    if (!mseal) return console.warn('NOT TESTED: this kernel has no mseal (Linux 6.10)');
    expect(Object.keys(mapping)).toHaveLength(12);
    expect(open(mapping)).toEqual([]);
  });

  it('cannot be written to by /proc/self/mem, because its mapping is shared and cannot be written to', () => {
    expect(open(memory)).toEqual([]);
  });

  it('may be told to forget its pages, which come back from the file as they were', () => {
    expect(['done', 'EPERM']).toContain(dontneed.dontneed);
  });

  it('has no descriptor left that can write, and tells of the seal', () => {
    const [flags, stats] = inChild(`${WAYS}
      const { arena, routine } = sealed();
      const modes = files('memfd:sealed').map((fd) => /flags:\\s+(\\d+)/.exec(fs.readFileSync('/proc/self/fdinfo/' + fd, 'utf8'))[1]);
      say(modes.map((mode) => Number.parseInt(mode, 8) & 3));
      say(tryTo(() => arena.place(returns(6))));`);
    expect(flags).toEqual([0]);
    expect(stats).toMatch(/^E-SEALED/);
  });
});

describe("an arena of strategy 'mprotect' that was sealed", () => {
  it('cannot be changed by its mapping; whether /proc/self/mem writes to it is for the kernel to say', () => {
    const [answers, dontneed, memory] = inChild(`${WAYS}
      const made = (() => { try { return sealed({ strategy: 'mprotect' }); } catch (error) { return error.code; } })();
      if (made === 'E-SEAL') say('no mseal');
      else {
        const { arena, routine } = made;
        say(attack(arena, routine, MAPPING));
        say(attack(arena, routine, { dontneed: (at, length) => answer(madvise(at, length, 4)) }));
        say(throughMemory(arena.layout()[0].address + 65535n));
        arena.dispose();
      }`) as [Record<string, string> | string, Record<string, string>, string];
    if (typeof answers === 'string') return console.warn('NOT TESTED: this kernel has no mseal (Linux 6.10)');
    expect(open(answers)).toEqual([]);
    expect(open(dontneed)).toEqual([]);
    expect(['done', 'EIO']).toContain(memory);
  });
});
