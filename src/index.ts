// The public surface.

export type { Arg, GivenArg } from './bpf/arguments.js';
export { assemble } from './bpf/assemble.js';
export { type Access, type ArgSpec, type Contract, contractFor, type HelperSpec } from './bpf/contract.js';
export { contractText } from './bpf/contract-text.js';
export type { DataSection } from './bpf/data.js';
export { type DisassembleOptions, disassemble } from './bpf/disassemble.js';
export { decodeProgram, encodeProgram } from './bpf/encode.js';
export type { Helper, HelperFunction, Helpers } from './bpf/helper.js';
export { type InterpretOptions, type InterpretResult, interpret } from './bpf/interpret.js';
export type { Dialect } from './bpf/isa.js';
export { type LowerOptions, lower } from './bpf/lower.js';
export type { Instruction, Program } from './bpf/program.js';
export { readProgram } from './bpf/read.js';
export type { Column, ColumnOptions } from './columns.js';
export { compileFormat, createUnpacker, type UnpackerOptions } from './compile.js';
export { type ElfData, type ElfFunction, type ElfObject, readElf } from './elf/object.js';
export { type WriteElfOptions, writeElf } from './elf/write.js';
export {
  ArgumentError,
  BpfUnpackError,
  type Counterexample,
  ElfError,
  EngineError,
  ExecutionError,
  FormatError,
  ImageError,
  ProgramError,
  VerifierError,
  type VerifierReport,
  type Where,
} from './errors.js';
export { CodeArena, type PlaceOptions, type Routine } from './exec/arena.js';
export type { ArenaChunk, ArenaExtent, ArenaOptions, ArenaStats } from './exec/arena-options.js';
export { type AttachedArena, type AttachedRoutine, attachArena } from './exec/attach.js';
export { auditMemory, type Mapping, type MemoryAudit, type MemoryFinding } from './exec/maps.js';
export type { ArenaHandle } from './exec/shared-table.js';
export type { ShareOptions } from './exec/sharing.js';
export {
  BKEY_BYTES,
  BKEY_FORMAT_BYTES,
  type BkeyFormatSpec,
  bkeyFormat,
  bkeyFormatFromBytes,
  bkeyU64s,
  FORMAT_CURRENT,
} from './format/bkey.js';
export { type DestinationSpec, defineFormat, type FieldSpec, type FormatSpec } from './format/define.js';
export type { BitOrder, Constant, Destination, Field, Format } from './format/model.js';
export { referencePack, referenceUnpack } from './format/reference.js';
export { type MachineCode, type Relocation, TIERS, type Tier } from './jit/target.js';
export { type ListingLine, listing } from './jit/x64/listing.js';
export { type CompileOptions, compileX64 } from './jit/x64/lower.js';
export { KernelMemory, type KernelOptions, type KernelProgram } from './kernel/kernel.js';
export { type KernelVerdict, type KernelVerdictOptions, kernelVerdict } from './kernel/verdict.js';
export { type EmitOptions, emitNative } from './native/emit.js';
export {
  ENGINES,
  type EngineName,
  type StreamOptions,
  type StreamResult,
  type Unpacker,
} from './unpacker.js';
export type { LoopFact } from './verifier/fixpoint.js';
export {
  type AccessFact,
  factText,
  type InstructionFacts,
  type MemoryFact,
  type RegisterFact,
} from './verifier/invariants.js';
export { type VerifierLogOptions, verifierLog } from './verifier/kernel-log.js';
export type { VerifiedProgram } from './verifier/verified.js';
export { type VerifyOptions, verify } from './verifier/verify.js';
