/** Arrays as numpy writes them: `.npy` files, and the zip of several (`.npz`). */

import { BundleError } from "./errors.js";
import { Tensor, TYPES } from "./tensor.js";
import { readZip } from "./zip.js";

const NAMES = {
  f4: "float32", f8: "float64", i8: "int64", u8: "uint64", i4: "int32", u4: "uint32", i2: "int16",
  u2: "uint16", i1: "int8", u1: "uint8", b1: "bool",
};
const MOST = 1 << 30; // bytes of one array

/** Tensors by name. Raises BundleError where the bytes are no whole npz file. */
export async function readNpz(bytes) {
  const found = {};
  for (const [name, entry] of readZip(bytes)) found[name.replace(/\.npy$/, "")] = readNpy(await entry.read(MOST));
  return found;
}

/** The array in a `.npy` file (the format's versions 1 to 3; little-endian, row by row). */
export function readNpy(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const magic = String.fromCharCode(...bytes.subarray(1, 6));
  if (bytes.length < 12 || magic !== "NUMPY") throw new BundleError("this is no array that numpy has written");
  const wide = bytes[6] > 1;
  const begin = wide ? 12 : 10;
  const length = wide ? view.getUint32(8, true) : view.getUint16(8, true);
  const header = new TextDecoder().decode(bytes.subarray(begin, begin + length));
  const [, order, code] = /'descr': '([<>|=])(\w+)'/.exec(header) ?? [];
  const [, sides] = /'shape': \(([\d, ]*)\)/.exec(header) ?? [];
  if (!(code in NAMES) || order === ">" || sides === undefined || !/'fortran_order': False/.test(header)) {
    throw new BundleError(`an array of this kind is not read here: ${header.trim()}`);
  }
  const shape = sides.split(",").filter((side) => side.trim()).map(Number);
  const type = TYPES[NAMES[code]];
  const count = shape.reduce((product, side) => product * side, 1);
  const data = bytes.slice(begin + length); // a copy begins where every type may
  if (data.length < count * type.BYTES_PER_ELEMENT) throw new BundleError("an array of numpy is cut short");
  return new Tensor(new type(data.buffer, 0, count), shape);
}
