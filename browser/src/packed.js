/** Packed weights: the reader of the form that `niwaki_runtime.packed` describes. */

import { BundleError } from "./errors.js";
import * as rans from "./rans.js";

const MAGIC = [0x4e, 0x57, 0x50, 0x31]; // NWP1
const RAW = 0, PLANES = 1, PALETTE = 2, CHANNELS = 3, SPARSE = 4; // segments
const PLAIN = 0, CONSTANT = 1, LISTED = 2, COUNTED = 3; // streams
const SEGMENT_LIMIT = 1 << 24, STREAM_LIMIT = 256, SYMBOL_LIMIT = 1 << 26;
const BLOCK_LEAST = 1 << 20, STREAM_LEAST = 128;
const WORDS = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array, 8: BigUint64Array };

const fail = (what) => {
  throw new BundleError(`packed weights ${what}; copy or export the bundle again`);
};

/** What `data` holds, `promised` bytes. Raises BundleError where it is not exactly that. */
export function unpacked(data, promised) {
  const reader = new Reader(data);
  if (reader.bytes(MAGIC.length).some((byte, i) => byte !== MAGIC[i])) fail("do not begin as such");
  const out = new Uint8Array(promised);
  let at = 0;
  while (at < promised) {
    const left = promised - at, block = new Block(), made = [];
    for (let count = reader.number(1, left); count > 0; count--) made.push(segment(reader, block, left));
    const size = made.reduce((sum, part) => sum + part.size, 0);
    if (size > left) fail(`unpack to more than the ${promised} bytes promised`);
    if (size < Math.min(left, BLOCK_LEAST) && block.lengths.length < STREAM_LEAST) {
      fail(`come in crumbs, or hold less than the ${promised} bytes promised`);
    }
    block.decode(reader);
    for (const part of made) {
      const bytes = part.values();
      if (bytes.length !== part.size) fail("hold a segment of another length than it says");
      out.set(bytes, at);
      at += part.size;
    }
  }
  if (reader.at !== data.length) fail("are followed by something else");
  return out;
}

/** Numbers and arrays from bytes, never past the end. */
class Reader {
  constructor(data) {
    this.data = data;
    this.at = 0;
  }

  bytes(count) {
    if (count > this.data.length - this.at) fail("are cut short");
    this.at += count;
    return this.data.slice(this.at - count, this.at); // a copy begins where every type may
  }

  byte(most) {
    if (this.at >= this.data.length) fail("are cut short");
    return this.within(this.data[this.at++], 0, most);
  }

  number(least, most) {
    for (let value = 0, scale = 1; scale < 2 ** 50; scale *= 128) {
      const byte = this.byte(255);
      value += (byte & 127) * scale;
      if (byte < 128) return this.within(value, least, most);
    }
    return fail("hold a number that cannot be");
  }

  within(value, least, most) {
    return value >= least && value <= most ? value : fail("hold a number that cannot be");
  }
}

/** The coded streams of a block, which are decoded together. */
class Block {
  lengths = [];
  tables = [];
  streams = [];

  add(length, table) {
    this.lengths.push(length);
    this.tables.push(table);
    const symbols = this.lengths.reduce((sum, n) => sum + n, 0);
    if (this.lengths.length > STREAM_LIMIT || symbols > SYMBOL_LIMIT) {
      fail("hold a larger block than any writer makes");
    }
    const at = this.lengths.length - 1;
    return () => this.streams[at];
  }

  decode(reader) {
    if (!this.lengths.length) return;
    const rows = reader.number(1, rans.MAX_ROWS), words = reader.number(0, SYMBOL_LIMIT);
    const states = this.lengths.reduce((sum, n) => sum + rans.lanes(n, rows), 0);
    this.streams = rans.decode(
      new Uint32Array(reader.bytes(4 * states).buffer), new Uint16Array(reader.bytes(2 * words).buffer),
      this.lengths, this.tables, rows,
    );
  }
}

/** Bytes that come out, and what gives them. */
function segment(reader, block, left) {
  const kind = reader.byte(SPARSE), item = reader.byte(8);
  if (!(item in WORDS)) fail(`hold items of ${item} bytes, which no writer makes`);
  const n = reader.number(1, Math.floor(Math.min(left, SEGMENT_LIMIT) / item));
  return { size: n * item, values: SEGMENTS[kind](reader, block, n, item) };
}

