"""What the graphs are really given while sampling: the inputs that int8 ranges are taken from.

A GAN's generator is seen over latents and classes, a denoiser over all timesteps of its own trajectories, an
autoregressive model over its own samples with its own state: whatever the sampler does is what is recorded.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from niwaki.compression.seeds import CALIBRATION
from niwaki.contract import GenerativeModel
from niwaki.deployment.parity import Recorder, record_calls

__all__ = ["calibration_inputs"]


def calibration_inputs(
    model: GenerativeModel, n: int, *, seed: int = 0, condition: Any = None, **overrides: Any
) -> dict[str, list[dict[str, np.ndarray]]]:
    """About `n` inputs of each graph, each a batch of one, from real sampling: graph → [input name → array].

    They are spread evenly over the calls (timesteps, positions) and over samples, whose classes follow each
    other unless `condition` says otherwise.
    overrides: fields of the sampler, as in `sample`
    """
    calls = max(1, model.sampler().override(**overrides).evaluations())
    samples = max(-(-n // calls), min(n, 32))
    _, recorded = record_calls(model, samples, seed=CALIBRATION + seed, condition=condition, **overrides)
    return {name: _spread(recorder, n) for name, recorder in recorded.items()}


def _spread(recorder: Recorder, n: int) -> list[dict[str, np.ndarray]]:
    """n pairs of a call and a row of it, the calls in turn; no pair twice while there are others."""
    graph, calls = recorder.graph, [inputs for inputs, _ in recorder.calls]
    axes = [p.batch_axis for p in graph.inputs] + [s.batch_axis for s in graph.state]

    def rows(call: int) -> int:
        return next((v.shape[a] for v, a in zip(calls[call], axes, strict=True) if a is not None), 1)

    def one(call: int, row: int) -> dict[str, np.ndarray]:
        return {
            name: value if axis is None else np.take(value, [row], axis=axis)
            for name, axis, value in zip(graph.input_names, axes, calls[call], strict=True)
        }

    picked = []
    for i in range(min(n, sum(map(rows, range(len(calls)))))):
        call = i % len(calls)
        # Neighbouring calls take different samples, so that every stretch of timesteps sees every class.
        picked.append(one(call, (i // len(calls) + call) % rows(call)))
    return picked
