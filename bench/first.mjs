// In a process of its own, of which it prints the times in µs: `node bench/first.mjs ENGINE`. Loads koffi and the code memory, then goes
// from a format to its first record.

import { CodeArena, createUnpacker } from '../dist/index.js';
import { FORMATS } from './work.mjs';

const begun = process.hrtime.bigint();
const arena = new CodeArena();
const loaded = process.hrtime.bigint();
const unpacker = createUnpacker(FORMATS.F1, { engine: process.argv[2], arena });
const made = process.hrtime.bigint();
unpacker.unpack(new Uint8Array(FORMATS.F1.packedBytes));
const called = process.hrtime.bigint();
const us = (from, to) => Number(to - from) / 1000;
console.log(JSON.stringify({ load: us(begun, loaded), make: us(loaded, made), call: us(made, called) }));
