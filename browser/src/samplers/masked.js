/** Tokens out of masks: a network that sees the whole sequence says every place, and each is set once. */

import { CallError } from "../errors.js";
import { checkGuidance, led, questions } from "../reading.js";
import { registerSampler, Sampler } from "../sampler.js";
import { Tensor } from "../tensor.js";
import { checkChoice, choose, logProbability } from "../tokens.js";

const UNKNOWN = -1; // stands in a prompt where a token is to be made
const HAIR = 1e-9; // of a product that is a whole number but for rounding
const ORDERS = ["independent", "random", "halton", "confidence"];
const SCHEDULES = ["linear", "cosine"];

/**
 * logits = graph(tokens, ...conditions), once per step; then the places whose turn it is get their tokens: options
 * and orders as `niwaki_runtime.samplers.Masked` has them (Sahoo et al. 2024; Chang et al. 2022; Besnier et al.
 * 2025).
 */
export class Masked extends Sampler {
  static kind = "masked";
  static fields = {
    length: 1, mask: 0, steps: 16, graph: "predictor", conditions: [], schedule: "linear", order: "random",
    spread: 4.5, grid: [1, 1], temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, prompt: "", guidance: 1.0,
    null: {}, encoders: {},
  };

  constructor(fields) {
    super(fields);
    checkChoice(this);
    checkGuidance(this);
    if (this.length < 1 || this.steps < 1) {
      throw new CallError(`length and steps must be at least 1, not ${this.length} and ${this.steps}`);
    }
    if (!ORDERS.includes(this.order)) {
      throw new CallError(
        `places are set in the order independent, random, halton or confidence, not '${this.order}'`,
      );
    }
    if (!SCHEDULES.includes(this.schedule)) {
      throw new CallError(`the schedule of masks is linear or cosine, not '${this.schedule}'`);
    }
    if (this.order === "halton" && this.grid[0] * this.grid[1] !== this.length) {
      throw new CallError(
        `a grid of (${this.grid.join(", ")}) has not the ${this.length} places of the order 'halton'`,
      );
    }
    if (!(this.spread >= 0.0 && this.spread < Infinity)) {
      throw new CallError(`the spread of confidences must not be negative, nor without end: ${this.spread}`);
    }
  }

  async run(graphs, noise, conditions, progress) {
    const given = await questions(this, graphs, conditions), { n } = noise;
    const rows = this.given(conditions, n);
    const open = rows.map((row) => row.map((token) => token === UNKNOWN));
    for (const row of rows) row.forEach((token, j) => (row[j] = token === UNKNOWN ? this.mask : token));
    const left = open.map((row) => this.left(row.filter(Boolean).length));
    const turns = this.order === "confidence" ? null : this.turns(noise, open, left);
    for (let step = 0; step < this.steps; step++) {
      const due = open.map((row, i) => row.map((is, j) =>
        is && (turns ? turns[i][j] === step : left[i][step + 1] < left[i][step])));
      if (due.some((row) => row.includes(true))) {
        const logits = await this.said(graphs[this.graph], rows, given);
        // A place that is set once needs one number, whatever the step.
        const u = noise.uniform(this.length, { draw: turns ? 0 : step }).data;
        const made = due.map((row, i) => row.map((is, j) =>
          (is ? choose(logits(i, j), u[i * this.length + j], this) : 0)));
        const set = turns ? due : this.surest(noise, logits, made, open, left, step);
        set.forEach((row, i) => row.forEach((is, j) => {
          if (!is) return;
          rows[i][j] = made[i][j];
          open[i][j] = false;
        }));
      }
      await progress(step + 1, this.steps);
    }
    return new Tensor(BigInt64Array.from(rows.flat(), BigInt), [n, this.length]);
  }

  /** Share of the places that is masked after 0 … steps steps, from 1 down to 0. */
  shares() {
    return Array.from({ length: this.steps + 1 }, (_, k) => {
      const r = k / this.steps;
      if (k === this.steps) return 0.0;
      return this.schedule === "linear" ? 1.0 - r : Math.cos(0.5 * Math.PI * r);
    });
  }

