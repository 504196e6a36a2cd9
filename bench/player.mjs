// Times machine code without the crossing from JavaScript: what an engine calls is recorded and played again by a loop in
// machine code, which reads the time stamp counter. One such call is { address, args }, as libc.call6 takes it.

import { callLoop } from '../dist/exec/arena.js';
import { libc } from '../dist/exec/libc.js';
import { CodeArena } from '../dist/index.js';
import { makeCode } from '../dist/jit/target.js';
import { fixedStrideLoop } from '../dist/jit/x64/loops.js';
import { median } from './work.mjs';

// u64 repeat(u64 *script, u64 passes): time stamp ticks. The script is a count and as many calls of ten words: function, six
// arguments, and for the words of state that a call changes how many they are, where they are kept, and where they belong.
const REPEAT = `53 55 4154 4155 4156                  push rbx, rbp, r12, r13, r14
  4989fc 4989f5                               r12 = script, r13 = passes
  0f01f9 0faee8 48c1e220 4c8d3402             rdtscp; lfence; r14 = edx:eax
  498d5c2408 498b2c24                         pass: rbx = first call, rbp = count
  488b4b38 488b7340 488b7b48 e30f             each: rcx, rsi, rdi = words, kept, state; jrcxz copied
  488b44cef8 488944cff8 48ffc9 75f1           copy: [rdi+rcx*8-8] = [rsi+rcx*8-8]; dec rcx; jne copy
  488b7b08 488b7310 488b5318                  copied: rdi, rsi, rdx
  488b4b20 4c8b4328 4c8b4b30                  rcx, r8, r9
  ff13 4883c350 48ffcd 75c0                   call [rbx]; rbx += 80; dec rbp; jne each
  49ffcd 75b2                                 dec r13; jne pass
  0f01f9 0faee8 48c1e220 4801d0 4c29f0        rdtscp; lfence; rax = edx:eax - r14
  415e 415d 415c 5d 5b c3                     pop r14, r13, r12, rbp, rbx; ret`;

// u64 chain(u64 count): ticks of 16 * count multiplications that wait for each other, three core cycles each on Intel and AMD.
const CHAIN = `0f01f9 0faee8 48c1e220 488d3402       rdtscp; lfence; rsi = edx:eax
  b803000000                                  eax = 3
  ${'480fafc0 '.repeat(16)}                   more: imul rax, rax
  48ffcf 75bb                                 dec rdi; jne more
  4989c0                                      r8 = rax
  0f01f9 0faee8 48c1e220 4801d0 4829f0 c3     rdtscp; lfence; rax = edx:eax - rsi; ret`;

// void stream(void *entry, u8 *dst, const u8 *keys, u64 count): entry(dst, key) for each key, the next one *key words on; no checks.
const STREAM = `53 55 4154 4155 4156                  push rbx, rbp, r12, r13, r14
  4889fb 4889f5 4989d4 4989cd                 rbx = entry, rbp = dst, r12 = keys, r13 = count
  450fb63424 4889ef 4c89e6 ffd3               next: r14d = [r12]; rdi = rbp; rsi = r12; call rbx
  4883c528 4f8d24f4 49ffcd 75e6               rbp += 40; r12 += r14 * 8; dec r13; jne next
  415e 415d 415c 5d 5b c3                     pop r14, r13, r12, rbp, rbx; ret`;

const EMPTY = 'c3                                     ret';

/** Short, so that some fall where nobody else is at work on the core. */
const SAMPLE_NS = 8_000;
const CLOCK_CHAINS = 400_000; // some 6 ms
const CYCLE_CHAINS = 2000;
const CHAIN_CYCLES = 16 * 3;
/** How many of the last measurements of the clock count: the fastest was the least disturbed. */
const RECENT = 5;
const LINE_BYTES = 64;
const TRAP = 0xcc;
const NO_ARGS = Array.from({ length: 6 }, () => 0n);
/** Words of a call in a script. */
const CALL_WORDS = 10;

export class Player {
  #lib = libc();
  #arena = new CodeArena({ name: 'bench' });
  /** Where in a cache line code starts: 0, 16, 32 or 48. */
  phase = 0;
  #repeat = this.place(bytesOf(REPEAT), 'repeat');
  #chain = this.place(bytesOf(CHAIN), 'chain');
  strideLoop = this.placeCode(fixedStrideLoop());
  streamLoop = this.place(bytesOf(STREAM), 'stream');
  empty = this.place(bytesOf(EMPTY), 'empty');
  #nsPerTick = median(Array.from({ length: 9 }, () => this.#nsOfTick()));
  #clock = [];

