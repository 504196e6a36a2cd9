// The operating system, as far as executable memory and the kernel's BPF need it. The only file that loads koffi, at first use.

import { createRequire } from 'node:module';
import { EngineError } from '../errors.js';

const require = createRequire(import.meta.url);

// Linux, x86-64: include/uapi/linux/memfd.h, asm-generic/mman-common.h, fcntl.h, syscall_64.tbl.
const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const MFD_EXEC = 0x10;
const PROT = { none: 0, read: 1, write: 2, exec: 4 };
const MAP = { shared: 1, private: 2, fixed: 0x10, anonymous: 0x20, noReserve: 0x4000 };
const FALLOC = { keepSize: 1, punchHole: 2 };
const F_ADD_SEALS = 1033;
const SEALS = { seal: 1, shrink: 2, grow: 4, write: 8 };
const SYS_MSEAL = 462;
const SYS_BPF = 321;
const SYS_MEMBARRIER = 324;
const MEMBARRIER = { syncCore: 1 << 5, registerSyncCore: 1 << 6 };
const RESERVED = MAP.private | MAP.anonymous | MAP.noReserve;

const OTHER_WAY = "where only this way is closed, new CodeArena({ strategy: 'mprotect' }) goes another";
const NO_WAY = "there is no other way to executable memory here: use the engine 'interpreter' or 'reference'";
const NO_MEMORY = 'memory has run out, or ulimit -v or vm.max_map_count is too low';
const SECCOMP = 'a seccomp filter forbids it';
/** What a refusal comes of and what to do about it, by the call and the error. */
const ADVICE: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  memfd_create: {
    EACCES: `vm.memfd_noexec forbids executable files in memory; ${OTHER_WAY}`,
    EPERM: `${SECCOMP}; ${OTHER_WAY}`,
    ENOSYS: `${SECCOMP}; ${OTHER_WAY}`,
    EMFILE: 'this process has as many files open as it may: see ulimit -n',
    ENFILE: 'the system has as many files open as it may: see fs.file-max',
  },
  'mapping code as read+execute': {
    EACCES: `SELinux (execmem) may forbid it, or a file system for memory that is mounted noexec; ${OTHER_WAY}`,
    EPERM: `vm.memfd_noexec or ${SECCOMP}; ${OTHER_WAY}`,
    ENOMEM: NO_MEMORY,
  },
  'making code memory executable by mprotect': {
    EACCES: `PR_SET_MDWE, SELinux (execmem) or ${SECCOMP}; strategy 'memfd' may be allowed, else ${NO_WAY}`,
    EPERM: `${SECCOMP}; strategy 'memfd' may be allowed, else ${NO_WAY}`,
    ENOMEM: NO_MEMORY,
  },
  'mapping memory': { ENOMEM: NO_MEMORY },
  'giving code memory back': { ENOMEM: NO_MEMORY, EPERM: 'its mapping is sealed' },
  'writing code': { ENOSPC: NO_MEMORY, ENOMEM: NO_MEMORY, EFBIG: 'see ulimit -f' },
  'membarrier(SYNC_CORE)': {
    EINVAL: 'threads can share code memory from Linux 4.16 on; make an arena for each thread',
    EPERM: `${SECCOMP}; make an arena for each thread`,
    ENOSYS: `${SECCOMP}; make an arena for each thread`,
  },
};

/** An argument of native code: a buffer goes as its address, a bigint as itself. */
export type NativeArg = Uint8Array | BigUint64Array | Uint32Array | bigint;

/**
 * Functions of koffi's over one trampoline, which call the code at `entry` with two or six integer arguments. What is called by a
 * function of koffi's takes half as long as what is called by its address.
 */
export interface Gate {
  readonly two: (entry: bigint, ...args: NativeArg[]) => number | bigint;
  readonly six: (entry: bigint, ...args: NativeArg[]) => number | bigint;
}

