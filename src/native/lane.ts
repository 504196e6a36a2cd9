// Units whose bits lie in the packed record as they lie in the unpacked one, at a distance of whole bytes: one load,
// one mask and one store serve them all. The header of a bkey is one: u64s, needs_whiteout and type.

import { MAX_U64 } from '../bytes.js';
import { type BitOrder, SIZES, type Size } from '../format/model.js';
import type { Part, Unit } from './plan.js';

export interface Lane extends Unit {
  readonly bytes: Size;
  readonly order: BitOrder;
  /** First byte of the packed number that is loaded. */
  readonly from: number;
}

/** Joins neighbouring units that make a lane of 4 or 2 bytes, or one whole copy of 8; the others stay as they are. */
export function joined(units: readonly Unit[], packedBytes: number): (Unit | Lane)[] {
  const result: (Unit | Lane)[] = [];
  for (let i = 0; i < units.length; ) {
    const unit = widestLane(units, i, packedBytes) ?? units[i]!;
    result.push(unit);
    while (i < units.length && units[i]!.byte < unit.byte + unit.bytes) i++;
  }
  return result;
}

export const isLane = (unit: Unit | Lane): unit is Lane => 'order' in unit;

function widestLane(units: readonly Unit[], first: number, packedBytes: number): Lane | undefined {
  for (let i = SIZES.length - 1; i > 0; i--) {
    const lane = laneOf(units, first, SIZES[i]!, packedBytes);
    if (lane) return lane;
  }
  return undefined;
}

function laneOf(units: readonly Unit[], first: number, bytes: Size, packedBytes: number): Lane | undefined {
  const { byte } = units[first]!;
  let last = first;
  while (last + 1 < units.length && units[last + 1]!.byte < byte + bytes) last++;
  const end = units[last]!.byte + units[last]!.bytes;
  if (last === first || end !== byte + bytes) return undefined;
  const parts = units.slice(first, last + 1).flatMap((unit) => unit.parts);
  const moved = parts.filter((part) => part.kind !== 'constant');
  const [leader] = moved;
  if (!leader || moved.length < 2) return undefined;
  const distance = leader.from - leader.at;
  const alike = moved.every(
    (part) => part.order === leader.order && part.from - part.at === distance && fitsLane(part, byte, bytes),
  );
  const from = byte + distance / 8;
  const inside = Number.isInteger(from) && from >= 0 && from + bytes <= packedBytes;
  if (!alike || !inside || (bytes === 8 && maskOf(moved, byte) !== MAX_U64)) return undefined;
  return { byte, bytes, parts, order: leader.order, from };
}

/** A copy always; a sum if it is the lowest byte, to which an addition of 8 bits carries nothing out. */
function fitsLane(part: Exclude<Part, { kind: 'constant' }>, byte: number, bytes: number): boolean {
  if (part.kind === 'copy') return true;
  const lowest = part.at === byte * 8 && part.sumWidth === 8 && part.width === 8 && part.bits === 8;
  return lowest && bytes < 8;
}

/** The bits of the unit that come from the packed record. */
export function maskOf(parts: readonly Part[], byte: number): bigint {
  return parts.reduce(
    (mask, part) =>
      part.kind === 'constant'
        ? mask
        : mask | (BigInt.asUintN(part.bits, MAX_U64) << BigInt(part.at - byte * 8)),
    0n,
  );
}
