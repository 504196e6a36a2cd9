// Many formats, no two alike, whose code has the sizes that code of real formats has.

import { bkeyFormat, FormatError } from '../../dist/index.js';
import { randomFormat, realFormats } from '../work.mjs';

/** Fields of a bkey that are the same in all formats come first. */
const HEADER_FIELDS = 3;

/** @returns { formats, origin }: `count` formats, and what they are in words */
export function population(count, random) {
  const real = realFormats();
  const make =
    real.length > 0
      ? () => withOtherOffsets(real[random(real.length)], random)
      : () => randomFormat(random, random(2) === 0);
  const found = new Map();
  while (found.size < count) {
    const format = make();
    if (format) found.set(keyOf(format), format);
  }
  const origin =
    real.length > 0
      ? `${real.length} formats of real btree nodes, with other values in their offsets`
      : 'random key formats: those of real nodes are not here';
  return { formats: [...found.values()], origin };
}

const packedFields = ({ fields }) => fields.slice(HEADER_FIELDS);
const keyOf = ({ keyU64s, fields }) =>
  [keyU64s, ...fields.flatMap(({ bits, offset }) => [bits, offset])].join();

/** A format of the same widths; offsets keep their number of bits, so that the code keeps its size. Undefined where it is not legal. */
function withOtherOffsets(format, random) {
  const fields = packedFields(format);
  try {
    return bkeyFormat({
      keyU64s: format.keyU64s,
      bitsPerField: fields.map(({ bits }) => bits),
      fieldOffset: fields.map(({ offset }) => (offset === 0n ? 0n : sameLength(offset, random))),
    });
  } catch (error) {
    if (error instanceof FormatError) return undefined;
    throw error;
  }
}

function sameLength(offset, random) {
  const top = 1n << BigInt(offset.toString(2).length - 1);
  const any = (BigInt(random(2 ** 31)) << 62n) | (BigInt(random(2 ** 31)) << 31n) | BigInt(random(2 ** 31));
  return top | (any & (top - 1n));
}
