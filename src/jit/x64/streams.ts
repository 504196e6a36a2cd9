// Four key streams in step. The length of a key has to be loaded before the next key can be: that takes longer than
// unpacking it, so keys of four streams are unpacked in the time of one.

import { BKEY_BYTES, BKEY_U64S, FORMAT_CURRENT } from '../../format/bkey.js';
import { STREAM_END } from '../../format/stream.js';
import type { Lifted } from '../lift.js';
import { type BulkCode, STREAM_PLACES, STREAM_WORDS, type Tier } from '../target.js';
import { CALLEE_SAVED, move, pop, push } from './abi.js';
import { Assembler, type Label } from './assemble.js';
import { FORMAT_BITS } from './bulk.js';
import {
  Memory,
  memory,
  R8,
  R9,
  R10,
  R11,
  R12,
  R13,
  R14,
  R15,
  RAX,
  RBP,
  RBX,
  RCX,
  RDI,
  RDX,
  RSI,
  RSP,
  register,
} from './operands.js';
import { codeWithConstants } from './own-code.js';
import { planRecord, VBMI_BYTES } from './record-plan.js';
import { copyKey, type Place, VectorRecord } from './vector-record.js';

/** Of each stream: how far its next key is from KEYS, the keys of stream 0, and where its output begins. */
const KEY = [RBX, RBP, RSI, RDI];
const OUT = [R12, R13, R14, R15];
/** How far into each output; the header of a key, and where the next one is. */
const [KEYS, DONE, HEADER, NEXT] = [R9, R8, RAX, RCX];
/** Where the offsets of stream 0 go, and how far from there those of stream 1; of streams 2 and 3 twice and four times as far. */
const [OFFSETS, APART, CONSTANTS] = [R10, RDX, R11];

const STREAMS = [...STREAM_PLACES.keys()];
// On the stack: for each stream how far its keys are from those of stream 0, where it ends, and where its last key can be;
// where the offsets of stream 0 end; and under them the arguments.
const WORDS_OF_STREAM = { apart: 0, end: 1, last: 2 };
const ALL_DONE = STREAMS.length * Object.keys(WORDS_OF_STREAM).length * 8;
const FRAME_BYTES = ALL_DONE + 8;
const ARGUMENT = {
  rest: FRAME_BYTES,
  single: FRAME_BYTES + 8,
  entry: FRAME_BYTES + 16,
  state: FRAME_BYTES + 24,
};

const onStack = (offset: number): Memory => memory(64, RSP, offset);
const bound = (stream: number, word: keyof typeof WORDS_OF_STREAM): Memory =>
  onStack((WORDS_OF_STREAM[word] * STREAMS.length + stream) * 8);
const wordOf = (base: number, stream: number, word: keyof typeof STREAM_WORDS): Memory =>
  memory(64, base, (stream * Object.keys(STREAM_WORDS).length + STREAM_WORDS[word]) * 8);

/**
 * `u64 loop(u64 *state, void *entry, void *single, void *rest, u64 most)`: unpacks the keys of four streams, at most `most` of
 * each in step, and then what is left of each by `single(…, entry, …, rest)`, the vector stream loop of bulk.ts.
 * state: STREAM_WORDS for each stream, of which none is done. From the offsets of the first those of the others are as far as
 * STREAM_PLACES says, or a multiple of it.
 * @returns undefined for records that do not lend themselves to it
 */
export function streamsLoop(lifted: Lifted, tier: Tier = 'avx2'): BulkCode | undefined {
  const { bytes } = lifted.input;
  // Where more than a word is read behind the last keys of a stream, too many of them would be left to the loop for one.
  const readable = bytes >= VBMI_BYTES - 8 ? Math.max(bytes, VBMI_BYTES) : bytes;
  const plan = planRecord(lifted, tier, readable);
  if (!plan || plan.reach > readable || plan.outputBytes !== BKEY_BYTES) return undefined;
  const asm = new Assembler();
  const record = new VectorRecord(asm, plan, CONSTANTS);
  new StreamsLoop(asm, record, bytes / 8, Math.max(bytes, plan.reach)).emit();
  const code = codeWithConstants(asm, 'streams loop');
  return { code, overread: 0 };
}

class StreamsLoop {
  readonly #asm: Assembler;
  readonly #record: VectorRecord;
  readonly #keyU64s: number;
  /** Bytes of a key that may be read. */
  readonly #reach: number;
  readonly #stops: readonly Label[];

  constructor(asm: Assembler, record: VectorRecord, keyU64s: number, reach: number) {
    this.#asm = asm;
    this.#record = record;
    this.#keyU64s = keyU64s;
    this.#reach = reach;
    this.#stops = STREAMS.map(() => asm.label());
  }

