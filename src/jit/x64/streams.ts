// Four key streams in step. The length of a key has to be loaded before the next key can be: that takes longer than
// unpacking it, so keys of four streams are unpacked in the time of one.

import { BKEY_BYTES, BKEY_U64S, FORMAT_CURRENT } from '../../format/bkey.js';
import type { Lifted } from '../lift.js';
import { type BulkCode, makeCode, STREAM_PLACES, STREAM_WORDS } from '../target.js';
import { CALLEE_SAVED, pop, push } from './abi.js';
import { Assembler, CONSTANTS_ALIGNMENT, type Label } from './assemble.js';
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
import { copyKey, type Place, planRecord, VectorRecord } from './vector-record.js';

const KEY = [RBX, RBP, RSI, RDI];
const OUT = [R12, R13, R14, R15];
/** How far into each output; how many keys are left for all; header of a key and where the next one is. */
const [DONE, LEFT, HEADER, NEXT] = [R8, R9, RAX, RCX];
/** Where the offsets of stream 0 go, and how far from there those of stream 1; of streams 2 and 3 twice and four times as far. */
const [OFFSETS, APART, CONSTANTS] = [R10, RDX, R11];
// On the stack: for each stream where its last header can be and where it starts, how many keys were to be done, and
// under them the arguments.
const LIMIT = 0;
const START = LIMIT + 8 * STREAM_PLACES.length;
const MOST = START + 8 * STREAM_PLACES.length;
const FRAME_BYTES = MOST + 8;
const ARGUMENT = {
  rest: FRAME_BYTES,
  single: FRAME_BYTES + 8,
  entry: FRAME_BYTES + 16,
  state: FRAME_BYTES + 24,
};

const STREAMS = [...STREAM_PLACES.keys()];
const onStack = (offset: number): Memory => memory(64, RSP, offset);
const wordOf = (base: number, stream: number, word: keyof typeof STREAM_WORDS): Memory =>
  memory(64, base, (stream * Object.keys(STREAM_WORDS).length + STREAM_WORDS[word]) * 8);

/**
 * `u64 loop(u64 *state, void *entry, void *single, void *rest, u64 most)`: unpacks the keys of four streams, at most `most` of
 * each in step, and then what is left of each by `single(…, entry, …, rest)`, the vector stream loop of bulk.ts.
 * state: STREAM_WORDS for each stream, which has at least 8 bytes. From the offsets of the first those of the others are as far
 * as STREAM_PLACES says, or a multiple of it.
 * @returns undefined for records that do not lend themselves to it
 */
export function streamsLoop(lifted: Lifted): BulkCode | undefined {
  const plan = planRecord(lifted);
  if (!plan || plan.reach > lifted.input.bytes || plan.outputBytes !== BKEY_BYTES) return undefined;
  const asm = new Assembler();
  const record = new VectorRecord(asm, plan, CONSTANTS);
  new StreamsLoop(asm, record, lifted.input.bytes / 8).emit();
  const code = makeCode({
    isa: 'x64',
    bytes: asm.finish().bytes,
    offsets: [],
    abi: undefined,
    alignment: CONSTANTS_ALIGNMENT,
    name: 'streams loop',
  });
  return { code, overread: 0 };
}

class StreamsLoop {
  readonly #asm: Assembler;
  readonly #record: VectorRecord;
  readonly #keyU64s: number;
  readonly #stops: readonly Label[];

  constructor(asm: Assembler, record: VectorRecord, keyU64s: number) {
    this.#asm = asm;
    this.#record = record;
    this.#keyU64s = keyU64s;
    this.#stops = STREAMS.map(() => asm.label());
  }

  emit(): void {
    const asm = this.#asm;
    const [next, step, done] = [asm.label(), asm.label(), asm.label()];
    this.#enter();
    asm.emit('test', register(LEFT), register(LEFT));
    asm.jump('je', done);
    this.#record.prepare();
    asm.bind(next);
    const unpacked = STREAMS.map((stream) => this.#key(stream));
    asm.emit('add', register(DONE), BKEY_BYTES);
    asm.emit('add', register(OFFSETS), 4);
    asm.emit('sub', register(LEFT), 1);
    asm.jump('jne', next);
    asm.bind(step);
    asm.emit('vzeroupper');
    asm.bind(done);
    this.#leave();
    for (const emit of unpacked) emit();
    this.#stop(step);
  }

  #enter(): void {
    const asm = this.#asm;
    push(asm, CALLEE_SAVED);
    for (const number of [RDI, RSI, RDX, RCX]) asm.emit('push', register(number));
    asm.emit('sub', register(RSP), FRAME_BYTES);
    asm.emit('mov', register(LEFT), register(R8));
    asm.emit('mov', onStack(MOST), register(R8));
    asm.emit('mov', register(R11), register(RDI));
    for (const stream of STREAMS) {
      asm.emit('mov', register(HEADER), wordOf(R11, stream, 'keys'));
      asm.emit('mov', onStack(START + stream * 8), register(HEADER));
      asm.emit('mov', register(NEXT), wordOf(R11, stream, 'end'));
      asm.emit('lea', register(NEXT), new Memory(8, register(HEADER), -8, register(NEXT)));
      asm.emit('mov', onStack(LIMIT + stream * 8), register(NEXT));
      asm.emit('mov', register(NEXT), wordOf(R11, stream, 'position'));
      asm.emit('add', register(HEADER), register(NEXT));
      asm.emit('mov', register(OUT[stream]!), wordOf(R11, stream, 'out'));
      // Two of the keys' registers hold arguments no longer.
      asm.emit('mov', register(KEY[stream]!), register(HEADER));
    }
    asm.emit('mov', register(OFFSETS), wordOf(R11, 0, 'offsets'));
    asm.emit('mov', register(APART), wordOf(R11, 1, 'offsets'));
    asm.emit('sub', register(APART), register(OFFSETS));
    asm.emit('xor', register(DONE, 32), register(DONE, 32));
  }

