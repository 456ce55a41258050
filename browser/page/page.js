/** The page: what is asked for becomes samples, and the reference samples are made again. */

import { drawingOf } from "./draw.js";
import { load, readNpz } from "./niwaki/index.js";

const $ = (id) => document.getElementById(id);
const OPTIONS = ["steps", "guidance", "temperature", "truncation"]; // of samplers, offered where there are any
const isLabel = ({ value }) => value.values.kind === "tokens" && value.shape.length === 0;

const PLACES = { "onnxruntime-web": "the processor", "onnxruntime-webgpu": "the graphics processor" };

let bundle, demo;

/** The page can be drawn while samples are made. */
const drawn = () => new Promise((done) => setTimeout(done, 0));

async function begin() {
  demo = await (await fetch("demo.json")).json();
  document.title = $("name").textContent = demo.name;
  await open(demo.engines[0]);
  controls();
  await engines();
  $("go").disabled = false;
  await sample();
  await compare();
}

async function open(engine) {
  const begun = performance.now();
  bundle = await load(demo.bundle, { engine });
  await bundle.prepare();
  const opened = `opened in ${seconds(begun)}`;
  $("about").textContent = [sentence(bundle.spec), bytes(demo.bytes), bundle.engine, opened].join(" · ");
}

/** Where the folder has a build for WebGPU and the browser has it too, one chooses what computes. */
async function engines() {
  const there = await navigator.gpu?.requestAdapter().catch(() => null);
  const usable = demo.engines.filter((engine) => there || !engine.endsWith("webgpu"));
  if (usable.length < 2) return;
  const select = Object.assign(document.createElement("select"), { id: "engine" });
  select.append(...usable.map((engine) => new Option(PLACES[engine], engine)));
  select.addEventListener("change", async () => {
    $("parity").textContent = $("parity").className = ""; // it spoke of the other one
    await busy(() => open(select.value));
    if (bundle.engine !== select.value) {
      select.value = bundle.engine; // the sentence says why
      return;
    }
    await sample();
    await compare().catch(refused);
  });
  $("controls").append(labelled("Computed by", select));
}

const sentence = ({ modality, shape }) => `${modality} ${shape.join("×")}`;
const bytes = (count) => (count < 1e6 ? `${(count / 1e3).toFixed(1)} kB` : `${(count / 1e6).toFixed(2)} MB`);

function seconds(since) {
  const passed = (performance.now() - since) / 1000;
  return `${passed.toFixed(passed < 1 ? 3 : 1)} s`;
}

/** A picker for each class that can be asked for, and a field for each option of the sampler. */
function controls() {
  for (const [name, spec] of Object.entries(bundle.conditions)) {
    if (!isLabel(spec)) continue;
    const names = spec.value.names ?? Array.from({ length: spec.value.values.n }, (_, i) => String(i));
    const select = Object.assign(document.createElement("select"), { id: `condition-${name}` });
    select.append(new Option("in turn", ""), ...names.map((one, i) => new Option(one, String(i))));
    $("controls").append(labelled(name, select));
  }
  const sampler = bundle.sampler();
  const guided = Object.values(bundle.conditions).some((spec) => spec.null !== null);
  for (const name of OPTIONS) {
    if (!sampler.options().includes(name) || (name === "guidance" && !guided) || sampler[name] === undefined) continue;
    const step = Number.isInteger(sampler[name]) && name === "steps" ? "1" : "any";
    const input = Object.assign(document.createElement("input"), { type: "number", id: `option-${name}`, step });
    Object.assign(input, { value: sampler[name], required: true });
    $("controls").append(labelled(name, input));
  }
}

function labelled(name, control) {
  const label = document.createElement("label");
  label.append(name[0].toUpperCase() + name.slice(1).replaceAll("_", " "), control);
  return label;
}

/** What cannot be asked for by default comes from the examples that the bundle carries. */
async function inputsOf(n, chosen = {}) {
  const examples = await bundle.examples(), inputs = { ...chosen };
  for (const [name, spec] of Object.entries(bundle.conditions)) {
    const needed = !isLabel(spec) && spec.null === null && name in examples;
    if (needed) inputs[name] = examples[name].take(Array.from({ length: n }, (_, i) => i % examples[name].shape[0]));
  }
  return inputs;
}

