"""Reflow: a student whose paths are straighter than its teacher's, so that few steps follow them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from niwaki.compression.distillation.config import DistillConfig
from niwaki.compression.distillation.fewer_steps import FewerSteps, diffusion_of
from niwaki.compression.distillation.rules import asked_conditions
from niwaki.core.contract import Batch, CallError, Context, GenerativeModel
from niwaki_runtime.samplers import Noise
from niwaki_runtime.samplers.backend import outputs

__all__ = ["Reflow"]


class Reflow(FewerSteps):
    """The student is trained as its teacher was, on pairs of noise and the sample that the teacher makes of
    it instead of pairs drawn apart (Liu, Gong & Liu 2023, Algorithm 1). Such pairs do not cross, so that what
    the network says is the same all along a path, on every process: where α and σ bend it, Euler's step in x₀
    and ε bends with it.

    The pairs are made when training begins, by the teacher's own sampler as it is guided, with the conditions
    of the training data, and used again and again; they are buffers, so that a training that was stopped goes
    on with them.

    visits: how many times the grid has, from the sampler's first one on
    """

    noise: Tensor  # (pairs, *shape)
    made: Tensor

    def __init__(
        self, student: GenerativeModel, teacher: GenerativeModel, config: DistillConfig, visits: int
    ) -> None:
        super().__init__(student, teacher, config, visits)
        graph, shape = teacher.shipped_graphs()[self.sampler.graph], self.sampler.shape
        self.register_buffer("noise", torch.zeros(config.pairs, *shape))
        self.register_buffer("made", torch.zeros(config.pairs, *shape))
        self._conditions = [f"condition_{k}" for k in range(len(graph.inputs) - 2)]
        for name, port in zip(self._conditions, graph.inputs[2:], strict=True):
            empty = torch.zeros((config.pairs, *port.shape[1:]), dtype=getattr(torch, port.dtype))
            self.register_buffer(name, empty)

    @torch.no_grad()
    def begin_stage(self, ctx: Context, batches: Callable[[int], Batch]) -> None:
        """Make the pairs."""
        teacher = self._teacher[0]
        graphs, sampler = teacher.shipped_graphs(), diffusion_of(teacher)
        scale = sampler.start_scale * sampler.process.start_scale(sampler.steps)
        a, s = sampler.process.levels(sampler.steps)[0]
        seed = int(torch.randint(2**31, (), generator=ctx.rng, device=ctx.rng.device))
        done = k = 0
        while done < len(self.made):
            batch = _first(batches(k), len(self.made) - done)
            n, rows = len(batch), slice(done, done + len(batch))
            asked = asked_conditions(teacher, sampler, graphs[sampler.graph], batch, ctx, 0.0)
            noise = Noise(teacher.backend(), seed, done, n)
            made = sampler(graphs, noise, {name: batch[name] for name in sampler.conditions})  # type: ignore[arg-type]
            start = scale * noise.normal(sampler.shape)
            self.made[rows] = made
            self.noise[rows] = (start - a * made) / s  # so that the path begins where sampling does
            for name, value in zip(self._conditions, asked, strict=True):
                getattr(self, name)[rows] = value
            done, k = done + n, k + 1

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """E w ‖target − prediction‖² over pairs and places of the grid, all alike likely."""
        process, n, device = self.sampler.process, len(batch), batch.x.device
        rows = torch.randint(0, len(self.made), (n,), generator=ctx.rng, device=device)
        at = torch.randint(0, self.sampler.steps, (n,), generator=ctx.rng, device=device)
        clean, eps = self.made[rows], self.noise[rows]
        levels = torch.tensor(process.levels(self.sampler.steps), dtype=torch.float32, device=device)[at]
        a, s = (v.reshape(-1, *[1] * (clean.ndim - 1)) for v in levels.unbind(1))
        told = [process.network_time(t) for t in process.times(self.sampler.steps)]
        times = torch.tensor(told, dtype=torch.float32, device=device)[at]
        asked = [getattr(self, name)[rows] for name in self._conditions]
        graph = self.student.shipped_graphs()[self.sampler.graph]
        said: Any = outputs(graph(process.network_input(a * clean + s * eps, a, s), times, *asked))[0]
        target = process.conversion(self.sampler.prediction).target(clean, eps, a, s)
        weight = process.loss_weight(self.sampler.prediction, a, s)
        return {"distill_reflow": (weight * (said.float() - target).square()).mean()}


def _first(batch: Batch, n: int) -> Batch:
    """At most n rows. Raises CallError for a batch of none."""
    if not len(batch):
        raise CallError("there are no training samples whose conditions pairs could have")
    return batch.map(lambda rows: rows[:n])
