// A name for the code of a format, as profilers show it.

import type { Field, Format } from './model.js';

/** What profilers make room for, about; a label that is longer is cut. */
const MAX_CHARACTERS = 120;
/** What `defineFormat` and `bkeyFormat` call a format that was given no name. */
const UNNAMED = ['record', 'bkey'];
const HEADER = ['u64s', 'needs_whiteout', 'type'];

/**
 * The fields of a format with their bits and what is added: `unpack[inode:42+0x1003,offset:29]`; for one that was given a name
 * `unpack_NAME[…]`. A bkey's header, the same for all, is left out, and so is what is always 0.
 */
export function formatLabel({ name, fields, keyU64s }: Format): string {
  const own = fields.filter((field) => keyU64s === undefined || !HEADER.includes(field.name));
  const text = own.map(fieldLabel).filter(Boolean).join(',');
  const title = UNNAMED.includes(name) ? 'unpack' : `unpack_${name}`;
  const label = `${title}[${text}]`;
  return label.length <= MAX_CHARACTERS ? label : `${label.slice(0, MAX_CHARACTERS - 4)}...]`;
}

function fieldLabel({ name, bits, offset }: Field): string {
  if (bits === 0) return offset === 0n ? '' : `${name}=0x${offset.toString(16)}`;
  return `${name}:${bits}${offset === 0n ? '' : signedHex(BigInt.asIntN(64, offset))}`;
}

const signedHex = (value: bigint): string =>
  value < 0n ? `-0x${(-value).toString(16)}` : `+0x${value.toString(16)}`;