  /** (row, place) → logits (V), a Float64Array; led where the sampler has guidance. */
  async said(graph, rows, given) {
    const all = this.guidance === 1.0 ? rows : [...rows, ...rows];
    const tokens = new Tensor(BigInt64Array.from(all.flat(), BigInt), [all.length, this.length]);
    const [out] = await graph(tokens, ...given);
    const { data, shape } = this.guidance === 1.0 ? out : led(out, this.guidance);
    const size = shape.at(-1);
    return (i, j) => {
      const from = (i * this.length + j) * size;
      return Float64Array.from(data.subarray(from, from + size));
    };
  }

  /** What is known beforehand, −1 elsewhere. */
  given(conditions, n) {
    if (!this.prompt) return Array.from({ length: n }, () => Array(this.length).fill(UNKNOWN));
    return Array.from({ length: n }, (_, i) => Array.from(conditions[this.prompt].rows(i, 1).data, Number));
  }

  /** How many of a sample's places stay masked after 0 … steps steps. */
  left(places) {
    return this.shares().map((share) => Math.floor(places * share + HAIR));
  }

  /** The step in which each place is set, decided before the first. */
  turns(noise, open, left) {
    const { data } = noise.uniform(this.length, { stream: "step" });
    const after = this.shares().slice(1), when = this.order === "halton" ? haltonOrder(...this.grid) : null;
    return open.map((row, i) => {
      let u = Array.from(data.subarray(i * this.length, (i + 1) * this.length));
      if (this.order === "independent") {
        // Set once the masked share has fallen below u, which in step k has the chance mₖ₋₁ − mₖ.
        return u.map((value) => after.filter((share) => value <= share).length);
      }
      if (when) {
        const first = Math.floor(u[0] * this.length);
        u = when.map((place) => (place - first + this.length) % this.length);
      }
      const rank = ranks(u.map((value, j) => (row[j] ? value : Infinity)));
      const done = left[i].slice(1).map((count) => left[i][0] - count);
      return rank.map((place) => done.filter((count) => place >= count).length);
    });
  }

  /** Of the open places those with the likeliest tokens, as many as this step sets. */
  surest(noise, logits, made, open, left, step) {
    const { data } = noise.uniform(this.length, { stream: "step", draw: step });
    const scale = this.spread * this.shares()[step + 1];
    return open.map((row, i) => {
      const sure = row.map((is, j) => {
        const gumbel = -Math.log(-Math.log(data[i * this.length + j]));
        return is ? logProbability(logits(i, j), made[i][j]) + scale * gumbel : -Infinity;
      });
      const rank = ranks(sure.map((value) => -value));
      const count = row.filter(Boolean).length - left[i][step + 1];
      return row.map((is, j) => is && rank[j] < count);
    });
  }

  evaluations() {
    return this.steps;
  }

  graphsUsed() {
    return [...new Set([...Object.values(this.encoders), this.graph])];
  }
}

/** The place of each value in ascending order; equal ones in the order in which they stand. */
function ranks(values) {
  const order = Array.from(values.keys()).sort((a, b) => Number(values[a] > values[b]) - Number(values[a] < values[b]));
  const rank = Array(values.length);
  order.forEach((at, place) => (rank[at] = place));
  return rank;
}

/** When each place of a grid, row by row, is first met by the points (φ₂(i), φ₃(i)), i = 1, 2 …: a permutation. */
function haltonOrder(height, width) {
  const when = new Map();
  for (let i = 1; when.size < height * width; i++) {
    const row = Math.floor(radicalInverse(i, 2) * height), column = Math.floor(radicalInverse(i, 3) * width);
    const place = row * width + column;
    if (!when.has(place)) when.set(place, when.size);
  }
  return Array.from({ length: height * width }, (_, place) => when.get(place));
}

/** φ_base(i): the digits of i behind the point, in reverse. */
function radicalInverse(i, base) {
  let value = 0.0;
  for (let unit = 1.0 / base; i; unit /= base) {
    value += (i % base) * unit;
    i = Math.floor(i / base);
  }
  return value;
}

registerSampler(Masked);
