/** Bundles: verified by hash before anything is opened, then sampled from. */

import { resolve } from "./conditions.js";
import { engineNamed } from "./engines/engine.js";
import { BundleError, CallError, NiwakiError, validNames } from "./errors.js";
import { MANIFEST, readManifest } from "./manifest.js";
import { Noise } from "./noise.js";
import { readNpz } from "./npy.js";
import { externalFiles } from "./onnx_file.js";
import { unpacked } from "./packed.js";
import { samplerFromJson } from "./sampler.js";
import { sha256 } from "./sha256.js";
import { Tensor } from "./tensor.js";
import { readZip } from "./zip.js";

const SAMPLING = "sample";
const USUAL_BATCH = 64;
const MANIFEST_LIMIT = 16 << 20; // bytes; real manifests have a few thousand

/**
 * The bundle at an address or in bytes, verified and ready to sample from.
 *
 * source:  the address of a `.niwaki` file (string, URL), or what it holds (ArrayBuffer, Uint8Array, Blob)
 * engine:  `onnxruntime-web`
 * library: where that lies, or its module; default: `onnxruntime-web/` beside the folder of these modules
 * threads: of the processor; more than one needs a page that is isolated from other origins
 *
 * Raises BundleError for a bundle that is incomplete, altered, unsafe or of another schema, CallError for a
 * wrong argument, NiwakiError where nothing is at the address. Graphs are opened when a program first calls them.
 */
export async function load(source, { engine = "onnxruntime-web", ...options } = {}) {
  const open = engineNamed(engine);
  const zip = readZip(await bytesOf(source));
  if (!zip.has(MANIFEST)) throw new BundleError(`this zip holds no ${MANIFEST}; it is not a niwaki bundle`);
  const manifest = await readManifest(await zip.get(MANIFEST).read(MANIFEST_LIMIT));
  const refused = manifest.refused?.onnxruntime;
  if (refused) throw new BundleError(`onnxruntime cannot run this bundle: ${refused}`);
  const files = {};
  for (const [name, entry] of Object.entries(manifest.files)) {
    if (!zip.has(name)) throw new BundleError(`the bundle lacks ${name}; copy or export it again`);
    files[name] = await verified(name, await zip.get(name).read(entry.bytes), entry);
  }
  for (const [name, entry] of Object.entries(manifest.packed ?? {})) {
    files[name] = await verified(name, unpacked(files[entry.file], entry.bytes), entry);
  }
  return new Bundle(manifest, files, { engine, open, options });
}

async function bytesOf(source) {
  if (source instanceof Uint8Array) return source;
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (source instanceof Blob) return new Uint8Array(await source.arrayBuffer());
  if (typeof source !== "string" && !(source instanceof URL)) {
    throw new CallError("a bundle is loaded from an address, an ArrayBuffer, a Uint8Array or a Blob");
  }
  const answer = await fetch(source);
  if (!answer.ok) throw new NiwakiError(`${source} cannot be read: ${answer.status} ${answer.statusText}`);
  return new Uint8Array(await answer.arrayBuffer());
}

async function verified(name, bytes, entry) {
  if (bytes.length !== entry.bytes || (await sha256(bytes)) !== entry.sha256) {
    throw new BundleError(`${name} is not what was written (its hash differs); copy or export the bundle again`);
  }
  return bytes;
}

/** A model ready to sample from; made by `load`. */
export class Bundle {
  #files;
  #engine;
  #graphs = new Map(); // by name: promises of what runs them

  /** manifest: all that it says about itself */
  constructor(manifest, files, engine) {
    this.manifest = manifest;
    this.#files = files;
    this.#engine = engine;
  }

  get name() {
    return this.manifest.name;
  }

  get engine() {
    return this.#engine.engine;
  }

  /** What one sample is: modality, shape, axes, values, names. */
  get spec() {
    return this.manifest.programs[SAMPLING].output;
  }

  /** What samples can be asked to be, by name. */
  get conditions() {
    return this.manifest.programs[SAMPLING].inputs;
  }

  /** What a program of the bundle is. Raises CallError for one that it does not have. */
  program(name) {
    const known = this.manifest.programs;
    if (!(name in known)) {
      throw new CallError(`this model has no program '${name}'; ${validNames(Object.keys(known))}`);
    }
    return known[name];
  }

