// Names for profilers: perf looks for those of code that no file has in /tmp/perf-PID.map, a line for each routine. /tmp is
// everybody's, so what may be there already is no friend's: a link, or a file of somebody else's, is refused.

import { closeSync, constants, fstatSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { shown } from '../bytes.js';
import { ArgumentError, EngineError } from '../errors.js';
import type { ArenaExtent } from './arena-options.js';

const { O_WRONLY, O_APPEND, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = constants;
const FLAGS = O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK;
const OWNER_ONLY = 0o600;
const MAX_NAME = 200;

/** Where perf looks for the names of this process's code. */
export const perfMap = (): string => `/tmp/perf-${process.pid}.map`;

/** A file that names are added to. What is freed stays in it: of several lines for an address, the last is the one that counts. */
export class SymbolFile {
  readonly #path: string;
  #fd: number;

  /**
   * @param symbols true for where perf looks, or a path
   * @throws ArgumentError 'A-SYMBOLS' for what is neither; EngineError 'E-SYMBOLS' if the file is a link or somebody else's, cannot be
   *   written, or is where Node itself writes (--perf-basic-prof)
   */
  constructor(symbols: unknown) {
    if (symbols !== true && (typeof symbols !== 'string' || symbols === '' || symbols.includes('\0'))) {
      throw new ArgumentError(
        'A-SYMBOLS',
        `symbols must be true or the path of a file, got ${shown(symbols)}`,
      );
    }
    this.#path = symbols === true ? perfMap() : symbols;
    if (symbols === true && nodeWrites()) {
      throw refused(this.#path, 'Node writes there with --perf-basic-prof, over what is added; give a path');
    }
    this.#fd = asked(this.#path, () => openSync(this.#path, FLAGS, OWNER_ONLY));
    try {
      requireOwn(this.#fd, this.#path);
      if (symbols === true) dropOld(this.#fd);
    } catch (error) {
      closeSync(this.#fd);
      throw error;
    }
  }

  /** @throws EngineError 'E-SYMBOLS' if they cannot be written */
  add(symbols: readonly ArenaExtent[]): void {
    const lines = Buffer.from(symbols.map(line).join(''), 'latin1');
    const written = asked(this.#path, () => writeSync(this.#fd, lines));
    if (written !== lines.length)
      throw refused(this.#path, `only ${written} of ${lines.length} bytes were written`);
  }

  /** Closing twice is harmless: by then the number may be another file's. */
  close(): void {
    const fd = this.#fd;
    this.#fd = -1;
    if (fd >= 0) closeSync(fd);
  }
}

const line = ({ address, length, name }: ArenaExtent): string =>
  `${address.toString(16)} ${length.toString(16)} ${printable(name)}\n`;

/** Names may come from a format's author: anything but plain characters would break the line, or a terminal. */
const printable = (name: string): string =>
  String(name)
    .slice(0, MAX_NAME)
    .replace(/[^\x21-\x7e]/g, '_') || '_';

const nodeWrites = (): boolean =>
  [...process.execArgv, process.env.NODE_OPTIONS ?? ''].some((option) =>
    option.includes('--perf-basic-prof'),
  );

function requireOwn(fd: number, path: string): void {
  const { uid, nlink } = fstatSync(fd);
  if (!fstatSync(fd).isFile()) throw refused(path, 'it is no plain file');
  if (uid !== process.geteuid!()) throw refused(path, `it belongs to user ${uid}`);
  if (nlink !== 1) throw refused(path, 'it is a file of another name, too');
}

/** Empties the file of an earlier process that had our number. */
function dropOld(fd: number): void {
  const begun = Date.now() - process.uptime() * 1000;
  if (fstatSync(fd).mtimeMs < begun) ftruncateSync(fd);
}

function asked<T>(path: string, call: () => T): T {
  try {
    return call();
  } catch (cause) {
    throw refused(path, (cause as Error).message, cause);
  }
}

const refused = (path: string, reason: string, cause?: unknown) =>
  new EngineError('E-SYMBOLS', `names of routines cannot be written to ${path}: ${reason}`, {}, { cause });
