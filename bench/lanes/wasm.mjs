// A format as a WebAssembly module, bytes and all: 64-bit loads, shifts and masks. Records lie in the module's own memory.

import { NotWritten, planOf, steps } from './plan.mjs';

const I32 = 0x7f;
const I64 = 0x7e;
const LOAD = { 1: 0x31, 2: 0x33, 4: 0x35, 8: 0x29 };
const STORE = { 1: 0x3c, 2: 0x3d, 4: 0x3e, 8: 0x37 };
const AND = 0x83;
const OR = 0x84;
const ADD = 0x7c;
const SHL = 0x86;
const SHR_S = 0x87;
const SHR_U = 0x88;
const PAGE_BYTES = 65536;

function unsigned(value) {
  const bytes = [];
  do {
    bytes.push(value > 127 ? (value & 127) | 128 : value);
    value = Math.floor(value / 128);
  } while (value > 0);
  return bytes;
}

function signed(value) {
  const bytes = [];
  for (let rest = BigInt.asIntN(64, value); ; rest >>= 7n) {
    const low = Number(rest & 127n);
    const last = rest >> 6n === 0n || rest >> 6n === -1n;
    bytes.push(last ? low : low | 128);
    if (last) return bytes;
  }
}

const constant = (value) => [0x42, ...signed(value)];
const get = (local) => [0x20, local];
const set = (local) => [0x21, local];
const number = (value) => [0x41, ...signed(BigInt(value))];
const shifted = (opcode, by) => (by === 0 ? [] : [...constant(BigInt(by)), opcode]);
const masked = (bits) => (bits === 64 ? [] : [...constant((1n << BigInt(bits)) - 1n), AND]);

/** Locals of all functions: source, destination, count, value. */
const [SRC, DST, COUNT, VALUE] = [0, 1, 2, 3];

function bodyOf(format) {
  const { fields, units } = planOf(format);
  return units.flatMap((unit) => {
    const value = unit.parts.flatMap((part, i) => [...partOf(part, unit, fields), ...(i > 0 ? [OR] : [])]);
    const stores = steps(unit.bytes).flatMap(({ byte, size }) => [
      ...get(DST),
      ...get(VALUE),
      ...shifted(SHR_U, byte * 8),
      STORE[size],
      0,
      ...unsigned(unit.byte + byte),
    ]);
    return [...value, ...set(VALUE), ...stores];
  });
}

function partOf({ field, value, at, bits }, unit, fields) {
  const shift = at - unit.byte * 8;
  if (!field) return constant(value << BigInt(shift));
  const whole = unit.parts.length === 1;
  return [...fieldOf(field, fields.get(field)), ...(whole ? [] : masked(bits)), ...shifted(SHL, shift)];
}

function fieldOf({ bits, signed, offset }, pieces) {
  const raw = pieces.flatMap(({ byte, size, order, shift, bits, at }, i) => {
    if (order !== 'lsb0' && size > 1) throw new NotWritten('WebAssembly has no byte swap');
    const cut = shift + bits === size * 8 ? [] : masked(bits);
    const load = [...get(SRC), LOAD[size], 0, ...unsigned(byte)];
    return [...load, ...shifted(SHR_U, shift), ...cut, ...shifted(SHL, at), ...(i > 0 ? [OR] : [])];
  });
  const value = raw.length === 0 ? constant(0n) : raw;
  const extended = signed && bits > 0 ? [...shifted(SHL, 64 - bits), ...shifted(SHR_S, 64 - bits)] : [];
  return [...value, ...extended, ...(offset === 0n ? [] : [...constant(offset), ADD])];
}

/** `next`: instructions that leave the distance to the next record. */
function loopOf(body, next, unpackedBytes) {
  const advance = (local, by) => [...get(local), ...by, 0x6a, ...set(local)];
  const inside = [
    ...body,
    ...advance(SRC, next),
    ...advance(DST, number(unpackedBytes)),
    ...get(COUNT),
    ...number(1),
    0x6b,
    0x22,
    COUNT,
    0x0d,
    0,
  ];
  return [0x03, 0x40, ...inside, 0x0b];
}

const vector = (items) => [...unsigned(items.length), ...items.flat()];
const section = (id, bytes) => [id, ...unsigned(bytes.length), ...bytes];
const text = (string) => vector([...Buffer.from(string)].map((byte) => [byte]));

/** The module's bytes: memory "m", and (src, dst, count) functions one, many and, for keys, stream. */
export function wasmBytes(format) {
  const { packedBytes, unpackedBytes, keyU64s } = format;
  const body = bodyOf(format);
  const header = [...get(SRC), 0x2d, 0, 0, ...number(3), 0x74];
  const codes = { one: body, many: loopOf(body, number(packedBytes), unpackedBytes) };
  if (keyU64s !== undefined) codes.stream = loopOf(body, header, unpackedBytes);
  const names = Object.keys(codes);
  const functions = Object.values(codes).map((code) => {
    const bytes = [1, 1, I64, ...code, 0x0b];
    return [...unsigned(bytes.length), ...bytes];
  });
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
    ...section(1, vector([[0x60, 3, I32, I32, I32, 0]])),
    ...section(3, vector(names.map(() => [0]))),
    ...section(5, vector([[0, 0]])),
    ...section(7, vector([[...text('m'), 2, 0], ...names.map((name, i) => [...text(name), 0, i])])),
    ...section(10, vector(functions)),
  ]);
}

/** The module made ready: its functions, and memory of at least `bytes` bytes. */
export function wasmOf(format, bytes) {
  const module = new WebAssembly.Module(wasmBytes(format));
  const { m, ...functions } = new WebAssembly.Instance(module).exports;
  m.grow(Math.ceil(bytes / PAGE_BYTES));
  return { ...functions, memory: new Uint8Array(m.buffer) };
}
