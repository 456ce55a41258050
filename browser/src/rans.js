/** The decoder of `niwaki_runtime.rans`: range asymmetric numeral systems, many lanes side by side. */

import { BundleError } from "./errors.js";

export const PRECISION = 14; // bits of a frequency: those of one table sum to 2¹⁴
export const MAX_ROWS = 1 << 14; // the longest lane, in symbols
const TOTAL = 1 << PRECISION;
const LOW = 1 << 16; // every state stays in [2¹⁶, 2³²)

/** Lanes that a stream of `length` symbols takes at `rows` symbols per lane. */
export const lanes = (length, rows) => Math.ceil(length / rows);

/**
 * The streams, Uint8Array each, of these lengths. Raises BundleError where the numbers are not what was written.
 *
 * states: where each lane's number stands, Uint32Array; words: what overflowed, Uint16Array
 * tables: frequencies of the 256 symbols for each stream
 */
export function decode(states, words, lengths, tables, rows) {
  const { stream, lane, width, length } = layout(lengths, rows);
  if (states.length !== stream.length) {
    throw new BundleError("packed weights have another number of lanes than their lengths ask for");
  }
  const decoders = tables.map(decoderOf);
  const out = lengths.map((n) => new Uint8Array(n));
  const x = Uint32Array.from(states);
  let active = stream.length, read = 0;
  for (let row = 0; active > 0; row++) {
    while (active > 0 && length[active - 1] <= row) active--;
    for (let p = 0; p < active; p++) {
      const s = stream[p], { symbols, frequencies, starts } = decoders[s];
      const slot = x[p] & (TOTAL - 1), symbol = symbols[slot];
      // D(x) = (s, f ⌊x / 2¹⁴⌋ + x mod 2¹⁴ − c), s being the symbol whose share holds x mod 2¹⁴
      let now = frequencies[symbol] * (x[p] >>> PRECISION) + slot - starts[symbol];
      if (now < LOW) {
        if (read === words.length) {
          throw new BundleError("packed weights end too early; copy or export the bundle again");
        }
        now = now * LOW + words[read++];
      }
      x[p] = now;
      out[s][row * width[s] + lane[p]] = symbol;
    }
  }
  if (read !== words.length || x.some((state) => state !== LOW)) {
    throw new BundleError("packed weights do not come out even; copy or export the bundle again");
  }
  return out;
}

/** Which stream's lane stands at each place: the longest first, so that those not at their end are the first. */
function layout(lengths, rows) {
  const places = [];
  const width = lengths.map((n) => lanes(n, rows));
  lengths.forEach((n, s) => {
    for (let j = 0; j < width[s]; j++) {
      places.push({ stream: s, lane: j, length: Math.floor(n / width[s]) + (j < n % width[s] ? 1 : 0) });
    }
  });
  places.sort((a, b) => b.length - a.length); // stable
  const column = (name) => places.map((place) => place[name]);
  return { stream: column("stream"), lane: column("lane"), length: column("length"), width };
}

function decoderOf(table) {
  const symbols = new Uint8Array(TOTAL), starts = new Uint32Array(256);
  let at = 0;
  table.forEach((frequency, symbol) => {
    starts[symbol] = at;
    symbols.fill(symbol, at, at + frequency);
    at += frequency;
  });
  return { symbols, frequencies: table, starts };
}
