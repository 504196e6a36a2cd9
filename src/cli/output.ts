// Lines to standard output, in large pieces, at the speed of whoever reads them.

import type { Writable } from 'node:stream';
import { BpfUnpackError } from '../errors.js';

const PIECE_CHARACTERS = 1 << 16;

export class Output {
  #piece = '';
  #closed = false;
  readonly #stream: Writable;

  constructor(stream: Writable) {
    this.#stream = stream;
    stream.on('error', () => {}); // flush hears of it, too
  }

  /** Whether nobody reads any more. */
  get closed(): boolean {
    return this.#closed;
  }

  async print(line: string): Promise<void> {
    this.#piece += `${line}\n`;
    if (this.#piece.length >= PIECE_CHARACTERS) await this.flush();
  }

  /** @throws BpfUnpackError 'E-OUTPUT' if the lines cannot be written, other than because nobody reads any more */
  async flush(): Promise<void> {
    const piece = this.#piece;
    this.#piece = '';
    if (piece === '' || this.#closed) return;
    const error = await new Promise<NodeJS.ErrnoException | null | undefined>((resolve) => {
      this.#stream.write(piece, resolve);
    });
    if (!error) return;
    this.#closed = true;
    // A reader that has seen enough (head, less) closes the pipe; that is no error of ours.
    if (error.code !== 'EPIPE') throw new BpfUnpackError('E-OUTPUT', `standard output: ${error.message}`);
  }
}