  emit(): void {
    const asm = this.#asm;
    const [next, step, done] = [asm.label(), asm.label(), asm.label()];
    this.#enter(done);
    this.#record.prepare();
    asm.bind(next);
    const seldom = STREAMS.map((stream) => this.#key(stream));
    asm.emit('add', register(DONE), BKEY_BYTES);
    asm.emit('add', register(OFFSETS), 4);
    asm.emit('cmp', register(OFFSETS), onStack(ALL_DONE));
    asm.jump('jne', next);
    asm.bind(step);
    asm.emit('vzeroupper');
    asm.bind(done);
    this.#leave();
    for (const emit of seldom) emit();
    this.#stop(step);
  }

  /** Goes to `done` where not each stream has the bytes of a packed key. */
  #enter(done: Label): void {
    const asm = this.#asm;
    const state = R11;
    push(asm, CALLEE_SAVED);
    for (const number of [RDI, RSI, RDX, RCX]) asm.emit('push', register(number));
    asm.emit('sub', register(RSP), FRAME_BYTES);
    move(asm, state, RDI);
    asm.emit('mov', register(KEYS), wordOf(state, 0, 'keys'));
    asm.emit('mov', register(OFFSETS), wordOf(state, 0, 'offsets'));
    asm.emit('mov', register(APART), wordOf(state, 1, 'offsets'));
    asm.emit('sub', register(APART), register(OFFSETS));
    asm.emit('lea', register(RAX), new Memory(8, register(OFFSETS), 0, register(R8), 4));
    asm.emit('mov', onStack(ALL_DONE), register(RAX));
    asm.emit('xor', register(DONE, 32), register(DONE, 32));
    for (const stream of STREAMS) {
      const [apart, key] = [RAX, KEY[stream]!];
      asm.emit('mov', register(apart), wordOf(state, stream, 'keys'));
      asm.emit('sub', register(apart), register(KEYS));
      asm.emit('mov', bound(stream, 'apart'), register(apart));
      asm.emit('mov', register(key), wordOf(state, stream, 'end'));
      asm.emit('add', register(key), register(apart));
      asm.emit('mov', bound(stream, 'end'), register(key));
      asm.emit('sub', register(key), this.#reach);
      asm.emit('mov', bound(stream, 'last'), register(key));
      asm.emit('mov', register(key), wordOf(state, stream, 'position'));
      asm.emit('add', register(key), register(apart));
      asm.emit('mov', register(OUT[stream]!), wordOf(state, stream, 'out'));
    }
    asm.emit('cmp', register(OFFSETS), onStack(ALL_DONE));
    asm.jump('je', done);
    for (const stream of STREAMS) {
      asm.emit('cmp', register(KEY[stream]!), bound(stream, 'last'));
      asm.jump('jg', done);
    }
  }

  /** The next key of a stream, which has the bytes of a packed key; returns how to emit what is seldom done. */
  #key(stream: number): () => void {
    const asm = this.#asm;
    const [unpacked, last, found, decoded] = [asm.label(), asm.label(), asm.label(), asm.label()];
    const key = KEY[stream]!;
    const stop = this.#stops[stream]!;
    const source: Place = (bits, offset) => new Memory(bits, register(KEYS), offset, register(key));
    const target: Place = (bits, offset) => new Memory(bits, register(OUT[stream]!), offset, register(DONE));
    // Everything about the key comes from one load of its header, which may change under our hands.
    asm.emit('mov', register(HEADER, 32), source(32, 0));
    asm.emit('movzx', register(NEXT, 32), register(HEADER, 8));
    asm.emit('test', register(HEADER, 32), FORMAT_BITS);
    asm.jump('jne', unpacked);
    asm.emit('cmp', register(NEXT, 32), this.#keyU64s);
    asm.jump('jb', stop);
    asm.emit('lea', register(NEXT), new Memory(8, register(key), 0, register(NEXT), 8));
    asm.emit('cmp', register(NEXT), bound(stream, 'last'));
    asm.jump('jg', last);
    asm.bind(found);
    this.#record.emit(source, target);
    asm.bind(decoded);
    asm.emit('mov', this.#offset(stream), register(key, 32));
    move(asm, key, NEXT);
    const finishAfter = (then: Label) => {
      asm.emit('cmp', register(NEXT), bound(stream, 'end'));
      asm.jump('jg', stop);
      // This step is the last one.
      asm.emit('mov', onStack(ALL_DONE), register(OFFSETS));
      asm.emit('add', onStack(ALL_DONE), 4);
      asm.jump('jmp', then);
    };
    return () => {
      const copy = asm.label();
      asm.bind(last);
      finishAfter(found);
      asm.bind(unpacked);
      asm.emit('and', register(HEADER, 32), FORMAT_BITS);
      asm.emit('cmp', register(HEADER, 32), FORMAT_CURRENT << 8);
      asm.jump('jne', stop);
      asm.emit('cmp', register(NEXT, 32), BKEY_U64S);
      asm.jump('jb', stop);
      asm.emit('lea', register(NEXT), new Memory(8, register(key), 0, register(NEXT), 8));
      asm.emit('cmp', register(NEXT), bound(stream, 'last'));
      asm.jump('jle', copy);
      finishAfter(copy);
      asm.bind(copy);
      copyKey(asm, source, target);
      asm.jump('jmp', decoded);
    };
  }

  #offset(stream: number): Memory {
    const times = STREAM_PLACES[stream]!;
    return times === 0 ? memory(32, OFFSETS) : new Memory(32, register(OFFSETS), 0, register(APART), times);
  }

  /** Where a stream's key has to be left to others, the streams before it are one key ahead. */
  #stop(step: Label): void {
    const asm = this.#asm;
    for (const stream of STREAMS) {
      asm.bind(this.#stops[stream]!);
      asm.emit('mov', register(RAX), onStack(ARGUMENT.state));
      for (const ahead of STREAMS.slice(0, stream)) asm.emit('add', wordOf(RAX, ahead, 'count'), 1);
      asm.jump('jmp', step);
    }
  }

  /** Goes on with one stream after the other. */
  #leave(): void {
    const asm = this.#asm;
    asm.emit('mov', register(RAX), onStack(ARGUMENT.state));
    asm.emit('sub', register(OFFSETS), wordOf(RAX, 0, 'offsets'));
    asm.emit('shr', register(OFFSETS), 2);
    for (const stream of STREAMS) {
      asm.emit('add', wordOf(RAX, stream, 'count'), register(OFFSETS));
      asm.emit('sub', register(KEY[stream]!), bound(stream, 'apart'));
      asm.emit('mov', wordOf(RAX, stream, 'position'), register(KEY[stream]!));
    }
    move(asm, RBX, RAX);
    for (const stream of STREAMS) {
      this.#fromOwnKeys(stream);
      this.#finish(stream);
    }
    asm.emit('add', register(RSP), FRAME_BYTES + Object.keys(ARGUMENT).length * 8);
    pop(asm, CALLEE_SAVED);
    asm.emit('ret');
  }

