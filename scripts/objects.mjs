// Rebuilds test/objects/*.o, and what their C does when it is compiled for this machine: node scripts/objects.mjs [--native]
// With --native it prints the latter, and writes nothing. CLANG (18 or later), BPF_GCC and CC name other compilers.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const { CLANG = 'clang', BPF_GCC = 'bpf-gcc', CC = 'gcc' } = process.env;
const folder = fileURLToPath(new URL('../test/objects/', import.meta.url));
/** Each run in a process of its own, but for the last, which keeps its variables from run to run. */
const ENTRIES = ['hash', 'sort', 'calls', 'arithmetic', 'swap', 'lookup', 'state', 'tally'];
const KEPT = 'tally';
const MEMORY_BYTES = 64;
const RUNS = 8;

const DRIVER = (entry) => `
#include <stdio.h>
unsigned long long ${entry}(void *memory);
int main(void)
{
	static _Alignas(8) unsigned char memory[${MEMORY_BYTES}];
	while (fread(memory, 1, sizeof memory, stdin) == sizeof memory) {
		printf("%llx ", ${entry}(memory));
		for (unsigned i = 0; i < sizeof memory; i++) printf("%02x", memory[i]);
		puts("");
	}
}`;

/** Memory before each run: all bytes different from run to run, signs and zeros among them. */
function memories() {
  let state = 1;
  const byte = () => ((state = (Math.imul(state, 1103515245) + 12345) >>> 0) >>> 16) & 255;
  const random = Array.from({ length: RUNS - 2 }, () =>
    Buffer.from(Array.from({ length: MEMORY_BYTES }, byte)),
  );
  return [Buffer.alloc(MEMORY_BYTES), Buffer.alloc(MEMORY_BYTES, 255), ...random];
}

function native(entry, scratch) {
  const driver = join(scratch, 'driver.c');
  const program = join(scratch, entry);
  writeFileSync(driver, DRIVER(entry));
  execFileSync(CC, ['-O2', '-fwrapv', '-o', program, driver, join(folder, `${entry}.c`)]);
  const inputs = entry === KEPT ? [Buffer.concat(memories())] : memories();
  const lines = inputs.flatMap((input) => execFileSync(program, { input }).toString().trim().split('\n'));
  return lines.map((line, i) => {
    const [r0, after] = line.split(' ');
    return { entry, memory: memories()[i].toString('hex'), r0: `0x${r0}`, after };
  });
}

function results() {
  const scratch = mkdtempSync(join(tmpdir(), 'objects-'));
  try {
    return ENTRIES.flatMap((entry) => native(entry, scratch));
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

const expected = `${results()
  .map((result) => JSON.stringify(result))
  .join('\n')}\n`;
if (process.argv[2] === '--native') process.stdout.write(expected);
else {
  writeFileSync(join(folder, 'expected.jsonl'), expected);
  const run = (command, args) => execFileSync(command, args, { cwd: folder, stdio: 'inherit' });
  for (const name of [...ENTRIES, 'data', 'refused']) {
    for (const cpu of ['v1', 'v2', 'v3', 'v4']) {
      // With BTF and debug information for one of them, which are to be passed over.
      const debug = cpu === 'v3' ? ['-g'] : [];
      const target = ['-target', 'bpf', `-mcpu=${cpu}`, '-O2', ...debug, '-fdebug-compilation-dir=.'];
      run(CLANG, [...target, '-c', `${name}.c`, '-o', `${name}-clang-${cpu}.o`]);
    }
    run(BPF_GCC, ['-O2', '-c', `${name}.c`, '-o', `${name}-gcc.o`]);
  }
}
