"""What a student and its teacher say of noised samples, as the sampler reads it, at any time of its path."""

from __future__ import annotations

import torch
from torch import Tensor

from niwaki.compression.distillation.rules import asked_conditions
from niwaki.core.contract import Batch, Context, GenerativeModel
from niwaki_runtime.samplers import Diffusion
from niwaki_runtime.samplers.backend import outputs

__all__ = ["Denoising"]


class Denoising:
    """The denoisers of models of one kind, asked about the samples of one batch.

    teacher: whose conditions and null values these are; it alone is clipped, as its sampler clips
    """

    def __init__(self, sampler: Diffusion, teacher: GenerativeModel, batch: Batch, ctx: Context) -> None:
        self.sampler, self.process, self.teacher = sampler, sampler.process, teacher
        graph = teacher.shipped_graphs()[sampler.graph]
        with torch.no_grad():
            self.asked = asked_conditions(teacher, sampler, graph, batch, ctx, 0.0)
            free = sampler.guidance != 1.0 and not sampler.guide
            self.empty = asked_conditions(teacher, sampler, graph, batch, ctx, 1.0) if free else self.asked

    def output(
        self, model: GenerativeModel, x: Tensor, time: Tensor, a: Tensor, s: Tensor, guidance: float = 1.0
    ) -> Tensor:
        """The network's own words, guided where asked.

        time: what the network is told of it, `(n,)`; a, s: α and σ, which broadcast against `x` `(n, …)`
        """
        graph = model.shipped_graphs()[self.sampler.graph]
        given = self.process.network_input(x, a, s), time
        out: Tensor = outputs(graph(*given, *self.asked))[0].float()
        if guidance != 1.0:
            guide = model.shipped_graphs()[self.sampler.guide] if self.sampler.guide else graph
            free = outputs(guide(*given, *self.empty))[0].float()
            out = free + guidance * (out - free)
        return out

    def predicted(
        self, model: GenerativeModel, x: Tensor, time: Tensor, a: Tensor, s: Tensor, guidance: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """(x₀, ε) of `x` = α x₀ + σ ε; arguments as of `output`."""
        out = self.output(model, x, time, a, s, guidance)
        x0, eps = self.process.conversion(self.sampler.prediction).to_x0_eps(x, out, a, s)
        if self.sampler.clip > 0.0 and model is self.teacher:
            x0 = x0.clip(-self.sampler.clip, self.sampler.clip)
            eps = (x - a * x0) / s if self.sampler.consistent else eps
        return x0, eps
