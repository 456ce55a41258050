/**
 * Which other files an ONNX graph reads weights from: the wire format of protocol buffers, followed through the
 * few message types that can lead to a tensor (`onnx.proto`).
 */

import { BundleError } from "./errors.js";

// message → field number → message within; "entry" is a key and a value of `TensorProto.external_data`
const FIELDS = {
  model: { 7: "graph", 25: "function" },
  graph: { 1: "node", 5: "tensor", 15: "sparse" },
  function: { 7: "node", 11: "attribute" },
  node: { 5: "attribute" },
  attribute: { 5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse" },
  sparse: { 1: "tensor", 2: "tensor" },
  tensor: { 13: "entry" },
};

/** Relative paths, as written in the graph. Raises BundleError where the bytes are no ONNX graph. */
export function externalFiles(bytes, name) {
  const found = new Set();
  try {
    locations(bytes, "model", found);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new BundleError(`${name} is not a whole ONNX graph; export the bundle again`);
  }
  return found;
}

function locations(bytes, message, found) {
  for (const [number, part] of fields(bytes)) {
    const kind = FIELDS[message][number];
    if (kind === "entry") {
      const entry = new Map(fields(part));
      if (text(entry.get(1)) === "location") found.add(text(entry.get(2)));
    } else if (kind !== undefined) {
      locations(part, kind, found);
    }
  }
}

const text = (bytes) => new TextDecoder().decode(bytes ?? new Uint8Array());

/** Number and content of every field that has a length; numbers are passed over. */
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      if (at >= bytes.length || scale > 2 ** 63) throw new RangeError("a number has no end");
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint(), wire = tag % 8;
    if (wire === 2) {
      const size = varint();
      if (at + size > bytes.length) throw new RangeError("a field is longer than what holds it");
      yield [Math.floor(tag / 8), bytes.subarray(at, at + size)];
      at += size;
    } else if (wire === 0) {
      varint();
    } else if (wire === 1 || wire === 5) {
      at += wire === 1 ? 8 : 4;
    } else {
      throw new RangeError(`there is no wire type ${wire}`);
    }
  }
}
