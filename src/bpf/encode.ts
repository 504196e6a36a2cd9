import { ProgramError } from '../errors.js';
import { type Row, rowsOf } from './isa.js';
import {
  type Instruction,
  instruction,
  makeProgram,
  type Program,
  refuse,
  requireProgram,
  slotsOf,
} from './program.js';

const SLOT_BYTES = 8;

/**
 * The program as a stream of 8-byte little-endian slots. Its data is not there: the addresses of data are LD_IMM64 of the kind
 * "map value by index", with the number of the section and the offset, which `decodeProgram` refuses.
 * @throws ProgramError 'P-TYPE' for what is no program
 */
export function encodeProgram(program: Program): Uint8Array {
  requireProgram(program);
  const bytes = new Uint8Array(program.slots * SLOT_BYTES);
  const view = new DataView(bytes.buffer);
  program.instructions.forEach(({ row, dst, src, off, imm, value }, i) => {
    const at = program.slotOf(i) * SLOT_BYTES;
    view.setUint8(at, row.opcode);
    view.setUint8(at + 1, (src << 4) | dst);
    view.setInt16(at + 2, off, true);
    view.setInt32(at + 4, imm, true);
    if (slotsOf(row) === 2) view.setUint32(at + SLOT_BYTES + 4, Number(value >> 32n), true);
  });
  return bytes;
}

/**
 * Reads a program from a stream of 8-byte little-endian slots and refuses whatever is wrong with it without
 * knowing how it will be called: length, opcodes, reserved fields, registers, writes to r10, jump and call targets.
 * @throws ProgramError with the slot in `where.insn`: 'P-TYPE', 'P-LENGTH', 'P-EMPTY', 'P-OPCODE', 'P-RESERVED',
 *   'P-ATOMIC', 'P-LDDW', 'P-UNSUPPORTED', 'P-REGISTER', 'P-WRITE-R10', 'P-JUMP-RANGE' or 'P-JUMP-SPLIT'
 */
export function decodeProgram(bytes: Uint8Array): Program {
  if (!(bytes instanceof Uint8Array))
    throw new ProgramError('P-TYPE', 'a program is a Uint8Array of 8-byte slots');
  if (bytes.length % SLOT_BYTES !== 0) {
    const insn = Math.floor(bytes.length / SLOT_BYTES);
    throw new ProgramError(
      'P-LENGTH',
      `a program is a whole number of 8-byte slots, got ${bytes.length} bytes`,
      { insn },
    );
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const instructions: Instruction[] = [];
  for (let slot = 0; slot < bytes.length / SLOT_BYTES; slot += slotsOf(instructions.at(-1)!.row)) {
    instructions.push(decodeSlot(view, slot));
  }
  return makeProgram(instructions);
}

interface Fields {
  readonly dst: number;
  readonly src: number;
  readonly off: number;
  readonly imm: number;
}

function decodeSlot(view: DataView, slot: number): Instruction {
  const at = slot * SLOT_BYTES;
  const registers = view.getUint8(at + 1);
  const fields = {
    dst: registers & 15,
    src: registers >> 4,
    off: view.getInt16(at + 2, true),
    imm: view.getInt32(at + 4, true),
  };
  const row = chooseRow(view.getUint8(at), fields, slot);
  refuse(row, slot);
  if (slotsOf(row) === 1) return instruction(row, fields);
  return instruction(row, { ...fields, value: secondHalf(view, slot, fields.imm) });
}

const FIELDS = ['dst', 'src', 'off', 'imm'] as const;

function chooseRow(opcode: number, fields: Fields, slot: number): Row {
  const rows = rowsOf(opcode);
  const agrees = (row: Row) =>
    FIELDS.every((name) => typeof row[name] !== 'number' || row[name] === fields[name]);
  const found = rows.find(agrees);
  if (found) return found;
  if (rows.length === 0) {
    const hex = opcode.toString(16).padStart(2, '0');
    throw new ProgramError('P-OPCODE', `instruction ${slot}: 0x${hex} is no opcode`, { insn: slot });
  }
  throw wrongField(rows, fields, slot);
}

/** Blames the field whose correction would make some row agree; it lists what that field may be. */
function wrongField(rows: readonly Row[], fields: Fields, slot: number): ProgramError {
  const wrong = (row: Row) =>
    FIELDS.filter((name) => typeof row[name] === 'number' && row[name] !== fields[name]);
  const nearest = rows.reduce((best, row) => (wrong(row).length < wrong(best).length ? row : best));
  const name = wrong(nearest)[0]!;
  const allowed = [...new Set(rows.filter((row) => wrong(row)[0] === name).map((row) => row[name]))];
  const atomic = nearest.kind === 'atomic' && name === 'imm';
  const code = atomic ? 'P-ATOMIC' : 'P-RESERVED';
  const message = `instruction ${slot} (${nearest.name}): field ${name} is ${fields[name]}, must be ${allowed.join(' or ')}`;
  return new ProgramError(code, message, { insn: slot, field: name });
}

/** The second slot of an LD_IMM64: all zero but for the upper half of the immediate. */
function secondHalf(view: DataView, slot: number, low: number): bigint {
  const at = (slot + 1) * SLOT_BYTES;
  if (at + SLOT_BYTES > view.byteLength) {
    throw new ProgramError('P-LDDW', `instruction ${slot} (lddw): its second slot is missing`, {
      insn: slot,
    });
  }
  if (view.getUint32(at, true) !== 0) {
    const message = `instruction ${slot} (lddw): in its second slot all but the immediate must be zero`;
    throw new ProgramError('P-LDDW', message, { insn: slot });
  }
  return (BigInt(view.getUint32(at + 4, true)) << 32n) | BigInt(low >>> 0);
}