export interface Libc {
  /** A sealable anonymous file whose pages may be mapped executable; returns its descriptor. */
  memfd(name: string): number;
  /** Addresses that nothing else will be mapped to, without access to them; undefined where there are not so many. */
  reserve(length: number): bigint | undefined;
  /** Takes what is mapped there away and reserves the addresses again. They must be the caller's own. */
  reserveAgain(address: bigint, length: number): void;
  /** Maps bytes of a descriptor over reserved addresses, shared, readable and executable. */
  mapCode(fd: number, offset: number, address: bigint, length: number): void;
  /** Maps memory of zeros over reserved addresses, private, readable and writable. */
  mapWritable(address: bigint, length: number): void;
  /** Makes private memory writable or executable, never both. */
  protect(address: bigint, length: number, access: 'write' | 'execute'): void;
  unmap(address: bigint, length: number): void;
  close(fd: number): void;
  write(fd: number, bytes: Uint8Array, length: number, offset: number): void;
  /** Gives the pages of a part of a file back to the system. */
  punchHole(fd: number, offset: number, length: number): void;
  /** Whether memory holds the first `length` of `bytes`. */
  holds(address: bigint, bytes: Uint8Array, length: number): boolean;
  /** Forbids every later write, growth and shrinkage of the file, for good. */
  sealFile(fd: number): void;
  /** Forbids every later change of the mapping, for good; false where the kernel (before 6.10) cannot. */
  sealMapping(address: bigint, length: number): boolean;
  /**
   * Makes every thread of the process fetch its code anew: no CPU runs what it fetched from addresses before. On x86 that is a
   * serialising instruction on each, which membarrier's SYNC_CORE sees to; arm64 wants its caches cleaned first (docs/security.md).
   * @throws EngineError where the kernel has none (before 4.16), or a policy refuses it
   */
  syncCores(): void;
  addressOf(buffer: Uint8Array | Uint32Array | BigUint64Array): bigint;
  /** Where a function of the C library is. */
  functionAt(name: string): bigint;
  /** Has `code(argument)` called when the calling thread ends, however it does; false where the C library cannot. */
  atThreadExit(code: bigint, argument: bigint): boolean;
  /** A copy of the `length` bytes at an address, which must be readable. */
  copyFrom(address: bigint, length: number): Uint8Array;
  copyTo(address: bigint, bytes: Uint8Array): void;
  /** The address of native code that calls `answer` with six integer arguments, unsigned; it is never given back. */
  callback(answer: (...args: bigint[]) => bigint): bigint;
  /** bpf(2) with a union bpf_attr: what it returns, or the name of the error. */
  bpf(command: number, attributes: Uint8Array): number | string;
  /** Makes the way into machine code: through the trampoline at an address, which must outlive the gate. */
  gate(trampoline: bigint): Gate;
  /** Calls the code at `entry` with six integer arguments, System V; returns rax, unsigned. */
  call6(
    gate: Gate,
    entry: bigint,
    a: NativeArg,
    b: NativeArg,
    c: NativeArg,
    d: NativeArg,
    e: NativeArg,
    f: NativeArg,
  ): bigint;
}

const MAP_FAILED = 2n ** 64n - 1n;

let loaded: Libc | undefined;

/** @throws EngineError where there is no such system, or koffi does not load */
export function libc(): Libc {
  loaded ??= load();
  return loaded;
}

