// What there is on this machine to measure with. What is missing is said, and left out.

import { cpus, release } from 'node:os';
import { cpuTier } from '../dist/exec/cpu.js';
import { lower, TIERS } from '../dist/index.js';
import { compileFormats, compileGeneral, FLAGS, hasCompiler } from './lanes/c.mjs';
import { KernelLane } from './lanes/kernel.mjs';
import { openDpdk, openUbpf } from './lanes/rivals.mjs';
import { Player } from './player.mjs';
import { FORMATS, realFormats } from './work.mjs';

export const COMPILERS = ['gcc', 'clang'];

/** The tools of a run; `missing` tells what is not there, `notes` what else there is to know. */
export function equip() {
  const missing = [];
  const compilers = COMPILERS.filter((compiler) => {
    const found = hasCompiler(compiler);
    if (!found) missing.push(`C by ${compiler} is left out: there is no ${compiler}`);
    return found;
  });
  const best = cpuTier();
  const tiers = TIERS.slice(0, TIERS.indexOf(best) + 1).filter((tier) => tier !== 'scalar');
  for (const tier of TIERS.slice(TIERS.indexOf(best) + 1))
    missing.push(`${tier} is left out: this CPU has none`);
  const others = [openUbpf(), openDpdk()].filter((rival) => {
    if (typeof rival === 'string') missing.push(rival);
    return typeof rival !== 'string';
  });
  const notes = [];
  const linux = openLinux(missing, notes);
  if (realFormats().length === 0) missing.push('formats of real nodes are left out: their list is not here');
  const general = compilers.length > 0 ? compileGeneral(compilers[0], FLAGS['-O2']) : {};
  return { player: new Player(), compilers, general, tiers, others, linux, missing, notes };
}

function openLinux(missing, notes) {
  try {
    const lane = new KernelLane(FORMATS.F1);
    const { thunk } = lane.codeOf(lower(FORMATS.F1));
    if (thunk) notes.push("Linux's JIT returns by way of a thunk here, which a plain ret stands for");
    lane.dispose();
    return (format) => new KernelLane(format);
  } catch (error) {
    missing.push(`Linux's JIT is left out: ${error.message}`);
    return undefined;
  }
}

/** Every compiler's functions for every format: lists of { title, unpack, stride, stream, bytes }. */
export function inC(tools, formats, kinds = Object.keys(FLAGS)) {
  const lists = formats.map(() => []);
  for (const compiler of tools.compilers) {
    for (const kind of kinds) {
      compileFormats(compiler, FLAGS[kind], formats).forEach((functions, i) => {
        if (functions) lists[i].push({ title: `${compiler} ${kind}`, ...functions });
      });
    }
  }
  return lists;
}

export function machineText(tools) {
  return {
    cpu: cpus()[0].model.trim(),
    cores: cpus().length,
    linux: release(),
    node: process.version,
    tier: tools.tiers.at(-1) ?? 'scalar',
    clock: 1 / tools.player.nsOfCycle(),
  };
}
