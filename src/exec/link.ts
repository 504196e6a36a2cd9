// What a placement of machine code gets of its own: the numbers of its helpers, and memory for its data.

import type { Helpers } from '../bpf/helper.js';
import type { MachineCode, Relocation } from '../jit/target.js';
import { dispatchAddress, enlist, stateAddress } from './callbacks.js';
import { libc } from './libc.js';

/** Machine code with its relocations done. */
export interface Linked {
  readonly bytes: Uint8Array;
  /** What its helper functions are known by until they are released. */
  readonly numbers: readonly number[];
  /** Its data sections: the code has their addresses, so they are kept as long as it can be called. */
  readonly data: readonly PlacedData[];
}

interface PlacedData {
  readonly bytes: Uint8Array;
  readonly address: bigint;
}

/** @throws ArgumentError 'A-HELPERS' if the code calls a helper that was not given, or what was given is none */
export function link(code: MachineCode, helpers: Helpers | undefined): Linked {
  const { bytes } = code;
  const view = new DataView(bytes.buffer);
  const data = code.data.map(placeData);
  const numbers = enlist(code, helpers);
  for (const { offset, symbol } of code.relocations) {
    if (typeof symbol === 'object' && 'helper' in symbol)
      view.setUint32(offset, numbers.get(symbol.helper)!, true);
    else view.setBigUint64(offset, addressOf(symbol, data), true);
  }
  return { bytes, numbers: [...numbers.values()], data };
}

function addressOf(
  symbol: Exclude<Relocation['symbol'], { readonly helper: number }>,
  data: readonly PlacedData[],
): bigint {
  if (symbol === 'helper dispatch') return dispatchAddress();
  if (symbol === 'call state') return stateAddress();
  return data[symbol.data]!.address + BigInt(symbol.at);
}

/** A copy of a data section. The memory of an ArrayBuffer never moves; that of a small typed array without one may. */
function placeData({ bytes, alignment }: MachineCode['data'][number]): PlacedData {
  const whole = new Uint8Array(new ArrayBuffer(bytes.length + alignment));
  const start = libc().addressOf(whole);
  const skipped = Number(-start & BigInt(alignment - 1));
  const placed = whole.subarray(skipped, skipped + bytes.length);
  placed.set(bytes);
  return { bytes: placed, address: start + BigInt(skipped) };
}
