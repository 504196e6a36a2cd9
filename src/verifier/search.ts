// Looks for an input on which a program faults: tries some, and changes those that come near where they come to differ
// from what they should do. The search is bounded by work, not by time, and its random numbers are always the same.

import type { ArgSpec, BufferSpec, Contract } from '../bpf/contract.js';
import type { Program } from '../bpf/program.js';
import { type Gap, METRICS } from './distance.js';
import { helpersIn, type Input, type IsAstray, observe, type Run, type Source } from './run.js';

export interface Problem {
  readonly program: Program;
  readonly contract: Contract;
  /** Index of the instruction that should fault. */
  readonly target: number;
  /** Instructions of one run. */
  readonly maxInstructions: number;
  /** Instructions of all runs by each measure; 40,000 take about 25 ms. */
  readonly work: number;
  /** Whether the run is what is looked for. */
  readonly isFound: (run: Run, input: Input) => boolean;
  /** Ways to tell how near a run came, tried one after the other. */
  readonly measures: readonly Measure[];
}

/** How near a run came. */
export interface Measure {
  /** @returns a lower stage for a run that came nearer; within one stage the gap's distance tells */
  readonly of: (run: Run, metric: number) => { readonly stage: number; readonly gap: Gap | undefined };
  readonly isAstray?: IsAstray;
}

interface Attempt {
  readonly input: Input;
  readonly run: Run;
  readonly stage: number;
  readonly gap: Gap | undefined;
}

/** What a run costs beside its instructions, measured in them. */
const WORK_PER_RUN = 25;
const BYTES_PER_WORK = 32;

/** @returns the input of a run that `isFound` */
export function search(problem: Problem): Input | undefined {
  for (const measure of problem.measures) {
    const found = new Search(problem, measure).find();
    if (found) return found;
  }
  return undefined;
}

class Search {
  readonly #problem: Problem;
  readonly #measure: Measure;
  readonly #random = generator();
  readonly #constants: readonly bigint[];
  #work: number;
  #metric = 0;
  #found: Input | undefined;

  constructor(problem: Problem, measure: Measure) {
    this.#problem = problem;
    this.#measure = measure;
    this.#work = problem.work;
    const constants = problem.program.instructions.flatMap(({ value }) => [value, value + 1n, value - 1n]);
    this.#constants = [...new Set(constants), ...EXTREMES].map((value) => BigInt.asUintN(64, value));
  }

  find(): Input | undefined {
    const inputs = PLAIN.map((fill) => this.#plain(fill));
    for (const input of inputs) this.#try(input);
    if (!this.#hasChoice(inputs[0]!)) return this.#found;
    for (const input of inputs) this.#climb(input);
    while (this.#work > 0 && !this.#found) this.#climb(this.#anything());
    return this.#found;
  }

  #hasChoice(input: Input): boolean {
    const { args } = this.#problem.contract;
    return input.some(({ length }, i) => length > 0 || args[i]?.kind === 'buffer');
  }

  #plain(fill: number): Input {
    const { contract } = this.#problem;
    const args = contract.args.map((spec) => new Uint8Array(this.#bytesFor(spec)).fill(fill));
    return [...args, ...helpersIn(contract).map(() => new Uint8Array(8).fill(fill))];
  }

  #bytesFor(spec: ArgSpec | undefined): number {
    if (spec?.kind === 'memory') return spec.bytes;
    if (spec?.kind === 'buffer') return this.#length(spec, pick(LENGTHS, this.#random));
    return spec?.kind === 'scalar' ? 8 : 0;
  }

  #length({ minBytes = 0, maxBytes = minBytes }: BufferSpec, more: number): number {
    return Math.min(maxBytes, minBytes + Math.min(MAX_MORE, Math.max(0, more)));
  }

  #anything(): Input {
    const input = this.#plain(0);
    for (const bytes of input) {
      const style = this.#random(3);
      if (style === 0) this.#scatter(bytes);
      else
        for (let at = 0; at < bytes.length; at++)
          bytes[at] = style === 1 ? this.#random(256) : pick(EDGES, this.#random);
    }
    return input;
  }

