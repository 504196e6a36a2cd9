import { FormatError } from '../errors.js';
import {
  type BitOrder,
  type Constant,
  type Destination,
  type Field,
  Format,
  firstBit,
  makeFormat,
  SIZES,
  type Size,
} from './model.js';

/** A destination as it is written: `bit` is 0 and `bits` the rest of the member unless they are given. */
export interface DestinationSpec {
  /** First byte of the member in the unpacked record. */
  readonly byte: number;
  /** Bytes of the member. */
  readonly size: Size;
  readonly bit?: number;
  readonly bits?: number;
}

export interface FieldSpec {
  readonly name: string;
  /** Width in the packed record, 0 to 64. */
  readonly bits: number;
  /** First bit in the packed record: the lowest for lsb0, the highest for msb0. */
  readonly at: number;
  /** Default: the format's. */
  readonly order?: BitOrder;
  /** Default: false. */
  readonly signed?: boolean;
  /** -2^63 … 2^64 - 1, taken modulo 2^64. Default: 0n. */
  readonly offset?: bigint;
  readonly to: DestinationSpec;
}

export interface FormatSpec {
  readonly name?: string;
  /** 0 … 32768. */
  readonly packedBytes: number;
  /** 0 … 32768. */
  readonly unpackedBytes: number;
  /** Default: 'lsb0'. */
  readonly order?: BitOrder;
  readonly fields: readonly FieldSpec[];
  readonly constants?: readonly { readonly value: bigint; readonly to: DestinationSpec }[];
}

// A lowered program addresses records by 16-bit signed displacements; larger records than these are not
// records but files.
export const MAX_RECORD_BYTES = 32768;

/**
 * Checks a description of a record format and returns the format.
 * @throws FormatError naming the field, with code 'bad_argument', 'source_range', 'destination_range',
 *   'overlap' or 'uncovered_byte'
 */
export function defineFormat(spec: FormatSpec): Format {
  if (typeof spec !== 'object' || spec === null) {
    throw new FormatError('bad_argument', 'a format is described by an object; see defineFormat');
  }
  const name = spec.name ?? 'record';
  if (typeof name !== 'string') throw new FormatError('bad_argument', "the format's name must be a string");
  const packedBytes = recordSize(spec.packedBytes, 'packedBytes');
  const unpackedBytes = recordSize(spec.unpackedBytes, 'unpackedBytes');
  const order = bitOrder(spec.order ?? 'lsb0', name);
  const fields = list(spec.fields, 'fields').map((field, i) =>
    checkField(field, i, order, packedBytes, unpackedBytes),
  );
  const constants = list(spec.constants ?? [], 'constants').map((constant, i) =>
    checkConstant(constant, i, unpackedBytes),
  );
  checkCoverage(fields, constants, unpackedBytes);
  return makeFormat(name, packedBytes, unpackedBytes, fields, constants);
}

/** Throws unless `format` is one that `defineFormat` or `bkeyFormat` returned. */
export function requireFormat(format: unknown): asserts format is Format {
  if (!Format.is(format)) {
    throw new FormatError(
      'bad_argument',
      'not a format: make one with defineFormat, bkeyFormat or bkeyFormatFromBytes',
    );
  }
}

function list<T>(value: readonly T[], what: string): readonly T[] {
  if (!Array.isArray(value)) throw new FormatError('bad_argument', `${what} must be an array`);
  return value;
}

function recordSize(bytes: number, what: string): number {
  if (!Number.isInteger(bytes) || bytes < 0 || bytes > MAX_RECORD_BYTES) {
    throw new FormatError(
      'bad_argument',
      `${what} must be a whole number of bytes from 0 to ${MAX_RECORD_BYTES}, got ${bytes}`,
    );
  }
  return bytes;
}

function bitOrder(order: BitOrder, of: string): BitOrder {
  if (order !== 'lsb0' && order !== 'msb0') {
    throw new FormatError(
      'bad_argument',
      `${of}: order must be 'lsb0' or 'msb0', got ${JSON.stringify(order)}`,
    );
  }
  return order;
}