async function sample() {
  const n = $("n").valueAsNumber, seed = $("seed").valueAsNumber, chosen = {}, options = {};
  for (const select of document.querySelectorAll("select[id^=condition-]")) {
    if (select.value !== "") chosen[select.id.replace("condition-", "")] = Number(select.value);
  }
  for (const input of document.querySelectorAll("input[id^=option-]")) {
    options[input.id.replace("option-", "")] = input.valueAsNumber;
  }
  await busy(async () => {
    const inputs = await inputsOf(n, chosen), begun = performance.now();
    const made = await bundle.sample(n, { seed, inputs, ...options, progress });
    const took = seconds(begun);
    show(made, chosen);
    $("status").textContent = `${n} ${n === 1 ? "sample" : "samples"} in ${took}`;
  });
}

async function progress(done, all) {
  $("progress").value = done / all;
  await drawn();
}

/** Nothing else is asked for meanwhile; what goes wrong is said in its sentence. */
async function busy(work) {
  document.body.classList.add("busy");
  $("go").disabled = true;
  try {
    await work();
    $("status").classList.remove("error");
  } catch (error) {
    refused(error);
  }
  document.body.classList.remove("busy");
  $("go").disabled = !bundle;
}

function refused(error) {
  $("status").textContent = error.message;
  $("status").classList.add("error");
}

function show(made, chosen) {
  const { layout, draw } = drawingOf(bundle.spec);
  $("samples").className = layout;
  $("samples").replaceChildren(...Array.from({ length: made.shape[0] }, (_, i) => {
    const figure = document.createElement("figure"), caption = document.createElement("figcaption");
    const element = draw(made.rows(i, 1).data, bundle.spec, bundle);
    caption.textContent = captionOf(i, chosen);
    figure.append(element, caption);
    figure.querySelector("canvas")?.setAttribute("aria-label", `Sample ${i}: ${caption.textContent}`);
    return figure;
  }));
}

/** The classes of sample i; its number where it has none. */
function captionOf(i, chosen) {
  const labels = Object.entries(bundle.conditions).filter(([, spec]) => isLabel(spec)).map(([name, spec]) => {
    const number = chosen[name] ?? i % spec.value.values.n;
    return spec.value.names?.[number] ?? String(number);
  });
  return labels.join(", ") || String(i);
}

/** The samples that the exporter made with `niwaki_runtime` are made here again, and compared. */
async function compare() {
  const { reference } = demo, line = $("parity");
  line.textContent = "Comparing with the reference samples …";
  const answer = await fetch(reference.file);
  const { samples } = await readNpz(new Uint8Array(await answer.arrayBuffer()));
  const n = samples.shape[0];
  const made = await bundle.sample(n, { seed: reference.seed, inputs: await inputsOf(n), progress: drawn });
  let largest = 0, within = 0;
  made.data.forEach((value, i) => {
    const difference = Math.abs(Number(value) - Number(samples.data[i]));
    largest = Math.max(largest, Number.isNaN(difference) ? Infinity : difference);
    within += difference <= reference.tolerance ? 1 : 0;
  });
  const equal = within === made.data.length, whole = bundle.spec.values.kind === "tokens";
  const of = `the ${n} reference samples of seed ${reference.seed} (${reference.made_by})`;
  const share = ((100 * within) / made.data.length).toFixed(2);
  const gap = whole ? "" : `, largest difference ${largest.toExponential(1)}`;
  line.textContent = equal
    ? `Equal to ${of}${gap || ", token by token"}.`
    : `Not equal to ${of}: ${share} % of the values are within ${reference.tolerance}${gap}.`;
  line.classList.toggle("equal", equal);
  line.classList.toggle("error", !equal);
  Object.assign(line.dataset, { largest, within, equal });
}

$("asked").addEventListener("submit", (event) => {
  event.preventDefault();
  sample();
});
begin().catch(refused);