function load(): Libc {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new EngineError(
      'E-PLATFORM',
      `machine code runs on Linux on x86-64 only, and this is ${process.platform} on ${process.arch}; use the engine 'interpreter' or 'reference'`,
    );
  }
  const koffi = loadKoffi();
  const lib = koffi.load(null);
  const memfdCreate = lib.func('int memfd_create(const char *name, unsigned int flags)');
  const mmap = lib.func(
    'uintptr_t mmap(uintptr_t address, size_t length, int prot, int flags, int fd, int64_t offset)',
  );
  const munmap = lib.func('int munmap(uintptr_t address, size_t length)');
  const mprotect = lib.func('int mprotect(uintptr_t address, size_t length, int prot)');
  const close = lib.func('int close(int fd)');
  const pwrite = lib.func('int64_t pwrite(int fd, const void *bytes, size_t length, int64_t offset)');
  const fallocate = lib.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)');
  const memcmp = lib.func('int memcmp(const void *bytes, uintptr_t address, size_t length)');
  const fcntl = lib.func('int fcntl(int fd, int command, int argument)');
  const syscall3 = lib.func('int64_t syscall(int64_t number, uint64_t a, uint64_t b, uint64_t c)');
  const two = koffi.proto('uint64_t bpf_unpack_two(void *, void *, void *)');
  const six = koffi.proto('uint64_t bpf_unpack_six(void *, void *, void *, void *, void *, void *, void *)');
  const dlsym = lib.func('uintptr_t dlsym(uintptr_t handle, const char *name)');
  const functionAt = (name: string): bigint => BigInt(dlsym(0, name));
  const atExit = koffi.proto('int bpf_unpack_at_exit(uintptr_t code, uintptr_t argument, uintptr_t object)');
  const callback = koffi.proto(
    'uint64_t bpf_unpack_callback(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t)',
  );
  const memcpy = {
    from: lib.func('void *memcpy(void *to, uintptr_t from, size_t length)'),
    to: lib.func('void *memcpy(uintptr_t to, void *from, size_t length)'),
  };
  const map = (address: bigint, length: number, prot: number, flags: number, fd: number, offset: number) =>
    BigInt(mmap(address, length, prot, flags, fd, offset));
  const membarrier = (command: number) => Number(syscall3(SYS_MEMBARRIER, command, 0, 0));
  const errorName = (): string => {
    const errno = koffi.errno();
    return Object.entries(koffi.os.errno).find(([, value]) => value === errno)?.[0] ?? `errno ${errno}`;
  };
  const failure = (what: string) => {
    const name = errorName();
    const advice = ADVICE[what]?.[name];
    return new EngineError('E-SYSTEM', `${what} was refused (${name})${advice ? `: ${advice}` : ''}`);
  };
  return {
    memfd(name) {
      const flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
      let fd: number = memfdCreate(name, flags | MFD_EXEC);
      if (fd < 0 && koffi.errno() === koffi.os.errno.EINVAL) fd = memfdCreate(name, flags); // before Linux 6.3
      if (fd < 0) throw failure('memfd_create');
      return fd;
    },
    reserve(length) {
      const address = map(0n, length, PROT.none, RESERVED, -1, 0);
      return address === MAP_FAILED ? undefined : address;
    },
    reserveAgain(address, length) {
      if (map(address, length, PROT.none, RESERVED | MAP.fixed, -1, 0) === MAP_FAILED)
        throw failure('giving code memory back');
    },
    mapCode(fd, offset, address, length) {
      if (map(address, length, PROT.read | PROT.exec, MAP.shared | MAP.fixed, fd, offset) === MAP_FAILED)
        throw failure('mapping code as read+execute');
    },
    mapWritable(address, length) {
      const anonymous = MAP.private | MAP.anonymous | MAP.fixed;
      if (map(address, length, PROT.read | PROT.write, anonymous, -1, 0) === MAP_FAILED)
        throw failure('mapping memory');
    },
    protect(address, length, access) {
      const prot = access === 'write' ? PROT.read | PROT.write : PROT.read | PROT.exec;
      if (mprotect(address, length, prot) !== 0)
        throw failure(`making code memory ${access === 'write' ? 'writable' : 'executable'} by mprotect`);
    },
    unmap(address, length) {
      if (munmap(address, length) !== 0) throw failure('munmap');
    },
    close(fd) {
      close(fd);
    },
    write(fd, bytes, length, offset) {
      const written = Number(pwrite(fd, bytes, length, offset));
      if (written < 0) throw failure('writing code');
      if (written < length)
        throw new EngineError('E-SYSTEM', `only ${written} of ${length} bytes of code could be written`);
    },
    punchHole(fd, offset, length) {
      if (fallocate(fd, FALLOC.punchHole | FALLOC.keepSize, offset, length) !== 0)
        throw failure('giving pages of the code file back');
    },
    holds: (address, bytes, length) => memcmp(bytes, address, length) === 0,
    sealFile(fd) {
      const seals = SEALS.write | SEALS.grow | SEALS.shrink | SEALS.seal;
      if (fcntl(fd, F_ADD_SEALS, seals) !== 0) throw failure('sealing the code file');
    },
    sealMapping(address, length) {
      return BigInt(syscall3(SYS_MSEAL, address, length, 0)) === 0n;
    },
    syncCores() {
      if (membarrier(MEMBARRIER.syncCore) === 0) return;
      // The process has to register once; doing so again is harmless.
      const done = membarrier(MEMBARRIER.registerSyncCore) === 0 && membarrier(MEMBARRIER.syncCore) === 0;
      if (!done) throw failure('membarrier(SYNC_CORE)');
    },
    addressOf: (buffer) => BigInt(koffi.address(buffer)),
    functionAt,
    atThreadExit(code, argument) {
      // Of the C++ ABI; musl has none. Its last argument is any address in a library that stays: glibc faults on 0.
      const register = functionAt('__cxa_thread_atexit_impl');
      return register !== 0n && koffi.call(register, atExit, code, argument, register) === 0;
    },
    copyFrom(address, length) {
      const bytes = new Uint8Array(length);
      memcpy.from(bytes, address, length);
      return bytes;
    },
    copyTo(address, bytes) {
      memcpy.to(address, bytes, bytes.length);
    },
    callback(answer) {
      // koffi hands over uint64_t as a number or as a bigint, a great one as negative.
      const exact = (...args: (number | bigint)[]) =>
        answer(...args.map((arg) => BigInt.asUintN(64, BigInt(arg))));
      try {
        return koffi.address(koffi.register(exact, koffi.pointer(callback)));
      } catch (cause) {
        const message = `koffi has no callback left for this thread: ${(cause as Error).message}`;
        throw new EngineError('E-FFI', message, {}, { cause });
      }
    },
    bpf(command, attributes) {
      const result = Number(syscall3(SYS_BPF, command, koffi.address(attributes), attributes.length));
      return result < 0 ? errorName() : result;
    },
    gate: (trampoline) => ({ two: koffi.decode(trampoline, two), six: koffi.decode(trampoline, six) }),
    call6: (gate, entry, a, b, c, d, e, f) => BigInt(gate.six(entry, a, b, c, d, e, f)),
  };
}

function loadKoffi(): typeof import('koffi') {
  try {
    const koffi: typeof import('koffi') = require('koffi');
    // Where node:vm cut off its loading, Node keeps what there was of it.
    if (typeof koffi.load !== 'function') throw new Error('its loading was cut off in this thread');
    return koffi;
  } catch (cause) {
    throw new EngineError(
      'E-FFI',
      `koffi, which calls machine code, does not load: ${(cause as Error).message}`,
      {},
      { cause },
    );
  }
}
