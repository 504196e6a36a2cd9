// Routines for one record, from whoever makes them: (dst, src) under the System V ABI. All are called by the same loop.

import { compileX64, contractFor, emitNative, lower, verify } from '../../dist/index.js';

/**
 * Ours, and those in C.
 * @param functions of `inC`, for this format
 * @returns { title, group, address, bytes? }
 */
export function ownRoutines({ player }, format, functions) {
  const ours = (title, group, code) => ({
    title,
    group,
    address: player.placeCode(code).address,
    bytes: code.length,
  });
  const verified = verify(lower(format), contractFor(format));
  return [
    { title: 'empty call', group: 'floor', address: player.empty.address },
    ours('BPF', 'BPF', compileX64(verified)),
    ours('BPF, plain', 'BPF', compileX64(verified, { lift: false })),
    ours('native', 'native', emitNative(format)),
    ...functions.map(({ title, unpack, bytes }) => ({ title, group: 'C', address: unpack, bytes })),
  ];
}

/** And those of the other JITs, which are given the same BPF. Whoever cannot do a format is left out of it, and that is said. */
export function routinesOf(tools, format, functions) {
  const program = lower(format);
  const attempt = (title, make) => {
    try {
      return [{ title, group: 'other JITs', ...make() }];
    } catch (error) {
      tools.missing.push(`${title} on a format of ${format.packedBytes} bytes: ${error.message}`);
      return [];
    }
  };
  return [
    ...ownRoutines(tools, format, functions),
    ...(tools.linux ? attempt('Linux JIT', () => byLinux(tools, format, program)) : []),
    ...tools.others.flatMap((rival) =>
      attempt(rival.title, () => rival.routine(program, format, tools.player)),
    ),
  ];
}

function byLinux({ linux, player }, format, program) {
  const lane = linux(format);
  try {
    const { code, bytes } = lane.codeOf(program);
    return { address: player.place(code, 'linux').address, bytes };
  } finally {
    lane.dispose();
  }
}
