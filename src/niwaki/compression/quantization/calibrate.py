"""What the graphs are really given while sampling: the inputs that int8 ranges are taken from.

A GAN's generator is seen over latents and classes, a denoiser over all timesteps of its own trajectories, an
autoregressive model over its own samples with its own state: whatever the sampler does is what is recorded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from niwaki.compression.seeds import CALIBRATION
from niwaki.core.backend import TorchBackend
from niwaki.core.contract import GenerativeModel, Graph
from niwaki.data.inputs import inputs_of
from niwaki.deployment.parity import sample_through
from niwaki_runtime.programs import SAMPLING
from niwaki_runtime.samplers import Sampler
from niwaki_runtime.specs import resolve

__all__ = ["InputRecorder", "calibration_inputs"]

Inputs = dict[str, np.ndarray]


def calibration_inputs(
    model: GenerativeModel, n: int, *, seed: int = 0, condition: Any = None, **overrides: Any
) -> dict[str, list[Inputs]]:
    """About `n` inputs of each graph, each a batch of one, from real sampling: graph → [input name → array].

    They are spread evenly over the calls (timesteps, positions) and over samples, whose classes follow each
    other unless `condition` says otherwise. A graph that reads many tokens at once is given the samples
    themselves, stride by stride: without prompts sampling would show it nothing but filling.
    Graphs that `sample` does not call (an encoder, a translator back) are seen in the shipped programs that
    call them. `condition`, where it comes from a split (`split_inputs`), gives their inputs, too.
    overrides: fields of the sampler, as in `sample`
    """
    if "ahead" in model.sampler().options():  # calls of one token each show the network all that it reads
        overrides = {"ahead": "", **overrides}
    sampler = model.sampler().override(**overrides)
    samples = max(-(-n // max(1, sampler.evaluations())), min(n, 32))
    graphs = {name: InputRecorder(graph, n) for name, graph in model.shipped_graphs().items()}
    made = sample_through(model, graphs, samples, seed=CALIBRATION + seed, condition=condition, **overrides)
    if sampler.forceable and len(sampler.graphs_used()) > 1:
        readers = [name for name in sampler.graphs_used()[1:] if name in graphs]
        graphs |= {name: InputRecorder(model.graphs()[name], n) for name in readers}
        _read_again(model, graphs, sampler, made, condition)
    _other_programs(model, graphs, n, CALIBRATION + seed, condition)
    return {name: recorder.spread() for name, recorder in graphs.items() if recorder.calls}


def _other_programs(
    model: GenerativeModel, graphs: dict[str, InputRecorder], n: int, seed: int, condition: Any
) -> None:
    """Run the shipped programs that call a graph which nothing has called yet."""
    for name, program in model.shipped_programs().items():
        unseen = [g for g in program.sampler.graphs_used() if not graphs[g].calls]
        if name == SAMPLING or not unseen:
            continue
        rows = max(1, -(-n // program.sampler.evaluations()))
        asked = inputs_of(model, name, rows, condition)
        recorders = {g: graphs[g] if g in unseen else model.graphs()[g] for g in graphs}
        sample_through(model, recorders, rows, program=name, seed=seed, condition=asked)


@torch.no_grad()
def _read_again(
    model: GenerativeModel,
    graphs: dict[str, InputRecorder],
    sampler: Sampler,
    samples: np.ndarray,
    condition: Any,
) -> None:
    backend = TorchBackend(next(model.parameters()).device)
    rows = resolve(model.conditions, condition, 0, len(samples))
    asked = {name: backend.asarray(row) for name, row in rows.items()}
    was_training = model.training
    model.eval()
    try:
        sampler.forced(graphs, samples, backend, asked)
    finally:
        model.train(was_training)


class InputRecorder:
    """A graph that remembers rows of what it is asked, about `n` to twice as many and evenly, however often
    it is called: all calls of a language model, with their caches, would be gigabytes.

    Of call c the rows c, c + 1 … are kept, counted around: neighbouring calls show different samples, so that
    every stretch of timesteps sees every class. Where there are too many, every call gives up half of its
    rows; once each has one row left, every second call goes.
    """

    def __init__(self, graph: Graph, n: int) -> None:
        self.graph, self.state, self.n = graph, graph.state, n
        self.axes = [p.batch_axis for p in graph.inputs] + [s.batch_axis for s in graph.state]
        self.calls: dict[int, list[Inputs]] = {}
        self._count, self._every, self._rows = 0, 1, 1 << 30

    def __call__(self, *inputs: Tensor) -> Any:
        if self._count % self._every == 0:
            self._keep(inputs)
        self._count += 1
        return self.graph(*inputs)

    def _keep(self, inputs: tuple[Tensor, ...]) -> None:
        batch = next((v.shape[a] for v, a in zip(inputs, self.axes, strict=True) if a is not None), 1)
        self.calls[self._count] = [
            self._row(inputs, (self._count + k) % batch) for k in range(min(batch, self._rows))
        ]
        while sum(map(len, self.calls.values())) > max(2 * self.n, 2):
            longest = max(map(len, self.calls.values()))
            if longest > 1:
                self._rows = -(-longest // 2)
                self.calls = {c: rows[: self._rows] for c, rows in self.calls.items()}
            else:
                self._every *= 2
                self.calls = {c: rows for c, rows in self.calls.items() if c % self._every == 0}

    def _row(self, inputs: tuple[Tensor, ...], row: int) -> Inputs:
        named = zip(self.graph.input_names, self.axes, inputs, strict=True)
        return {
            name: (x if axis is None else x.narrow(axis, row, 1)).detach().cpu().numpy().copy()
            for name, axis, x in named
        }

    def spread(self) -> list[Inputs]:
        """n of the rows, evenly over the calls: a first row of every call, then second ones …"""
        held = list(self.calls.values())
        picked: list[Inputs] = []
        for k in range(max(map(len, held))):
            row = [rows[k] for rows in held if len(rows) > k]
            left = self.n - len(picked)
            picked += row if len(row) <= left else [row[i * len(row) // left] for i in range(left)]
        return picked
