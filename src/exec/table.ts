// Calls of the table routines: the code is placed once an arena, and serves every format.

import { byteLength } from '../bytes.js';
import { hostTarget } from '../jit/host.js';
import { TABLE_STATE, type TABLE_TERMS } from '../jit/target.js';
import { type CodeArena, callLoop, type Routine } from './arena.js';
import { libc } from './libc.js';
import { beginStream, endedStream, type StreamEnded, type StreamRun, type StrideRun, Words } from './run.js';

type Kind = keyof typeof TABLE_TERMS;

interface TableRoutines {
  readonly run: Routine;
  readonly record: Readonly<Record<Kind, Routine>>;
  readonly stride: Readonly<Record<Kind, Routine>>;
  readonly stream: Readonly<Record<Kind, Routine>>;
}

const placed = new WeakMap<CodeArena, TableRoutines>();

function routinesIn(arena: CodeArena): TableRoutines {
  const found = placed.get(arena);
  if (found) return found;
  const { table } = hostTarget();
  const of = (make: (kind: Kind) => Parameters<CodeArena['place']>[0]) => ({
    plain: arena.place(make('plain')),
    any: arena.place(make('any')),
  });
  const routines = {
    run: arena.place(table.run()),
    record: of(table.record),
    stride: of(table.stride),
    stream: of(table.stream),
  };
  placed.set(arena, routines);
  return routines;
}

/** A table with what a call needs besides. */
export class TableCalls {
  readonly #arena: CodeArena;
  readonly #routines: TableRoutines;
  readonly #kind: Kind;
  readonly #table: Uint8Array;
  readonly #state = new Words(TABLE_STATE.words);
  readonly #stream = new Uint8Array(this.#state.all.buffer, TABLE_STATE.stream * 8);

  /** @param table for records of at most 64 bytes, `reads` of them packed and `writes` unpacked */
  constructor(arena: CodeArena, kind: Kind, table: Uint8Array, reads: number, writes: number) {
    this.#arena = arena;
    this.#routines = routinesIn(arena);
    this.#kind = kind;
    this.#table = table;
    this.#state.all[TABLE_STATE.reads] = (1n << BigInt(reads)) - 1n;
    this.#state.all[TABLE_STATE.writes] = (1n << BigInt(writes)) - 1n;
  }

  /** At least one record. */
  stride({ out, packed, count, stride, outStride }: StrideRun): void {
    const routine = this.#routines.stride[this.#kind];
    this.#call(routine, [out, packed, BigInt(count), BigInt(stride), BigInt(outStride)]);
  }

  /** @param rest as `keyStreamLoop` makes it, for keys that are malformed */
  stream(rest: Routine, run: StreamRun): StreamEnded {
    const { out, keys, offsets } = run;
    beginStream(this.#state, TABLE_STATE.stream, run, offsets.length, run.keyU64s);
    const record = this.#routines.record[this.#kind].address;
    this.#call(this.#routines.stream[this.#kind], [this.#stream, record, out, keys, offsets, rest.address]);
    return endedStream(this.#state, TABLE_STATE.stream);
  }

  /** The buffers among the arguments are passed themselves as well, so that they live as long as the call. */
  #call(target: Routine, args: readonly (Uint8Array | Uint32Array | bigint)[]): void {
    const state = this.#state.all;
    state[TABLE_STATE.target] = target.address;
    args.forEach((arg, i) => {
      state[TABLE_STATE.args + i] = typeof arg === 'bigint' ? arg : address(arg);
    });
    const [a, b, c, d] = args.filter((arg) => typeof arg !== 'bigint');
    callLoop(this.#arena, this.#routines.run, [state, this.#table, a ?? 0n, b ?? 0n, c ?? 0n, d ?? 0n]);
  }
}

const address = (bytes: Uint8Array | Uint32Array): bigint =>
  byteLength(bytes as Uint8Array) === 0 ? 0n : libc().addressOf(bytes);
