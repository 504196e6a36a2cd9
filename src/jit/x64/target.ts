import type { Target } from '../target.js';
import { callTrampoline } from './abi.js';
import { fixedStrideLoop, keyStreamLoop } from './loops.js';

export const X64: Target = {
  isa: 'x64',
  trap: 0xcc /* int3 */,
  callTrampoline,
  fixedStrideLoop,
  keyStreamLoop,
};
