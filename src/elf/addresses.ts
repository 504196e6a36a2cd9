// Where addresses stand in data: tables of strings, jump tables, pointers to variables. Relocations would fill them in.

import { SECTION_TYPE, type Section, viewOf } from './sections.js';
import { type ElfSymbol, entryBytesOf, SYMBOL_TYPE } from './symbols.js';

/** Variables that lie side by side; those that share bytes are one. */
interface Extent {
  readonly start: number;
  end: number;
  hasAddress: boolean;
}

/** The addresses in a section of data. */
export interface Addresses {
  /** The section's relocations. */
  readonly table: Section;
  /** The section's variables, in the order of their places. */
  readonly extents: readonly Extent[];
  /** Whether some address is in no variable that has a name: then it may be anybody's. */
  readonly anywhere: boolean;
}

/** @returns by the index of the section that the addresses are in */
export function readAddresses(
  sections: readonly Section[],
  symbols: readonly ElfSymbol[],
): Map<number, Addresses> {
  const tables = sections.filter(
    ({ type, bytes }) => (type === SECTION_TYPE.rel || type === SECTION_TYPE.rela) && bytes.length > 0,
  );
  const variables = new Map<number, ElfSymbol[]>(tables.map(({ info }) => [info, []]));
  for (const symbol of symbols)
    if (symbol.type === SYMBOL_TYPE.object && symbol.section)
      variables.get(symbol.section.index)?.push(symbol);
  const found = new Map<number, Addresses>();
  for (const table of tables) {
    const before = found.get(table.info);
    const extents = before?.extents ?? extentsOf(variables.get(table.info)!);
    const anywhere = markAddresses(table, extents) || before?.anywhere === true;
    found.set(table.info, { table, extents, anywhere });
  }
  return found;
}

function extentsOf(variables: readonly ElfSymbol[]): Extent[] {
  const extents: Extent[] = [];
  for (const { value, size } of [...variables].sort((a, b) => a.value - b.value)) {
    const last = extents.at(-1);
    if (last && value < last.end) last.end = Math.max(last.end, value + size);
    else extents.push({ start: value, end: value + size, hasAddress: false });
  }
  return extents;
}

/** Whether some address is in no extent. */
function markAddresses(table: Section, extents: readonly Extent[]): boolean {
  const view = viewOf(table.bytes);
  const entryBytes = entryBytesOf(table);
  let anywhere = false;
  for (let at = 0; at + 8 <= table.bytes.length; at += entryBytes) {
    const extent = extentAt(extents, Number(view.getBigUint64(at, true)));
    if (extent) extent.hasAddress = true;
    else anywhere = true;
  }
  return anywhere;
}

/** The extent that a byte is in, by bisection. */
function extentAt(extents: readonly Extent[], offset: number): Extent | undefined {
  let low = 0;
  let high = extents.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (extents[middle]!.end > offset) high = middle;
    else low = middle + 1;
  }
  const found = extents[low];
  return found && found.start <= offset ? found : undefined;
}

/** Whether addresses may stand in what is at an offset. */
export const standAt = ({ extents, anywhere }: Addresses, offset: number): boolean =>
  anywhere || extentAt(extents, offset)?.hasAddress === true;