  /** Machine code that came from elsewhere, such as another compiler. */
  place(bytes, name) {
    return this.placeCode(makeCode({ isa: 'x64', bytes, offsets: [], abi: undefined, name }));
  }

  /**
   * Machine code of ours. It starts `phase` bytes behind the start of a cache line: that makes more of a difference than much else.
   * @returns what has its address; for phase 0 a routine
   */
  placeCode({ isa, bytes, alignment, name }, phase = this.phase) {
    const shifted = new Uint8Array(phase + bytes.length).fill(TRAP, 0, phase);
    shifted.set(bytes, phase);
    const code = {
      isa,
      bytes: shifted,
      offsets: [],
      abi: undefined,
      alignment: Math.max(LINE_BYTES, alignment),
      name,
    };
    const routine = this.#arena.place(makeCode(code));
    return phase === 0 ? routine : { address: routine.address + BigInt(phase) };
  }

  dispose() {
    this.#arena.dispose();
  }

  /** Calls machine code with what may be words of memory and numbers. */
  call6(routine, ...args) {
    return callLoop(this.#arena, routine, [...args, ...NO_ARGS.slice(args.length)]);
  }

  /** The calls into machine code that `run` makes, with the state that each began with. */
  record(run) {
    const calls = [];
    const { call6 } = this.#lib;
    this.#lib.call6 = (gate, address, ...args) => {
      calls.push({ address, args, before: stateOf(args)?.slice() });
      return call6(gate, address, ...args);
    };
    try {
      run();
    } finally {
      this.#lib.call6 = call6;
    }
    return calls;
  }

  /** @returns a function that plays the calls as often as takes about 8 µs, after once to warm the caches, and gives the ns of playing them once */
  script(calls) {
    const buffers = [];
    const number = (arg) => {
      if (typeof arg === 'bigint') return arg;
      buffers.push(arg);
      return this.#lib.addressOf(arg);
    };
    const words = new BigUint64Array(1 + calls.length * CALL_WORDS);
    words[0] = BigInt(calls.length);
    calls.forEach(({ address, args, before }, i) => {
      const state = stateOf(args);
      const kept = before ?? state?.slice();
      const restored = state ? [BigInt(state.length), number(kept), number(state)] : [];
      const call = [address, ...args.map(number)];
      words.set(call, 1 + i * CALL_WORDS);
      words.set(restored, 1 + i * CALL_WORDS + 7);
    });
    let passes;
    const sample = () => {
      if (passes !== undefined) {
        if (passes > 1) this.#play(words, 1);
        return this.#play(words, passes);
      }
      const once = this.#play(words, 1);
      passes = Math.max(
        1,
        Math.round(SAMPLE_NS / Math.min(once, once < SAMPLE_NS ? this.#play(words, 1) : once)),
      );
      return once;
    };
    return Object.assign(sample, { buffers });
  }

  /** ns of a core cycle now: the clock moves. */
  nsOfCycle() {
    this.#clock.push((this.#ticks(CYCLE_CHAINS) * this.#nsPerTick) / CYCLE_CHAINS / CHAIN_CYCLES);
    if (this.#clock.length > RECENT) this.#clock.shift();
    return Math.min(...this.#clock);
  }

  #play(script, passes) {
    const ticks = this.call6(this.#repeat, script, BigInt(passes));
    return (Number(ticks) * this.#nsPerTick) / passes;
  }

  #ticks(count) {
    return Number(this.call6(this.#chain, BigInt(count)));
  }

  #nsOfTick() {
    const begun = process.hrtime.bigint();
    const ticks = this.#ticks(CLOCK_CHAINS);
    return Number(process.hrtime.bigint() - begun) / ticks;
  }
}

const stateOf = (args) => args.find((arg) => arg instanceof BigUint64Array);

/** The hexadecimal digits before the words that explain them. */
export function bytesOf(listing) {
  const digits = listing.split('\n').map((line) => line.trim().split(/ {2,}/)[0]);
  return Buffer.from(digits.join('').replaceAll(' ', ''), 'hex');
}
