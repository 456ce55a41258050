/** How one sample is shown, by modality: an element of the page. */

import { textDecoder } from "./niwaki/index.js";

const DRAWINGS = {};

/**
 * Enter a way of showing. layout: the class of the grid ("" for tiles, `curves`, `words`)
 * draw: (values of one sample, its spec, bundle) → an element
 */
export function registerDrawing(modality, layout, draw) {
  DRAWINGS[modality] = { layout, draw };
}

/** That of a spec; numbers or curves where its modality has none. */
export const drawingOf = ({ modality, values }) =>
  DRAWINGS[modality] ?? (values.kind === "tokens" ? DRAWINGS.text : DRAWINGS.vector);

const SMALL = 64; // pixels; smaller pictures are enlarged without being smoothed

function canvasOf(width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.classList.toggle("small", Math.max(width, height) <= SMALL);
  canvas.setAttribute("role", "img");
  return canvas;
}

/** low … high as 0 … 255. */
const shade = (value, { low = -1, high = 1 }) => Math.min(Math.max((value - low) / (high - low), 0), 1) * 255;

/** One picture (C, H, W): grey of one channel, else its first three as red, green and blue. */
function paint(canvas, values, [channels, height, width], range) {
  const area = height * width, context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++) {
      pixels.data[4 * i + c] = Math.floor(shade(values[i + area * (channels < 3 ? 0 : c)], range) + 0.5);
    }
    pixels.data[4 * i + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
}

registerDrawing("image", "", (values, { shape, values: range }) => {
  const canvas = canvasOf(shape[2], shape[1]);
  paint(canvas, values, shape, range);
  return canvas;
});

registerDrawing("video", "", (values, { shape: [frames, ...picture], values: range, rate }) => {
  const canvas = canvasOf(picture[2], picture[1]), size = values.length / frames;
  const show = (frame) => paint(canvas, values.subarray(frame * size, (frame + 1) * size), picture, range);
  show(0);
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const each = 1000 / (rate || 8), begun = performance.now();
  const step = (now) => {
    if (begun < now && !canvas.isConnected) return; // the next samples took its place
    show(Math.floor(Math.max(now - begun, 0) / each) % frames);
    requestAnimationFrame(step);
  };
  if (!still) requestAnimationFrame(() => requestAnimationFrame(step));
  return canvas;
});

/** Lines over time, a channel each. */
function curves(values, channels, { low, high }) {
  const canvas = canvasOf(480, 200), context = canvas.getContext("2d"), length = values.length / channels;
  const least = Number.isFinite(low) ? low : Math.min(...values), most = Number.isFinite(high) ? high : Math.max(...values);
  const style = getComputedStyle(document.documentElement);
  const colors = ["--leaf", "--focus", "--soft", "--ink"].map((name) => style.getPropertyValue(name));
  context.lineWidth = 2;
  for (let c = 0; c < channels; c++) {
    context.strokeStyle = colors[c % colors.length];
    context.beginPath();
    for (let t = 0; t < length; t++) {
      const y = 190 - (180 * (values[c * length + t] - least)) / (most - least || 1);
      context.lineTo((480 * t) / Math.max(length - 1, 1), y);
    }
    context.stroke();
  }
  return canvas;
}

const channelsOf = ({ shape, axes }) => (axes?.includes("C") && shape.length > 1 ? shape[axes.indexOf("C")] : 1);

for (const modality of ["series", "vector"]) {
  registerDrawing(modality, "curves", (values, spec) => curves(values, channelsOf(spec), spec.values));
}

const LEAST_RATE = 8000, MOST_RATE = 96000; // steps per second that every browser plays; others by playing faster

registerDrawing("audio", "curves", (values, spec) => {
  const channels = channelsOf(spec), canvas = curves(values, channels, spec.values);
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Play" });
  button.addEventListener("click", () => {
    const context = new AudioContext(), length = values.length / channels, rate = spec.rate || 8000;
    const buffer = context.createBuffer(channels, length, Math.min(Math.max(rate, LEAST_RATE), MOST_RATE));
    for (let c = 0; c < channels; c++) buffer.copyToChannel(values.subarray(c * length, (c + 1) * length), c);
    const source = Object.assign(context.createBufferSource(), { buffer, onended: () => context.close() });
    source.playbackRate.value = rate / buffer.sampleRate;
    source.connect(context.destination);
    source.start();
  });
  const both = document.createElement("div");
  both.append(canvas, button);
  return both;
});

/** By the tokenizer of the bundle, where it has one of a kind that is read here; numbers else. */
registerDrawing("text", "words", (tokens, { values }, bundle) => {
  const file = values.tokenizer && bundle.text(values.tokenizer), decode = file && textDecoder(file);
  const element = document.createElement("pre");
  element.textContent = decode ? decode(tokens) : tokens.join(" ");
  return element;
});
