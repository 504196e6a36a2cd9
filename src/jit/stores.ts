// What is left of a program's stores at its end.

import { SIZES, type Size } from '../format/model.js';
import { isZero as isZeroHalves } from '../halves.js';
import {
  add,
  continues,
  isConstant,
  type LoadedSlice,
  type MaybeSum,
  type Sum,
  shiftLeft,
  shiftRight,
  truncate,
} from './slices.js';

/** A store, before it is known whether later ones cover it. */
export interface Store {
  readonly byte: number;
  readonly size: number;
  readonly value: Sum;
}

/** The sum modulo 2^(8 * size), if it is one. */
export function storable(value: MaybeSum, size: number): MaybeSum {
  const low = truncate(value, size * 8);
  return low && low.width >= low.skip + size * 8 ? low : undefined;
}

/** What is left of stores when each has overwritten those before it, in the order of bytes. */
export function lastOnes(stores: readonly Store[]): Store[] | undefined {
  if (areApart(stores)) return [...stores];
  const ordered = stores.toSorted((a, b) => a.byte - b.byte);
  return areApart(ordered) ? ordered : overlaid(stores);
}

/** Whether each begins where the one before has ended, or behind. */
function areApart(stores: readonly Store[]): boolean {
  for (let i = 1; i < stores.length; i++) if (endOf(stores[i - 1]!) > stores[i]!.byte) return false;
  return true;
}

const endOf = ({ byte, size }: Store): number => byte + size;

function overlaid(stores: readonly Store[]): Store[] | undefined {
  const last = new Map<number, Store>();
  for (const store of stores) {
    for (let byte = store.byte; byte < endOf(store); byte++) last.set(byte, store);
  }
  const left: Store[] = [];
  for (const store of new Set(last.values())) {
    for (let byte = store.byte; byte < endOf(store); ) {
      let end = byte;
      while (end < endOf(store) && last.get(end) === store) end++;
      const size = SIZES.findLast((candidate) => candidate <= end - byte);
      if (size) {
        const value = storable(shiftRight(store.value, (byte - store.byte) * 8), size);
        if (!value) return undefined;
        left.push({ byte, size, value });
      }
      byte += size ?? 1;
    }
  }
  return left.sort((a, b) => a.byte - b.byte);
}

/** Parts of a sum that were stored one after the other, as one; undefined if there is a part without those below. */
export function rejoined(stores: readonly Store[] | undefined): Store[] | undefined {
  if (!stores?.some(({ value }) => value.skip > 0)) return stores && [...stores];
  const whole: Store[] = [];
  for (let i = 0; i < stores.length; ) {
    let store: Store | undefined = stores[i++]!;
    for (let both = extended(store, stores[i]); both; both = extended(store, stores[++i])) store = both;
    // What cannot carry any further has zeros above.
    for (; !isSize(store.size) && stores[i]?.byte === endOf(store) && isZero(stores[i]!.value); i++)
      store = { ...store, size: store.size + stores[i]!.size };
    while (store && !isSize(store.size)) store = concatenated(whole.pop(), store);
    if (!store || store.value.skip > 0 || store.size * 8 > store.value.width) return undefined;
    whole.push(store);
  }
  return whole;
}

const isSize = (size: number): boolean => SIZES.includes(size as Size);
const isZero = (value: Sum): boolean => isConstant(value) && isZeroHalves(value.plus);

/** A store together with the next one, if that is the rest of the same sum. */
function extended({ byte, size, value }: Store, next: Store | undefined): Store | undefined {
  const below = size * 8;
  if (next?.byte !== byte + size || next.value.skip < below || value.skip > 0) return undefined;
  const rest = shiftRight({ ...next.value, skip: 0 }, next.value.skip - below);
  if (rest?.skip !== 0 || !continues(rest, value)) return undefined;
  return { byte, size: size + next.size, value: rest };
}

/** Two neighbours as one sum, where the lower one cannot carry. */
function concatenated(low: Store | undefined, high: Store): Store | undefined {
  if (!low || endOf(low) !== high.byte || low.value.width < 64 || low.value.signed) return undefined;
  const value = add(shiftLeft(high.value, low.size * 8), low.value, 64);
  return value && { byte: low.byte, size: low.size + high.size, value };
}

/** Whether one load's bit is used twice: code that loads it twice might see two values of it. */
export function loadsTwice(stores: readonly Store[], loads: number): boolean {
  const used = new Array<LoadedSlice[] | undefined>(loads).fill(undefined);
  for (const { value } of stores) {
    for (const slice of value.slices) {
      const others = used[slice.load];
      if (others?.some((other) => meet(slice, other))) return true;
      if (others) others.push(slice);
      else used[slice.load] = [slice];
    }
  }
  return false;
}

const meet = (a: LoadedSlice, b: LoadedSlice): boolean =>
  a.from < b.from + b.bits && b.from < a.from + a.bits;
