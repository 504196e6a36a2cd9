import type { Target } from '../target.js';
import { callTrampoline } from './abi.js';
import { TRAP } from './assemble.js';
import { cpuProbe, tierOf } from './cpu.js';
import { unmapAtExit } from './exit.js';
import { decode } from './listing.js';
import { fixedStrideLoop, keyStreamLoop } from './loops.js';
import { tableRecord, tableRun, tableStream, tableStride } from './table.js';

export const X64: Target = {
  isa: 'x64',
  trap: TRAP,
  decode,
  callTrampoline,
  fixedStrideLoop,
  keyStreamLoop,
  table: { run: tableRun, record: tableRecord, stride: tableStride, stream: tableStream },
  cpuProbe,
  unmapAtExit,
  tierOf,
};
