/** Images pixel by pixel, from left to right and from top to bottom: what is known of the rows above is read once
 * for each row. */

import { CallError } from "../errors.js";
import { blankState, carry } from "../reading.js";
import { asked, registerSampler, Sampler } from "../sampler.js";
import { Tensor } from "../tensor.js";
import { checkChoice, choose } from "../tokens.js";

/**
 *   above, ...state = row(levels of the row above, ...conditions, ...state)
 *   hidden, ...state = pixel(levels of the pixel to the left, above at this column, ...conditions, ...state)
 *   logits = channel(hidden, levels of this pixel, as far as they are known)
 *
 * What is not there is level `levels`. The state of `row` goes on from row to row, that of `pixel` begins anew in
 * every row. The value of level k is low + step·k.
 */
export class Raster extends Sampler {
  static kind = "raster";
  static fields = {
    shape: [1, 1, 1], levels: 2, low: 0.0, step: 1.0, row: "row", pixel: "pixel", channel: "channel",
    conditions: [], temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0,
  };

  constructor(fields) {
    super(fields);
    if (this.shape.length !== 3 || this.levels < 2) {
      throw new CallError(
        "the sampler 'raster' needs images (C, H, W) of 2 levels or more, "
        + `not (${this.shape.join(", ")}) and ${this.levels}`,
      );
    }
    checkChoice(this);
  }

  async run(graphs, noise, conditions, progress) {
    const row = graphs[this.row], pixel = graphs[this.pixel], channel = graphs[this.channel];
    const given = asked(conditions, this.conditions), { n } = noise;
    const [count, height, width] = this.shape;
    const nothing = (...sides) => Tensor.full([n, ...sides], BigInt(this.levels), BigInt64Array);
    const made = new Float32Array(n * count * height * width);
    let before = nothing(count, width), rows = blankState(row, n), above, hidden;
    for (let i = 0; i < height; i++) {
      [above, rows] = await call(row, [before, ...given], rows);
      let cells = blankState(pixel, n), left = nothing(count);
      before = nothing(count, width);
      for (let j = 0; j < width; j++) {
        [hidden, cells] = await call(pixel, [left, above.column(j), ...given], cells);
        left = nothing(count);
        for (let k = 0; k < count; k++) {
          const logits = (await channel(hidden, left))[0].column(k);
          const u = noise.uniform(1, { draw: (i * width + j) * count + k }).data;
          for (let s = 0; s < n; s++) {
            const level = choose(Float64Array.from(logits.rows(s, 1).data), u[s], this);
            left.data[s * count + k] = before.data[(s * count + k) * width + j] = BigInt(level);
            made[((s * count + k) * height + i) * width + j] = this.low + this.step * level;
          }
        }
        await progress(i * width + j + 1, height * width);
      }
    }
    return new Tensor(made, [n, count, height, width]);
  }

  graphsUsed() {
    return [this.row, this.pixel, this.channel];
  }

  /** Of the network of pixels; that of rows is called once for each row. */
  evaluations() {
    return this.shape[1] * this.shape[2];
  }
}

/** The output of a graph, and its state after the call. */
async function call(graph, inputs, state) {
  const [out, ...news] = await graph(...inputs, ...state);
  return [out, carry(state, news, 0)];
}

registerSampler(Raster);
