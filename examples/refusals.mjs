// Two mistakes of hand-written unpackers of bcachefs keys, and what the verifier says of them.
// From a clone: npm ci && npm run build && node examples/refusals.mjs

import { readFileSync } from 'node:fs';
import { assemble, bkeyFormat, contractFor, VerifierError, verify } from 'bpf-unpack';

const format = bkeyFormat({
  keyU64s: 1,
  bitsPerField: [8, 30, 0, 0, 0, 0],
  fieldOffset: [0n, 0n, 0n, 0n, 0n, 0n],
});

for (const name of ['load-before-key', 'pad-byte']) {
  const program = assemble(readFileSync(new URL(`${name}.bpf`, import.meta.url), 'utf8'));
  try {
    verify(program, contractFor(format));
    console.log(`${name}.bpf is accepted`);
  } catch (error) {
    if (!(error instanceof VerifierError)) throw error;
    console.log(`${name}.bpf\n\n${error.text}`);
  }
}
