// Lines to standard output, in large pieces, at the speed of whoever reads them.

import type { Writable } from 'node:stream';

const PIECE_CHARACTERS = 1 << 16;

export class Output {
  #piece = '';
  #closed = false;
  readonly #stream: Writable;

  constructor(stream: Writable) {
    this.#stream = stream;
    // A reader that has seen enough (head, less) closes the pipe; that is no error of ours.
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
      this.#closed = true;
    });
  }

  /** Whether nobody reads any more. */
  get closed(): boolean {
    return this.#closed;
  }

  async print(line: string): Promise<void> {
    this.#piece += `${line}\n`;
    if (this.#piece.length >= PIECE_CHARACTERS) await this.flush();
  }

  async flush(): Promise<void> {
    const piece = this.#piece;
    this.#piece = '';
    if (piece === '' || this.#closed) return;
    await new Promise<void>((resolve) => {
      this.#stream.write(piece, () => resolve());
    });
  }
}
