/** What a bundle says about itself: `manifest.json`, schema 3, as `niwaki_runtime.manifest` writes it. */

import { BundleError, validNames } from "./errors.js";
import { canonicalMembers, joined } from "./json.js";
import { sha256 } from "./sha256.js";

export const MANIFEST = "manifest.json";
export const SCHEMA = 3;
const SAMPLING = "sample";

/**
 * The manifest in `bytes`: the record of its JSON. Raises BundleError for one that is no JSON, of another
 * schema, incomplete, changed, or that contradicts itself.
 */
export async function readManifest(bytes) {
  let record, members;
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    record = JSON.parse(text);
    members = canonicalMembers(text);
  } catch (error) {
    throw new BundleError(`${MANIFEST} is cut short or not JSON (${error.message}); copy the bundle again`);
  }
  if (!Number.isInteger(record.schema)) {
    throw new BundleError(`${MANIFEST} is not the manifest of a niwaki bundle: it has no schema number`);
  }
  if (record.schema !== SCHEMA) {
    throw new BundleError(
      `the bundle has schema ${record.schema} and the browser runtime reads ${SCHEMA}; `
      + (record.schema > SCHEMA ? "export it with a newer runtime beside it" : "export it again"),
    );
  }
  for (const key of ["name", "niwaki", "programs", "graphs", "files", "sha256"]) {
    if (!(key in record)) {
      throw new BundleError(`${MANIFEST} is incomplete: '${key}' is missing; export the bundle again`);
    }
  }
  members.delete("sha256");
  if ((await sha256(new TextEncoder().encode(joined(members)))) !== record.sha256) {
    throw new BundleError(`${MANIFEST} was changed after it was written; copy or export the bundle again`);
  }
  check(record);
  return record;
}

function check(record) {
  const { files, graphs, programs, packed = {} } = record;
  for (const name of [...Object.keys(files), ...Object.keys(packed)]) safePath(name);
  for (const [name, entry] of Object.entries(packed)) {
    if (name in files || !(entry.file in files)) {
      throw new BundleError(`the manifest contradicts itself about the packed file '${name}'`);
    }
  }
  for (const [name, graph] of Object.entries(graphs)) {
    if (!(graph.file in files)) {
      throw new BundleError(`the graph '${name}' needs ${graph.file}, which the manifest does not list`);
    }
  }
  if (!(SAMPLING in programs)) {
    throw new BundleError(`the manifest lists no program '${SAMPLING}'; ${validNames(Object.keys(programs))}`);
  }
}

/** `name`, a path inside the bundle. Raises BundleError where it could leave it. */
export function safePath(name) {
  const parts = name.split("/");
  const inside = parts.every((part) => part !== "" && part !== "." && part !== "..");
  if (!inside || /[\\:\0]/.test(name) || name === MANIFEST) {
    throw new BundleError(
      `the bundle names the file '${name}', which is not a plain path inside it; do not trust it`,
    );
  }
  return name;
}