/** The `n` items that another segment needs: RAW or PLANES. */
const inner = (reader, block, n, item) => SEGMENTS[reader.byte(PLANES)](reader, block, n, item);

const asItems = (bytes, item) => new WORDS[item](bytes.buffer, bytes.byteOffset, bytes.length / item);
const asBytes = (words) => new Uint8Array(words.buffer, words.byteOffset, words.byteLength);

function raw(reader, block, n, item) {
  const data = reader.bytes(n * item);
  return () => data;
}

function planes(reader, block, n, item) {
  const streams = Array.from({ length: item }, () => stream(reader, block, n));
  return () => {
    const out = new Uint8Array(n * item);
    streams.forEach((plane, j) => plane().forEach((byte, i) => (out[i * item + j] = byte)));
    if (item === 1) return out;
    const words = asItems(out, item);
    words.forEach((word, i) => (words[i] = turnedBack(word, item))); // right by one bit
    return out;
  };
}

function turnedBack(word, item) {
  if (item === 8) return (word >> 1n) | (word << 63n); // what is too high falls off in the array
  return (word >>> 1) | (word << (8 * item - 1));
}

function palette(reader, block, n, item) {
  const k = reader.number(1, 256);
  const values = inner(reader, block, k, item), indices = stream(reader, block, n);
  return () => {
    const found = asItems(values(), item), out = new WORDS[item](n);
    indices().forEach((index, i) => (out[i] = index < k ? found[index] : fail("point outside a palette")));
    return asBytes(out);
  };
}

function channels(reader, block, n, item) {
  const count = reader.number(1, n), width = reader.number(1, n);
  if (n % (count * width)) fail("hold channels that do not fill their tensor");
  const sizes = Array.from(reader.bytes(count), (byte) => byte + 1), starts = [];
  let total = 0;
  for (const size of sizes) {
    starts.push(total);
    total += size;
  }
  const values = inner(reader, block, total, item), indices = stream(reader, block, n);
  return () => {
    const found = asItems(values(), item), out = new WORDS[item](n);
    indices().forEach((index, i) => {
      const channel = Math.floor(i / width) % count;
      out[i] = index < sizes[channel] ? found[starts[channel] + index] : fail("point outside a palette");
    });
    return asBytes(out);
  };
}

function sparse(reader, block, n, item) {
  const there = reader.number(1, n);
  const mask = stream(reader, block, n), values = inner(reader, block, there, item);
  return () => {
    const found = asItems(values(), item), out = new WORDS[item](n);
    let next = 0;
    mask().forEach((bit, i) => bit && next++ < there && (out[i] = found[next - 1]));
    if (next !== there) fail("hold another number of non-zeros than they say");
    return asBytes(out);
  };
}

const SEGMENTS = { [RAW]: raw, [PLANES]: planes, [PALETTE]: palette, [CHANNELS]: channels, [SPARSE]: sparse };

/** `n` bytes. */
function stream(reader, block, n) {
  const mode = reader.byte(COUNTED);
  if (mode === PLAIN) {
    const data = reader.bytes(n);
    return () => data;
  }
  if (mode === CONSTANT) {
    const value = reader.byte(255);
    return () => new Uint8Array(n).fill(value);
  }
  let symbols;
  if (mode === LISTED) {
    const bits = reader.bytes(32);
    symbols = Array.from({ length: 256 }, (_, i) => i).filter((i) => (bits[i >> 3] >> (i & 7)) & 1);
  } else {
    symbols = Array.from({ length: reader.number(1, 256) }, (_, i) => i);
  }
  const bits = reader.byte(rans.PRECISION), table = new Uint32Array(256);
  let last = 1 << bits; // a table sums to 2^bits, so its last frequency need not be said
  for (const symbol of symbols.slice(0, -1)) {
    const frequency = reader.number(1, 1 << bits);
    table[symbol] = frequency << (rans.PRECISION - bits);
    last -= frequency;
  }
  if (!symbols.length || last < 1) fail("hold a table that does not sum to one");
  table[symbols.at(-1)] = last << (rans.PRECISION - bits);
  return block.add(n, table);
}