  /** The next key of a stream, if it is packed and not the last one; returns how to emit what happens to an unpacked one. */
  #key(stream: number): () => void {
    const asm = this.#asm;
    const [unpacked, decoded] = [asm.label(), asm.label()];
    const key = KEY[stream]!;
    const stop = this.#stops[stream]!;
    const source: Place = (bits, offset) => memory(bits, key, offset);
    const target: Place = (bits, offset) => new Memory(bits, register(OUT[stream]!), offset, register(DONE));
    // Everything about the key comes from one load of its header, which may change under our hands.
    asm.emit('mov', register(HEADER, 32), memory(32, key));
    asm.emit('movzx', register(NEXT, 32), register(HEADER, 8));
    asm.emit('test', register(HEADER, 32), 0x7f00);
    asm.jump('jne', unpacked);
    asm.emit('cmp', register(NEXT, 32), this.#keyU64s);
    asm.jump('jb', stop);
    this.#findNext(stream);
    this.#record.emit(source, target);
    asm.bind(decoded);
    asm.emit('mov', register(HEADER), onStack(START + stream * 8));
    asm.emit('sub', register(key, 32), register(HEADER, 32));
    asm.emit('mov', this.#offset(stream), register(key, 32));
    asm.emit('mov', register(key), register(NEXT));
    return () => {
      asm.bind(unpacked);
      asm.emit('and', register(HEADER, 32), 0x7f00);
      asm.emit('cmp', register(HEADER, 32), FORMAT_CURRENT << 8);
      asm.jump('jne', stop);
      asm.emit('cmp', register(NEXT, 32), BKEY_U64S);
      asm.jump('jb', stop);
      this.#findNext(stream);
      copyKey(asm, source, target);
      asm.jump('jmp', decoded);
    };
  }

  /** From the length of a key; there has to be another header behind it. */
  #findNext(stream: number): void {
    const asm = this.#asm;
    asm.emit('lea', register(NEXT), new Memory(8, register(KEY[stream]!), 0, register(NEXT), 8));
    asm.emit('cmp', register(NEXT), onStack(LIMIT + stream * 8));
    asm.jump('ja', this.#stops[stream]!);
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
      asm.emit('mov', register(HEADER), onStack(ARGUMENT.state));
      for (const ahead of STREAMS.slice(0, stream)) asm.emit('add', wordOf(HEADER, ahead, 'count'), 1);
      asm.jump('jmp', step);
    }
  }

  /** Goes on with one stream after the other. */
  #leave(): void {
    const asm = this.#asm;
    asm.emit('mov', register(RAX), onStack(ARGUMENT.state));
    asm.emit('mov', register(RCX), onStack(MOST));
    asm.emit('sub', register(RCX), register(LEFT));
    for (const stream of STREAMS) {
      asm.emit('add', wordOf(RAX, stream, 'count'), register(RCX));
      asm.emit('mov', register(RDX), onStack(START + stream * 8));
      asm.emit('sub', register(KEY[stream]!), register(RDX));
      asm.emit('mov', wordOf(RAX, stream, 'position'), register(KEY[stream]!));
    }
    asm.emit('mov', register(RBX), register(RAX));
    for (const stream of STREAMS) {
      asm.emit('lea', register(RDI), wordOf(RBX, stream, 'position'));
      asm.emit('mov', register(RSI), onStack(ARGUMENT.entry));
      asm.emit('imul', register(RDX), wordOf(RBX, stream, 'count'), BKEY_BYTES);
      asm.emit('add', register(RDX), register(OUT[stream]!));
      asm.emit('mov', register(RCX), wordOf(RBX, stream, 'keys'));
      asm.emit('mov', register(R8), wordOf(RBX, stream, 'offsets'));
      asm.emit('mov', register(R9), onStack(ARGUMENT.rest));
      asm.emit('call', onStack(ARGUMENT.single));
    }
    asm.emit('add', register(RSP), FRAME_BYTES + Object.keys(ARGUMENT).length * 8);
    pop(asm, CALLEE_SAVED);
    asm.emit('ret');
  }
}