  /** A few constants of the program somewhere. */
  #scatter(bytes: Uint8Array): void {
    for (let left = 1 + this.#random(4); left > 0; left--) {
      const size = 1 << this.#random(4);
      if (size > bytes.length) continue;
      const at = this.#random(Math.floor(bytes.length / size)) * size;
      put(bytes, at, size, pick(this.#constants, this.#random));
    }
  }

  #try(input: Input): Attempt | undefined {
    const { program, contract, target, maxInstructions, isFound } = this.#problem;
    if (this.#work <= 0 || this.#found) return undefined;
    const run = observe(program, contract, input, target, maxInstructions, this.#measure.isAstray);
    const bytes = input.reduce((sum, { length }) => sum + length, 0);
    this.#work -= run.instructions + WORK_PER_RUN + bytes / BYTES_PER_WORK;
    if (isFound(run, input)) this.#found = input;
    return { input, run, ...this.#measure.of(run, this.#metric) };
  }

  /** Changes an input for as long as it comes nearer. */
  #climb(start: Input): void {
    this.#metric = 0;
    let best = this.#try(start);
    while (best && this.#metric < METRICS) {
      const next = this.#improve(best);
      if (next === best) best = this.#lookOtherwise(best);
      else best = next;
    }
  }

  /** The attempt by the next metric that sees it in another way. */
  #lookOtherwise(best: Attempt): Attempt {
    while (++this.#metric < METRICS) {
      const seen = this.#measure.of(best.run, this.#metric);
      if (seen.gap?.distance !== best.gap?.distance) return { ...best, ...seen };
    }
    return best;
  }

  /** The attempt itself where no change makes it better; undefined when the search is over. */
  #improve(best: Attempt): Attempt | undefined {
    const { stage, gap } = best;
    if (!gap) return best;
    for (const change of this.#changes(gap, best.run.sources)) {
      const input = best.input.map((bytes) => bytes.slice());
      change(input);
      const attempt = this.#try(input);
      if (!attempt || this.#found) return undefined;
      if (attempt.stage < stage) return attempt;
      if (attempt.stage === stage && attempt.gap && attempt.gap.distance < best.gap!.distance) best = attempt;
    }
    return best;
  }

  *#changes(gap: Gap, sources: readonly Source[]): Generator<(input: Uint8Array[]) => void> {
    const bytes = sources.filter((_, i) => (gap.from >> BigInt(i)) & 1n);
    const { words, parts } = windows(bytes);
    yield* wishing(words, gap);
    yield* this.#resizing(gap);
    for (const { arg, byte } of bytes) {
      for (let bit = 0; bit < 8; bit++) yield (input) => void (input[arg]![byte]! ^= 1 << bit);
    }
    yield* wishing(parts, gap);
    for (const window of [...words, ...parts])
      for (const value of this.#constants) yield setting(window, () => value);
  }

  /** Makes buffers as much longer or shorter as numbers should have been greater or less, and a little. */
  *#resizing({ wishes }: Gap): Generator<(input: Uint8Array[]) => void> {
    const missing = wishes.flatMap(([number, wish]) => [Number(wish - number), Number(number - wish)]);
    const steps = [...new Set([...missing, -1, 1, -8, 8])].filter((step) => Math.abs(step) <= MAX_MORE);
    for (const [arg, spec] of this.#problem.contract.args.entries()) {
      if (spec?.kind !== 'buffer') continue;
      for (const step of steps) {
        yield (input) => {
          const before = input[arg]!;
          const after = new Uint8Array(this.#length(spec, before.length - (spec.minBytes ?? 0) + step));
          after.set(before.subarray(0, after.length));
          input[arg] = after;
        };
      }
    }
  }
}

/** Puts the numbers wished for into the input, as they are and as what has to be added. */
function* wishing(windows: readonly Window[], { wishes }: Gap): Generator<(input: Uint8Array[]) => void> {
  const numbers = new Set(wishes.map(([, wish]) => wish));
  const differences = new Set(wishes.flatMap(([number, wish]) => [wish - number, number - wish]));
  for (const window of windows) {
    for (const difference of differences) yield setting(window, (old) => old + difference);
    for (const value of numbers) yield setting(window, () => value);
    for (const value of numbers)
      if (window.size > 1) yield setting(window, () => swapped(value, window.size));
  }
}

interface Window {
  readonly arg: number;
  readonly at: number;
  readonly size: number;
}

/** The words of 8, 4, 2 and 1 bytes that some bytes of the input make up, the longest first, and the parts of these. */
function windows(bytes: readonly Source[]): { words: Window[]; parts: Window[] } {
  const left = new Set(bytes.map(({ arg, byte }) => `${arg} ${byte}`));
  const words: Window[] = [];
  const placesOf = ({ arg, at, size }: Window) => Array.from({ length: size }, (_, i) => `${arg} ${at + i}`);
  for (const size of [8, 4, 2, 1]) {
    for (const { arg, byte } of bytes) {
      const window = { arg, at: byte, size };
      if (!placesOf(window).every((place) => left.has(place))) continue;
      words.push(window);
      for (const place of placesOf(window)) left.delete(place);
    }
  }
  return { words, parts: words.flatMap(partsOf) };
}

function partsOf({ arg, at, size }: Window): Window[] {
  if (size === 1) return [];
  const half = size / 2;
  const halves = [at, at + half].map((at) => ({ arg, at, size: half }));
  return [...halves, ...halves.flatMap(partsOf)];
}

const setting =
  ({ arg, at, size }: Window, change: (old: bigint) => bigint) =>
  (input: Uint8Array[]): void =>
    put(input[arg]!, at, size, change(get(input[arg]!, at, size)));

function get(bytes: Uint8Array, at: number, size: number): bigint {
  let value = 0n;
  for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[at + i] ?? 0);
  return value;
}

function put(bytes: Uint8Array, at: number, size: number, value: bigint): void {
  for (let i = 0; i < size; i++) bytes[at + i] = Number((value >> BigInt(8 * i)) & 0xffn);
}

function swapped(value: bigint, size: number): bigint {
  const bytes = new Uint8Array(size);
  put(bytes, 0, size, value);
  return get(bytes.reverse(), 0, size);
}

/** Bytes of a buffer beyond the least; short ones are the likeliest to be too short. */
const LENGTHS = [0, 0, 1, 7, 16, 60];
const MAX_MORE = 4096;
const PLAIN = [0, 0xff, 1];
const EDGES = [0, 1, 2, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 254, 255];
const EXTREMES = [1n << 31n, 1n << 32n, 1n << 63n, (1n << 63n) - 1n];

type Random = (below: number) => number;

const pick = <T>(from: readonly T[], random: Random): T => from[random(from.length)]!;

/** Marsaglia's xorshift of 32 bits. */
function generator(): Random {
  let state = 0x9e3779b9;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}
