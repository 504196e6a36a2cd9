// The operating system, as far as executable memory and the kernel's BPF need it. The only file that loads koffi, at first use.

import { createRequire } from 'node:module';
import { EngineError } from '../errors.js';

const require = createRequire(import.meta.url);

// Linux, x86-64: include/uapi/linux/memfd.h, asm-generic/mman-common.h, fcntl.h, syscall_64.tbl.
const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const MFD_EXEC = 0x10;
const PROT_READ = 1;
const PROT_EXEC = 4;
const MAP_SHARED = 1;
const F_ADD_SEALS = 1033;
const SEALS = { seal: 1, shrink: 2, grow: 4, write: 8 };
const SYS_MSEAL = 462;
const SYS_BPF = 321;

/** An argument of native code: a buffer goes as its address, a bigint as itself. */
export type NativeArg = Uint8Array | BigUint64Array | Uint32Array | bigint;

export interface Libc {
  /** A sealable anonymous file whose pages may be mapped executable; returns its descriptor. */
  memfd(name: string): number;
  /** Maps `length` bytes of a descriptor at `offset`, shared, readable and executable; returns the address. */
  mapCode(fd: number, offset: number, length: number): bigint;
  unmap(address: bigint, length: number): void;
  /** Forbids every later write, growth and shrinkage of the file, for good. */
  sealFile(fd: number): void;
  /** Forbids every later change of the mapping, for good; false where the kernel (before 6.10) cannot. */
  sealMapping(address: bigint, length: number): boolean;
  /** The bytes at an address, not copied. Writing to them would fault. */
  view(address: bigint, length: number): Uint8Array;
  addressOf(buffer: Uint8Array | Uint32Array): bigint;
  /** A copy of the `length` bytes at an address, which must be readable. */
  copyFrom(address: bigint, length: number): Uint8Array;
  copyTo(address: bigint, bytes: Uint8Array): void;
  /** The address of native code that calls `answer` with six integer arguments, unsigned; it is never given back. */
  callback(answer: (...args: bigint[]) => bigint): bigint;
  /** bpf(2) with a union bpf_attr: what it returns, or the name of the error. */
  bpf(command: number, attributes: Uint8Array): number | string;
  /** Calls the code at `address` with six integer arguments, System V. */
  call6(
    address: bigint,
    a: NativeArg,
    b: NativeArg,
    c: NativeArg,
    d: NativeArg,
    e: NativeArg,
    f: NativeArg,
  ): bigint;
}

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
    'uintptr_t mmap(void *address, size_t length, int prot, int flags, int fd, int64_t offset)',
  );
  const munmap = lib.func('int munmap(void *address, size_t length)');
  const fcntl = lib.func('int fcntl(int fd, int command, int argument)');
  const syscall3 = lib.func('int64_t syscall(int64_t number, uint64_t a, uint64_t b, uint64_t c)');
  const routine = koffi.proto('uint64_t bpf_unpack_routine(void *, void *, void *, void *, void *, void *)');
  const callback = koffi.proto(
    'uint64_t bpf_unpack_callback(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t)',
  );
  const memcpy = {
    from: lib.func('void *memcpy(void *to, uintptr_t from, size_t length)'),
    to: lib.func('void *memcpy(uintptr_t to, void *from, size_t length)'),
  };
  const errorName = (): string => {
    const errno = koffi.errno();
    return Object.entries(koffi.os.errno).find(([, value]) => value === errno)?.[0] ?? `errno ${errno}`;
  };
  const failure = (what: string, advice: string) =>
    new EngineError('E-SYSTEM', `${what} was refused (${errorName()}); ${advice}`);
  return {
    memfd(name) {
      const flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
      let fd: number = memfdCreate(name, flags | MFD_EXEC);
      if (fd < 0 && koffi.errno() === koffi.os.errno.EINVAL) fd = memfdCreate(name, flags); // before Linux 6.3
      if (fd < 0)
        throw failure('memfd_create', 'executable memory needs it: see vm.memfd_noexec and seccomp filters');
      return fd;
    },
    mapCode(fd, offset, length) {
      const address = BigInt(mmap(null, length, PROT_READ | PROT_EXEC, MAP_SHARED, fd, offset));
      if (address === 0xffff_ffff_ffff_ffffn) {
        throw failure(
          'mapping code as read+execute',
          'a noexec policy (SELinux execmem, vm.memfd_noexec) may forbid it',
        );
      }
      return address;
    },
    unmap(address, length) {
      if (munmap(address, length) !== 0) throw failure('munmap', 'this is a bug');
    },
    sealFile(fd) {
      const seals = SEALS.write | SEALS.grow | SEALS.shrink | SEALS.seal;
      if (fcntl(fd, F_ADD_SEALS, seals) !== 0)
        throw failure('sealing the code file', 'somebody else maps it writable');
    },
    sealMapping(address, length) {
      return BigInt(syscall3(SYS_MSEAL, address, length, 0)) === 0n;
    },
    view: (address, length) => new Uint8Array(koffi.view(address, length)),
    addressOf: (buffer) => BigInt(koffi.address(buffer)),
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
    call6: (address, a, b, c, d, e, f) => BigInt(koffi.call(address, routine, a, b, c, d, e, f)),
  };
}

function loadKoffi(): typeof import('koffi') {
  try {
    return require('koffi');
  } catch (cause) {
    throw new EngineError(
      'E-FFI',
      `koffi, which calls machine code, does not load: ${(cause as Error).message}`,
      {},
      { cause },
    );
  }
}