  /** The offsets of a stream were counted from the keys of stream 0. */
  #fromOwnKeys(stream: number): void {
    const asm = this.#asm;
    const [apart, left, offsets] = [RDX, RCX, RSI];
    const [next, done] = [asm.label(), asm.label()];
    asm.emit('mov', register(apart), bound(stream, 'apart'));
    asm.emit('mov', register(left), wordOf(RBX, stream, 'count'));
    asm.emit('mov', register(offsets), wordOf(RBX, stream, 'offsets'));
    asm.emit('test', register(apart), register(apart));
    asm.jump('je', done);
    asm.bind(next);
    asm.emit('sub', register(left), 1);
    asm.jump('jb', done);
    asm.emit('sub', new Memory(32, register(offsets), 0, register(left), 4), register(apart, 32));
    asm.jump('jmp', next);
    asm.bind(done);
  }

  #finish(stream: number): void {
    const asm = this.#asm;
    const done = asm.label();
    const ended = (why: number, is: keyof typeof STREAM_WORDS, most: keyof typeof STREAM_WORDS) => {
      asm.emit('mov', wordOf(RBX, stream, 'ended'), why);
      asm.emit('mov', register(RAX), wordOf(RBX, stream, is));
      asm.emit('cmp', register(RAX), wordOf(RBX, stream, most));
      asm.jump('je', done);
    };
    ended(STREAM_END.end, 'position', 'end');
    ended(STREAM_END.count, 'count', 'most');
    asm.emit('lea', register(RDI), wordOf(RBX, stream, 'position'));
    asm.emit('mov', register(RSI), onStack(ARGUMENT.entry));
    asm.emit('imul', register(RDX), wordOf(RBX, stream, 'count'), BKEY_BYTES);
    asm.emit('add', register(RDX), wordOf(RBX, stream, 'out'));
    asm.emit('mov', register(RCX), wordOf(RBX, stream, 'keys'));
    asm.emit('mov', register(R8), wordOf(RBX, stream, 'offsets'));
    asm.emit('mov', register(R9), onStack(ARGUMENT.rest));
    asm.emit('call', onStack(ARGUMENT.single));
    asm.bind(done);
  }
}
