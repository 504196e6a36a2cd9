// A format as C, the way a person would write it who knows the format when compiling: a load, a shift, a mask and an addition
// for each field. The header of a key is one load and one store.

import { planOf, steps } from './plan.mjs';

const HEADER_BYTES = 4;

export const PRELUDE = `#include <stdint.h>
#include <string.h>
typedef uint8_t u8; typedef uint16_t u16; typedef uint32_t u32; typedef uint64_t u64; typedef int64_t s64;
#define LOAD(type) static inline type load_##type(const u8 *p) { type v; memcpy(&v, p, sizeof v); return v; }
#define STORE(type) static inline void store_##type(u8 *p, type v) { memcpy(p, &v, sizeof v); }
LOAD(u8) LOAD(u16) LOAD(u32) LOAD(u64) STORE(u8) STORE(u16) STORE(u32) STORE(u64)
#define swap_u8(v) (v)
#define swap_u16 __builtin_bswap16
#define swap_u32 __builtin_bswap32
#define swap_u64 __builtin_bswap64
`;

const typeOf = (size) => `u${size * 8}`;
const hex = (value) => `0x${value.toString(16)}ull`;
const mask = (bits) => hex((1n << BigInt(bits)) - 1n);

/** The functions unpack_NAME (one record), stride_NAME (many) and, for keys, stream_NAME. */
export function cText(format, name) {
  const { packedBytes, unpackedBytes, keyU64s } = format;
  const loop = (kind, next) =>
    `void ${kind}_${name}(u8 *restrict d, const u8 *restrict s, u64 count) {
  for (u64 i = 0; i < count; i++) { body_${name}(d, s); d += ${unpackedBytes}; s += ${next}; }
}
`;
  return `static inline __attribute__((always_inline)) void body_${name}(u8 *restrict d, const u8 *restrict s) {
${bodyOf(format).join('\n')}
}
void unpack_${name}(u8 *restrict d, const u8 *restrict s) { body_${name}(d, s); }
${loop('stride', packedBytes)}${keyU64s === undefined ? '' : loop('stream', '8 * s[0]')}`;
}

function bodyOf(format) {
  const { fields, units } = planOf(format);
  const lines = [];
  if (format.keyU64s !== undefined) {
    const growth = (5 - format.keyU64s) & 0xff;
    lines.push(`  u32 h = load_u32(s); store_u32(d, ((h + ${growth}) & 0xff) | 0x100 | (h & 0xff8000));`);
  }
  for (const unit of units) {
    if (format.keyU64s !== undefined && unit.byte < HEADER_BYTES) continue;
    const value = unit.parts.map((part) => partText(part, unit, fields)).join(' | ');
    lines.push(`  { u64 v = ${value};`);
    for (const { byte, size } of steps(unit.bytes))
      lines.push(`    store_${typeOf(size)}(d + ${unit.byte + byte}, v >> ${byte * 8});`);
    lines.push('  }');
  }
  return lines;
}

function partText({ field, value, at, bits }, unit, fields) {
  const shift = at - unit.byte * 8;
  const text = field ? fieldText(field, fields.get(field)) : hex(value);
  const cut = bits === 64 || unit.parts.length === 1 ? text : `(${text} & ${mask(bits)})`;
  return shift === 0 ? cut : `(${cut} << ${shift})`;
}

function fieldText({ bits, signed, offset }, pieces) {
  const raw = pieces.length === 0 ? '0ull' : pieces.map(pieceText).join(' | ');
  const whole =
    bits === 0 || bits === 64 || !signed
      ? `(${raw})`
      : `(u64)((s64)((${raw}) << ${64 - bits}) >> ${64 - bits})`;
  return offset === 0n ? whole : `(${whole} + ${hex(offset)})`;
}

function pieceText({ byte, size, order, shift, bits, at }) {
  const load = `load_${typeOf(size)}(s + ${byte})`;
  const number = `(u64)${order === 'lsb0' ? load : `swap_${typeOf(size)}(${load})`}`;
  const shifted = shift === 0 ? number : `(${number} >> ${shift})`;
  const cut = shift + bits === size * 8 ? shifted : `(${shifted} & ${mask(bits)})`;
  return at === 0 ? cut : `(${cut} << ${at})`;
}
