/** Zip archives: files that are stored or deflated, each read only as far as it may be long. */

import { BundleError } from "./errors.js";

const BROKEN = "this is no whole zip; copy or export the bundle again";
const END = 0x06054b50, CENTRAL = 0x02014b50, LOCAL = 0x04034b50;
const STORED = 0, DEFLATED = 8;
const ELSEWHERE = 0xffffffff; // stands where a number of 64 bits is written in another place

/** The files of the zip in `bytes` (Uint8Array), by name. Raises BundleError where it is none. */
export function readZip(bytes) {
  try {
    return entries(bytes);
  } catch (error) {
    if (error instanceof RangeError) throw new BundleError(BROKEN); // a read beyond the end
    throw error;
  }
}

function entries(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = endRecord(view);
  const count = view.getUint16(end + 10, true);
  let at = view.getUint32(end + 16, true);
  const files = new Map();
  for (let i = 0; i < count; i++) {
    if (view.getUint32(at, true) !== CENTRAL) throw new BundleError(BROKEN);
    const nameLength = view.getUint16(at + 28, true);
    const name = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameLength));
    const entry = new Entry(bytes, name, {
      encrypted: (view.getUint16(at + 8, true) & 1) === 1,
      method: view.getUint16(at + 10, true),
      packed: view.getUint32(at + 20, true),
      offset: view.getUint32(at + 42, true),
    });
    if (files.has(name)) throw new BundleError(`the zip holds ${name} twice; export the bundle again`);
    files.set(name, entry);
    at += 46 + nameLength + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
  }
  return files;
}

/** Where the record at the end begins: a comment of up to 65535 bytes may follow it. */
function endRecord(view) {
  for (let at = view.byteLength - 22; at >= Math.max(0, view.byteLength - 22 - 65535); at--) {
    if (view.getUint32(at, true) === END) return at;
  }
  throw new BundleError(BROKEN);
}

class Entry {
  constructor(bytes, name, record) {
    Object.assign(this, { bytes, name, ...record });
  }

  /** What the file holds. Raises BundleError for more than `most` bytes, whatever the zip says of itself. */
  async read(most) {
    const packed = this.packedBytes();
    if (this.method === STORED && packed.length <= most) return packed;
    if (this.method === DEFLATED) return inflated(packed, most, this.name);
    if (this.method === STORED) throw tooLong(this.name, most);
    throw new BundleError(`${this.name} is compressed by method ${this.method} of zip; deflate alone is read`);
  }

  packedBytes() {
    const { bytes, offset, packed } = this;
    if (this.encrypted) throw new BundleError(`${this.name} is encrypted, and bundles are not`);
    if (packed === ELSEWHERE || offset === ELSEWHERE) {
      throw new BundleError(`${this.name} lies in a zip of more than 4 GB, which a page cannot hold`);
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (offset + 30 > bytes.length || view.getUint32(offset, true) !== LOCAL) throw new BundleError(BROKEN);
    const begin = offset + 30 + view.getUint16(offset + 26, true) + view.getUint16(offset + 28, true);
    if (begin + packed > bytes.length) throw new BundleError(BROKEN);
    return bytes.subarray(begin, begin + packed);
  }
}

async function inflated(packed, most, name) {
  const reader = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  const parts = [];
  let length = 0;
  for (;;) {
    let step;
    try {
      step = await reader.read();
    } catch {
      throw new BundleError(`${name} cannot be unpacked; copy or export the bundle again`);
    }
    if (step.done) break;
    length += step.value.length;
    if (length > most) {
      await reader.cancel();
      throw tooLong(name, most);
    }
    parts.push(step.value);
  }
  const out = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

function tooLong(name, most) {
  return new BundleError(`${name} unpacks to more than the ${most} bytes that it may have`);
}
