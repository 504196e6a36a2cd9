// A failing program made small: instructions are taken out, in runs and then one by one, and operands made plain, for as
// long as it still fails.

import {
  type Instruction,
  instruction,
  jumpDistance,
  makeProgram,
  type Program,
} from '../../src/bpf/program.js';
import { ProgramError } from '../../src/errors.js';

/** An instruction and the one its jump leads to. */
interface Node {
  readonly instruction: Instruction;
  readonly target: Node | undefined;
}

interface Failure {
  readonly program: Program;
  readonly memory: Uint8Array;
}

/** @param fails whether the failure is still there; called with programs of every kind, which it has to run safely */
export function minimise(failure: Failure, fails: (candidate: Failure) => boolean): Failure {
  let { program, memory } = failure;
  const accept = (candidate: Program | undefined): boolean => {
    if (!candidate || !fails({ program: candidate, memory })) return false;
    program = candidate;
    return true;
  };
  for (let run = program.instructions.length >> 1; run >= 1; run >>= 1) {
    for (let at = program.instructions.length - run; at >= 0; at--) accept(without(program, at, run));
  }
  for (let at = 0; at < program.instructions.length; at++) accept(plainer(program, at));
  for (let at = 0; at < memory.length; at++) {
    const candidate = memory.slice();
    candidate[at] = 0;
    if (memory[at] !== 0 && fails({ program, memory: candidate })) memory = candidate;
  }
  return { program, memory };
}

function without(program: Program, at: number, count: number): Program | undefined {
  const nodes: { instruction: Instruction; target: Node | undefined }[] = program.instructions.map(
    (each) => ({
      instruction: each,
      target: undefined,
    }),
  );
  nodes.forEach((node, i) => {
    node.target = nodes[program.targetOf(i)];
  });
  const next = nodes[at + count];
  const gone = new Set<Node>(nodes.splice(at, count));
  for (const node of nodes) if (node.target && gone.has(node.target)) node.target = next;
  return linked(nodes);
}

/** Puts distances to jumps again; undefined for what is no program. */
function linked(nodes: readonly Node[]): Program | undefined {
  const slots = new Map<Node, number>();
  let slot = 0;
  for (const node of nodes) {
    slots.set(node, slot);
    slot += node.instruction.row.kind === 'load_imm64' ? 2 : 1;
  }
  const instructions = nodes.map((node) => {
    const { row, dst, src, off, imm } = node.instruction;
    if (jumpDistance(node.instruction) === undefined) return node.instruction;
    const to = node.target && slots.get(node.target);
    const distance = to === undefined ? slot : to - slots.get(node)! - 1;
    return instruction(
      row,
      row.off === 'jump' ? { dst, src, off: distance, imm } : { dst, src, off, imm: distance },
    );
  });
  return programOf(instructions);
}

/** The immediate as 1, where it is an operand. */
function plainer(program: Program, at: number): Program | undefined {
  const { row, dst, src, off, imm } = program.instructions[at]!;
  if (row.imm !== 'value' || imm === 1) return undefined;
  const instructions = [...program.instructions];
  instructions[at] = instruction(row, { dst, src, off, imm: 1 });
  return programOf(instructions);
}

function programOf(instructions: readonly Instruction[]): Program | undefined {
  try {
    return makeProgram(instructions);
  } catch (error) {
    if (error instanceof ProgramError) return undefined;
    throw error;
  }
}