function checkField(
  spec: FieldSpec,
  index: number,
  defaultOrder: BitOrder,
  packedBytes: number,
  unpackedBytes: number,
): Field {
  const name = spec?.name;
  if (typeof name !== 'string' || name === '') {
    throw new FormatError('bad_argument', `fields[${index}] needs a name`, { field: `fields[${index}]` });
  }
  const fail = (code: string, message: string) =>
    new FormatError(code, `field ${name}: ${message}`, { field: name });
  const { bits, at } = spec;
  if (!Number.isInteger(bits) || bits < 0 || bits > 64) {
    throw fail('bad_argument', `bits must be a whole number from 0 to 64, got ${bits}`);
  }
  if (!Number.isInteger(at) || at < 0)
    throw fail('bad_argument', `at must be a bit number from 0, got ${at}`);
  if (at + bits > packedBytes * 8) {
    throw fail(
      'source_range',
      `bits ${at}..${at + bits} reach past the packed record, which ends at bit ${packedBytes * 8}`,
    );
  }
  const offset = spec.offset ?? 0n;
  if (typeof offset !== 'bigint' || offset < -(1n << 63n) || offset >= 1n << 64n) {
    throw fail('bad_argument', `offset must be a bigint from -2^63 to 2^64 - 1, got ${offset}`);
  }
  const signed = spec.signed ?? false;
  if (typeof signed !== 'boolean') throw fail('bad_argument', `signed must be true or false, got ${signed}`);
  const order = bitOrder(spec.order ?? defaultOrder, `field ${name}`);
  const to = checkDestination(spec.to, unpackedBytes, fail);
  return { name, bits, at, order, signed, offset: BigInt.asUintN(64, offset), to };
}

function checkConstant(
  spec: { readonly value: bigint; readonly to: DestinationSpec },
  index: number,
  unpackedBytes: number,
): Constant {
  const where = `constants[${index}]`;
  const fail = (code: string, message: string) =>
    new FormatError(code, `${where}: ${message}`, { field: where });
  const to = checkDestination(spec?.to, unpackedBytes, fail);
  if (typeof spec.value !== 'bigint' || spec.value < 0n || spec.value >= 1n << BigInt(to.bits)) {
    throw fail('bad_argument', `value must be a bigint that fits ${to.bits} bits, got ${spec.value}`);
  }
  return { value: spec.value, to };
}

function checkDestination(
  spec: DestinationSpec,
  unpackedBytes: number,
  fail: (code: string, message: string) => FormatError,
): Destination {
  if (typeof spec !== 'object' || spec === null)
    throw fail('bad_argument', 'needs a destination, { byte, size }');
  const { byte, size } = spec;
  if (!SIZES.includes(size)) throw fail('bad_argument', `to.size must be 1, 2, 4 or 8 bytes, got ${size}`);
  if (!Number.isInteger(byte) || byte < 0)
    throw fail('bad_argument', `to.byte must be a byte number from 0, got ${byte}`);
  if (byte + size > unpackedBytes) {
    throw fail(
      'destination_range',
      `bytes ${byte}..${byte + size} reach past the unpacked record of ${unpackedBytes} bytes`,
    );
  }
  const bit = spec.bit ?? 0;
  if (!Number.isInteger(bit) || bit < 0 || bit >= size * 8) {
    throw fail('bad_argument', `to.bit must be a bit of the member, 0 to ${size * 8 - 1}, got ${bit}`);
  }
  const bits = spec.bits ?? size * 8 - bit;
  if (!Number.isInteger(bits) || bits < 1 || bit + bits > size * 8) {
    throw fail(
      'bad_argument',
      `to.bits must be 1 to ${size * 8 - bit} bits of the member from bit ${bit}, got ${bits}`,
    );
  }
  return { byte, size, bit, bits };
}

/** Every bit is written at most once, and every byte has some bit that is; the other bits of a byte are 0. */
function checkCoverage(
  fields: readonly Field[],
  constants: readonly Constant[],
  unpackedBytes: number,
): void {
  const writers = [
    ...fields.map((field) => ({ name: `field ${field.name}`, to: field.to })),
    ...constants.map((constant, i) => ({ name: `constants[${i}]`, to: constant.to })),
  ];
  const owner = new Int32Array(unpackedBytes * 8).fill(-1);
  writers.forEach(({ name, to }, index) => {
    const start = firstBit(to);
    for (let bit = start; bit < start + to.bits; bit++) {
      if (owner[bit] !== -1) {
        const other = writers[owner[bit]!]!.name;
        throw new FormatError(
          'overlap',
          `${name} and ${other} both write bit ${bit % 8} of byte ${bit >> 3}`,
          {
            field: name,
            byte: bit >> 3,
          },
        );
      }
      owner[bit] = index;
    }
  });
  for (let byte = 0; byte < unpackedBytes; byte++) {
    if (owner.subarray(byte * 8, byte * 8 + 8).every((writer) => writer === -1)) {
      throw new FormatError(
        'uncovered_byte',
        `byte ${byte} of the unpacked record is written by no field and no constant; add a constant 0 for padding`,
        { byte },
      );
    }
  }
}
