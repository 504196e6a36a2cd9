// How far a run is from going where it should: what a search for inputs makes smaller.

import { comparison } from '../bpf/alu.js';
import type { Instruction } from '../bpf/program.js';
import type { Sources } from './run.js';

/** What keeps a run from going on, and how its input might be changed. */
export interface Gap {
  readonly distance: bigint;
  /** The bytes of the input that can make a difference. */
  readonly from: Sources;
  /** Numbers that the run had, each with the one that it should have had. */
  readonly wishes: readonly (readonly [number: bigint, wish: bigint])[];
}

/**
 * Ways to look at a distance, of which one may lead on where another does not. Of numbers that should be equal: by value,
 * by bits, or from the lowest bit up; of an offset that should be outside of a region: behind it, or before it.
 */
export const METRICS = 3;

/** The gap of a conditional jump that should go the other way. */
export function branchGap(
  { row }: Instruction,
  { taken, a, b, from }: { taken: boolean; a: bigint; b: bigint; from: Sources },
  metric: number,
): Gap {
  const { op, bits } = row;
  const signed = op.startsWith('js') && op !== 'jset';
  const read = (x: bigint) => (signed ? BigInt.asIntN(bits, x) : BigInt.asUintN(bits, x));
  const [x, y] = [read(a), read(b)];
  const wished = (number: bigint, other: bigint, first: boolean) => {
    const extremes = [0n, 1n << BigInt(bits - 1), (1n << BigInt(bits - 1)) - 1n, (1n << BigInt(bits)) - 1n];
    return [other, other + 1n, other - 1n, other ^ 1n, number & ~other, number | other, ...extremes]
      .map((wish) => BigInt.asUintN(bits, wish))
      .filter((wish) => (first ? comparison(op, bits, wish, b) : comparison(op, bits, a, wish)) !== taken)
      .map((wish) => [BigInt.asUintN(bits, number), wish] as const);
  };
  return {
    distance: distanceOf(op, taken, x, y, metric),
    from,
    wishes: [...wished(a, b, true), ...wished(b, a, false)],
  };
}

function distanceOf(op: string, taken: boolean, x: bigint, y: bigint, metric: number): bigint {
  if (op === 'jset') return taken ? bitsSet(x & y) : 1n;
  const equal = (op === 'jeq' && !taken) || (op === 'jne' && taken);
  if (!equal) return absolute(x - y) + 1n;
  if (metric === 1) return bitsSet(x ^ y);
  return metric === 2 ? 64n - trailingZeros(x ^ y) : absolute(x - y);
}

export const absolute = (x: bigint): bigint => (x < 0n ? -x : x);

function bitsSet(x: bigint): bigint {
  let count = 0n;
  for (let rest = x; rest; rest &= rest - 1n) count++;
  return count;
}

function trailingZeros(x: bigint): bigint {
  return x === 0n ? 64n : BigInt((x & -x).toString(2).length - 1);
}
