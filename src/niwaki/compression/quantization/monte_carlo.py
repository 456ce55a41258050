"""Monte-Carlo quantization: a weight becomes the number of samples that hit it.

Mordido, Van Keirsbilck & Keller, "Instant quantization of neural networks using Monte Carlo methods", 2019
(https://arxiv.org/abs/1905.12253). Small weights are mostly missed, so that quantizing prunes at once.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from niwaki.core.contract import NiwakiError
from niwaki.surgery.quantized import QuantizedLayer, Quantizer

__all__ = ["Sampled", "hit_counts", "sample_layers", "sample_weights"]


@dataclass(frozen=True)
class Sampled:
    """What sampling made of one layer.

    weights, zeros: weights, and those that no sample hit
    most:           the largest number of hits of one weight
    samples:        taken of each distribution, and fewer than asked for where `held` is true
    """

    weights: int
    zeros: int
    most: int
    samples: tuple[int, ...]
    held: bool

    @property
    def bits(self) -> int:
        """That hold every count and its sign."""
        return self.most.bit_length() + 1


def hit_counts(weights: np.ndarray, samples: int, offset: float) -> np.ndarray:
    """How many of K stratified samples of p_i = |w_i| / Σ|w| fall on each of the weights (n,), signed.

    The samples are u_k = (k + ξ)/K, k = 0 … K−1 with one `offset` ξ in 0 … 1 for all: a weight
    is hit ⌊K·p_i⌋ or ⌈K·p_i⌉ times, K·p_i times in expectation over ξ, and all of them K times. Weights of
    zero are never hit; nor is anything where all are zero.
    """
    size = np.abs(weights.astype(np.float64))
    total = size.sum()
    if total == 0:
        return np.zeros(len(size), np.int64)
    # u_k < P  ⇔  k < K·P − ξ, of which there are ⌈K·P − ξ⌉.
    ends = np.cumsum(size) / total
    ends[np.flatnonzero(size)[-1] :] = 1.0  # rounding must not leave a sample over
    below = np.ceil(samples * ends - offset).clip(0, samples).astype(np.int64)
    return np.diff(below, prepend=0) * np.sign(weights).astype(np.int64)


@torch.no_grad()
def sample_weights(layer: QuantizedLayer, samples: float, rng: np.random.Generator) -> Sampled:
    """Make the layer's weights w_i = n_i · Σ|w|/K, with n_i hits of K samples, in place: levels of its grid.

    samples: K by weight. Each scale of the grid (layer, channel, group) is a distribution of its own. Where
             the largest weight could be hit more often than the grid counts, K is what the grid allows.
    Raises NiwakiError for a layer whose grid is not symmetric.
    """
    quantizer, weight = layer.weight_quantizer, layer._parameters["weight"]
    assert weight is not None
    if not isinstance(quantizer, Quantizer) or quantizer.low != -quantizer.high:
        raise NiwakiError("counts of hits need a symmetric grid of integers")
    rows = quantizer.rows(weight.detach()).cpu().double().numpy()
    wanted = max(1, round(samples * rows.shape[1]))
    hits, scales, taken = np.zeros_like(rows, dtype=np.int64), np.zeros(len(rows)), []
    for i, row in enumerate(rows):
        total = np.abs(row).sum()
        share = np.abs(row).max() / total if total else 0.0
        k = min(wanted, max(1, int(quantizer.high / share))) if share else wanted
        hits[i] = hit_counts(row, k, rng.random())
        scales[i] = total / k
        taken.append(k)
    # Rows of zeros get a scale that divides a bias without leaving the range of 32 bits.
    scales[scales == 0] = scales.max() or 1.0
    quantizer.set(torch.from_numpy(scales).float())
    step = quantizer.scale.reshape(-1, 1)
    weight.copy_(quantizer.from_rows(torch.from_numpy(hits).float().to(step) * step, weight))
    most = int(np.abs(hits).max())
    return Sampled(hits.size, int((hits == 0).sum()), most, tuple(taken), min(taken) < wanted)


def sample_layers(
    layers: Mapping[str, QuantizedLayer], samples: float, seed: int
) -> tuple[dict[str, Sampled], tuple[str, ...]]:
    """`sample_weights` of every layer with integer weights, in place, each with a seed of its own; by name,
    and what to tell of them."""
    found: dict[str, Sampled] = {}
    for name, layer in layers.items():
        if isinstance(layer.weight_quantizer, Quantizer):
            rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
            found[name] = sample_weights(layer, samples, rng)
    if not found:
        return found, ()
    zeros = sum(s.zeros for s in found.values()) / sum(s.weights for s in found.values())
    bits = max(s.bits for s in found.values())
    notes = [f"weights sampled: {zeros:.0%} are zero, {bits} bits hold all counts"]
    held = sum(s.held for s in found.values())
    notes += [f"{held} layers took fewer samples than asked for: their bits count no further"] if held else []
    return found, tuple(notes)