  /** The sampler of a program, options changed. Raises CallError where this runtime does not have it. */
  sampler(name = SAMPLING, overrides = {}) {
    const sampler = samplerFromJson(this.program(name).sampler);
    return Object.keys(overrides).length ? sampler.override(overrides) : sampler;
  }

  /** A text that the bundle ships (`tokenizer.json`, `card.md`); undefined where it has none of that name. */
  text(name) {
    const bytes = this.#files[name];
    return bytes && new TextDecoder().decode(bytes);
  }

  /** A few inputs for programs that cannot be tried without, by name: Tensors; none where none are needed. */
  async examples() {
    const file = this.manifest.examples;
    return file ? readNpz(this.#files[file]) : {};
  }

  /** Open the graphs of a program, so that its first run takes no longer than others. */
  async prepare(program = SAMPLING) {
    await this.#callable(this.sampler(program).graphsUsed());
  }

  /** Samples start … start+n−1 of a seed: `run("sample", …)`. */
  sample(n, options) {
    return this.run(SAMPLING, n, options);
  }

  /**
   * Results start … start+n−1 of a program and a seed: a Tensor (n, ...shape), float32 or int64 of tokens.
   *
   * inputs:    values by name, or a bare one for the only input; default: classes in turn, by sample index
   * batch:     samples worked on at once; only the network's own rounding depends on it
   * progress:  called with (samples done, samples in all), and waited for: a page can be drawn meanwhile
   * overrides: options of the sampler (`steps: 10`, `guidance: 2.0`, `temperature: 0.8` …)
   * Raises CallError for an unknown program, input, option or sampler, and for an input that must be given.
   */
  async run(program, n, options = {}) {
    const { seed = 0, start = 0, inputs, batch = USUAL_BATCH, progress, ...overrides } = options;
    if (!Number.isSafeInteger(n) || n < 0 || !(batch >= 1) || BigInt(start) < 0n) {
      throw new CallError(`n and start must not be negative and batch at least 1, not ${n}, ${start}, ${batch}`);
    }
    const { inputs: specs, output } = this.program(program);
    const sampler = this.sampler(program, overrides);
    const rows = resolve(specs, inputs, start, n);
    const graphs = await this.#callable(sampler.graphsUsed());
    // Batches of equal size, the surplus of the last one cut off, as `niwaki_runtime` makes them.
    const size = Math.ceil(n / Math.max(1, Math.ceil(n / batch)));
    const parts = [];
    for (let at = 0; at < n; at += size) {
      const part = Object.fromEntries(Object.entries(rows).map(([name, value]) => [name, value.rows(at, size)]));
      const noise = new Noise(seed, BigInt(start) + BigInt(at), size);
      const told = async (i, of) => progress?.(Math.min(at + Math.floor((size * i) / of), n), n);
      parts.push((await sampler.run(graphs, noise, part, told)).rows(0, Math.min(size, n - at)));
    }
    const type = output.values.kind === "tokens" ? BigInt64Array : Float32Array;
    return parts.length ? Tensor.concat(parts).as(type) : new Tensor(new type(0), [0, ...output.shape]);
  }

  /** Functions of Tensors by the names of graphs, opened where they were not. */
  async #callable(names) {
    const found = {};
    for (const name of names) {
      if (!this.#graphs.has(name)) this.#graphs.set(name, this.#opened(name));
      const run = await this.#graphs.get(name);
      found[name] = Object.assign((...tensors) => run(tensors), { state: this.manifest.graphs[name].state ?? [] });
    }
    return found;
  }

  async #opened(name) {
    const record = this.manifest.graphs[name];
    if (!record) throw new BundleError(`the sampler calls the graph '${name}', which the bundle does not hold`);
    const entry = { ...record, state: record.state ?? [] };
    const bytes = this.#files[entry.file];
    const folder = entry.file.split("/").slice(0, -1).map((part) => `${part}/`).join("");
    const weights = {};
    for (const path of externalFiles(bytes, entry.file)) {
      if (!((folder + path) in this.#files)) {
        throw new BundleError(`${entry.file} reads '${path}', which the manifest does not list; do not trust it`);
      }
      weights[path] = this.#files[folder + path];
    }
    const { open, options } = this.#engine;
    return open(bytes, { weights, entry, options });
  }
}
