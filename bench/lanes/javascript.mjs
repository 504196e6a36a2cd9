// A format as JavaScript, the way somebody writes it who makes functions of text: 32-bit halves, the fastest form, and BigInt.

import { NotWritten, planOf, steps } from './plan.mjs';

const WORD_BITS = 32;
const mask = (bits) => (bits >= WORD_BITS ? -1 : 2 ** bits - 1);
const and = (text, bits) => (bits >= WORD_BITS ? text : `((${text}) & ${mask(bits)})`);

/**
 * Halves: (packed, at, out, to) of Int32Arrays and indexes in them.
 * @returns { one, many, stream } where many(packed, count, out) and stream(keys, count, out) have the record's code inside
 */
export function halvesOf(format) {
  const { packedBytes, unpackedBytes, keyU64s } = format;
  if (packedBytes % 4 || unpackedBytes % 4) throw new NotWritten('records that are not whole 32-bit words');
  const body = halvesBody(format);
  return {
    one: new Function('s', 'i', 'd', 'o', body),
    many: new Function('s', 'count', 'd', loopText(body, unpackedBytes / 4, packedBytes / 4)),
    stream:
      keyU64s === undefined
        ? undefined
        : new Function('s', 'count', 'd', loopText(body, unpackedBytes / 4, '2 * (s[i] & 255)')),
  };
}

/** BigInt: the same on a DataView, and offsets in bytes. */
export function bigintOf(format) {
  const { packedBytes, unpackedBytes, keyU64s } = format;
  const body = bigintBody(format);
  return {
    one: new Function('s', 'i', 'd', 'o', body),
    many: new Function('s', 'count', 'd', loopText(body, unpackedBytes, packedBytes)),
    stream:
      keyU64s === undefined
        ? undefined
        : new Function('s', 'count', 'd', loopText(body, unpackedBytes, '8 * s.getUint8(i)')),
  };
}

const loopText = (body, out, next) =>
  `for (let n = 0, i = 0, o = 0; n < count; n++, o += ${out}) { const next = i + ${next}; ${body} i = next; }`;

function halvesBody(format) {
  const words = Array.from({ length: format.unpackedBytes / 4 }, () => []);
  const lines = [];
  const put = (text, first, bits) => {
    const [word, shift] = [first >> 5, first & 31];
    words[word].push(shift === 0 ? text : `(${text} << ${shift})`);
    if (shift + bits > WORD_BITS) words[word + 1].push(`(${text} >>> ${WORD_BITS - shift})`);
  };
  for (const { value, to } of format.constants) {
    const first = to.byte * 8 + to.bit;
    put(String(Number(BigInt.asIntN(32, value))), first, Math.min(to.bits, 32));
    if (to.bits > 32) put(String(Number(BigInt.asIntN(32, value >> 32n))), first + 32, to.bits - 32);
  }
  format.fields.forEach((field, n) => {
    if (field.order !== 'lsb0') throw new NotWritten('bits counted from the top');
    if (field.signed && (field.bits > 32 || field.to.bits > 32)) throw new NotWritten('wide signed fields');
    lines.push(halvesOfField(field, n));
    const first = field.to.byte * 8 + field.to.bit;
    put(and(`l${n}`, field.to.bits), first, Math.min(field.to.bits, 32));
    if (field.to.bits > 32) put(and(`h${n}`, field.to.bits - 32), first + 32, field.to.bits - 32);
  });
  const stores = words.map((parts, i) => `d[o + ${i}] = ${parts.length ? parts.join(' | ') : 0};`);
  return [...lines, ...stores].join('\n');
}

/** Both halves of a field's value, l and h. */
function halvesOfField({ bits, at, signed, offset, to }, n) {
  const low = Number(BigInt.asIntN(32, offset));
  const high = Number(BigInt.asIntN(32, offset >> 32n));
  const raw = wordBits(at, Math.min(bits, 32));
  const extended = signed && bits > 0 && bits < 32 ? `((${raw}) << ${32 - bits} >> ${32 - bits})` : raw;
  const sum = low === 0 ? `const l${n} = ${extended};` : `const l${n} = ((${extended}) + ${low}) | 0;`;
  if (to.bits <= 32) return sum;
  const rawHigh = bits > 32 ? wordBits(at + 32, bits - 32) : '0';
  const overflows = low !== 0 && (bits >= 32 || (low >>> 0) + 2 ** bits > 2 ** 32);
  const carry = overflows ? ` + ((l${n} >>> 0) < ${low >>> 0} ? 1 : 0)` : '';
  return `${sum} const h${n} = ((${rawHigh}) + ${high}${carry}) | 0;`;
}

function wordBits(at, bits) {
  if (bits === 0) return '0';
  const [word, shift] = [at >> 5, at & 31];
  const low = shift === 0 ? `s[i + ${word}]` : `(s[i + ${word}] >>> ${shift})`;
  if (shift + bits <= WORD_BITS) return shift + bits === WORD_BITS ? low : and(low, bits);
  return and(`${low} | (s[i + ${word + 1}] << ${WORD_BITS - shift})`, bits);
}

const big = (bytes) => (bytes === 8 ? 'BigUint64' : `Uint${bytes * 8}`);

function bigintBody(format) {
  const { fields, units } = planOf(format);
  return units
    .map((unit) => {
      const value = unit.parts.map((part) => bigintPart(part, unit, fields)).join(' | ');
      const stores = steps(unit.bytes).map(({ byte, size }) => {
        const part = byte === 0 ? 'v' : `(v >> ${byte * 8}n)`;
        const cut = size === 8 ? part : `Number(BigInt.asUintN(${size * 8}, ${part}))`;
        return `d.set${big(size)}(o + ${unit.byte + byte}, ${cut}, true);`;
      });
      return `{ const v = ${value}; ${stores.join(' ')} }`;
    })
    .join('\n');
}

function bigintPart({ field, value, at, bits }, unit, fields) {
  const shift = at - unit.byte * 8;
  if (!field) return `${value << BigInt(shift)}n`;
  const pieces = fields.get(field).map(({ byte, size, order, shift, bits, at }) => {
    const load = `s.get${big(size)}(i + ${byte}, ${order === 'lsb0'})`;
    const number = size === 8 ? load : `BigInt(${load})`;
    const cut = `BigInt.asUintN(${bits}, ${shift === 0 ? number : `${number} >> ${shift}n`})`;
    return at === 0 ? cut : `(${cut} << ${at}n)`;
  });
  const raw = pieces.length === 0 ? '0n' : pieces.join(' | ');
  const extended = field.signed ? `BigInt.asIntN(${field.bits}, ${raw})` : `(${raw})`;
  const cut = `BigInt.asUintN(${bits}, ${extended} + ${field.offset}n)`;
  return shift === 0 ? cut : `(${cut} << ${shift}n)`;
}
