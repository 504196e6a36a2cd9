// What is said about damage: an ImageError that names the device, the node and the byte, and who hears of it.

import { ImageError, type Where } from '../errors.js';

/** An ImageError whose message starts with the place; `where.byte` is a byte of the device image. */
export function damage(code: string, what: string, where: Where, cause?: unknown): ImageError {
  const node = where.btree === undefined ? [] : [`btree ${where.btree}`, `level ${where.level}`];
  const place = [
    ...(where.file === undefined ? [] : [where.file]),
    ...node,
    ...(where.sector === undefined ? [] : [`sector ${where.sector}`]),
    ...(where.byte === undefined ? [] : [`byte ${where.byte}`]),
  ];
  return new ImageError(
    code,
    `${place.join(', ')}: ${what}`,
    where,
    cause === undefined ? undefined : { cause },
  );
}

/**
 * Hears of each damage. `recovered`: another copy made up for it, and nothing is missing from what is read.
 */
export type DamageListener = (error: ImageError, recovered: boolean) => void;

/** Decides what damage does: it ends the reading, or is told to the listener. */
export class DamageReport {
  constructor(
    private readonly keepGoing: boolean,
    private readonly listener: DamageListener | undefined,
  ) {}

  /** Something cannot be read. Throws the error unless asked to keep going. */
  lost(error: ImageError): void {
    if (!this.keepGoing) throw error;
    this.listener?.(error, false);
  }

  /** Something is damaged, and nothing is lost by it. */
  recovered(error: ImageError): void {
    this.listener?.(error, true);
  }

  /** What `read` returns; or undefined if it throws an ImageError and we are to keep going. */
  attempt<T>(read: () => T): T | undefined {
    try {
      return read();
    } catch (error) {
      this.lost(asImageError(error));
      return undefined;
    }
  }
}

/** Returns an ImageError, and throws anything else: a fault of ours must not pass for damage. */
export function asImageError(error: unknown): ImageError {
  if (error instanceof ImageError) return error;
  throw error;
}
