"""What the graphs are really given while sampling: the inputs that int8 ranges are taken from.

A GAN's generator is seen over latents and classes, a denoiser over all timesteps of its own trajectories, an
autoregressive model over its own samples with its own state: whatever the sampler does is what is recorded.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from torch import Tensor

from niwaki.contract import GenerativeModel, Graph

__all__ = ["SEED_BASE", "calibration_inputs"]

SEED_BASE = 1 << 40
"""Seeds of calibration samples start here; those of evaluation are below 2³², so the two never meet."""


class _Recorder:
    """A graph that keeps what it is called with."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.state = graph, graph.state
        self.calls: list[list[np.ndarray]] = []

    def __call__(self, *inputs: Tensor) -> Any:
        self.calls.append([x.detach().cpu().numpy().copy() for x in inputs])
        return self.graph(*inputs)

    @property
    def axes(self) -> list[int | None]:
        return [p.batch_axis for p in self.graph.inputs] + [s.batch_axis for s in self.graph.state]

    def row(self, call: int, i: int) -> dict[str, np.ndarray]:
        """Sample i of a call as a batch of one, by input name."""
        out = {}
        for name, axis, value in zip(self.graph.input_names, self.axes, self.calls[call], strict=True):
            out[name] = value if axis is None else np.take(value, [i % value.shape[axis]], axis=axis)
        return out

    def rows(self, call: int) -> int:
        sizes = [v.shape[a] for v, a in zip(self.calls[call], self.axes, strict=True) if a is not None]
        return sizes[0] if sizes else 1


def calibration_inputs(
    model: GenerativeModel, n: int, *, seed: int = 0, **overrides: Any
) -> dict[str, list[dict[str, np.ndarray]]]:
    """About `n` inputs of each graph, each a batch of one, from real sampling: graph → list of input name → array.

    They are spread evenly over the calls (timesteps, positions) and over samples, whose classes follow each other.
    overrides: fields of the sampler, as in `sample`
    """
    sampler = model.sampler().override(**overrides)
    calls = max(1, sampler.evaluations())
    samples = max(-(-n // calls), min(n, 32))
    recorders = {name: _Recorder(graph) for name, graph in model.graphs().items()}
    recording = copy.copy(model)  # the same modules; only its graphs are watched
    recording.__dict__["graphs"] = lambda: recorders
    was_training = model.training
    model.eval()
    try:
        recording.sample(samples, seed=SEED_BASE + seed, batch=samples, **overrides)
    finally:
        model.train(was_training)
    return {name: _spread(r, n) for name, r in recorders.items() if r.calls}


def _spread(recorder: _Recorder, n: int) -> list[dict[str, np.ndarray]]:
    """n (call, row) pairs, calls in turn; no pair twice while there are others."""
    count = len(recorder.calls)
    picked = []
    for i in range(min(n, sum(recorder.rows(c) for c in range(count)))):
        call = i % count
        # Neighbouring calls take different samples, so that every timestep sees every class in time.
        picked.append(recorder.row(call, (i // count + call) % recorder.rows(call)))
    return picked
