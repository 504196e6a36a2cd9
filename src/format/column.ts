// A field of many records as one array: the bits of its destination, an element for each record.

import { type Destination, type Field, firstBit, type Size, sizeFor } from './model.js';

export interface ColumnSpec {
  readonly name: string;
  /** The bits of the unpacked record that are the value. */
  readonly to: Destination;
  /** Whether they are a number in two's complement. */
  readonly signed: boolean;
  /** Of an element: the fewest that hold the value. */
  readonly bytes: Size;
}

/** The same for columns that are the same bits of a record, and no others, whatever their names. */
export const columnKey = ({ to, signed }: ColumnSpec): number =>
  (firstBit(to) * 64 + to.bits - 1) * 2 + Number(signed);

export function columnOf({ name, to, signed }: Field): ColumnSpec {
  return { name, to, signed, bytes: sizeFor(to.bits) };
}
