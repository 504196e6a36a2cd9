// A child process that was sent an arena's handle; it says what it has of the arena.

import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { assemble, attachArena, CodeArena, compileX64, verify } from '../dist/index.js';

const linkOf = (fd) => {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return '';
  }
};

process.once('message', ({ handle, name }) => {
  let refused;
  try {
    attachArena(handle);
  } catch (error) {
    refused = `${error.code} ${error.message}`;
  }
  const maps = readFileSync('/proc/self/maps', 'utf8').split('\n');
  process.send({
    refused,
    mappings: maps.filter((line) => line.includes(name)).length,
    descriptors: readdirSync('/proc/self/fd').filter((fd) => linkOf(fd).includes(name)).length,
    own: String(new CodeArena().place(compileX64(verify(assemble('r0 = 9\nexit'), { args: [] }))).call([])),
  });
});
