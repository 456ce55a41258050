"""Diffusion in fewer steps: a student whose one step is worth several of its teacher's.

Times, levels and predictions are those of the sampler's process (`niwaki_runtime.process`), whichever it is;
every sample of a batch has its own time. A guided teacher is imitated as it is guided, so that the student
needs one call per step.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from niwaki.compression.distillation.config import DistillConfig
from niwaki.compression.distillation.denoising import Denoising
from niwaki.compression.distillation.distances import pseudo_huber
from niwaki.compression.distillation.rules import clean_of
from niwaki.core.contract import Batch, CallError, Context, GenerativeModel, Phase, Trainable
from niwaki_runtime.samplers import Diffusion

__all__ = ["Consistency", "FewerSteps", "OnGrid", "Progressive", "diffusion_of"]


def diffusion_of(model: GenerativeModel) -> Diffusion:
    """The one diffusion among the model's samplers. Raises CallError where there is none, or several."""
    found = model.sampler().parts_of(Diffusion)
    if len(found) != 1:
        raise CallError(f"'{model.name}' does not sample by one diffusion, so it has no steps to save")
    return found[0]


def _visiting(sampler: Diffusion, visits: int) -> Diffusion:
    """The teacher's sampler on a grid of so many times, of which a coarser one can be a part."""
    return replace(sampler, process=sampler.process.nested(), solver="euler", steps=visits)


class FewerSteps(Trainable):
    """A student and the frozen teacher that it starts from.

    visits: steps of the sampler whose times are meant
    """

    def __init__(
        self, student: GenerativeModel, teacher: GenerativeModel, config: DistillConfig, visits: int
    ) -> None:
        super().__init__()
        self.student, self.config = student, config
        self._teacher = (teacher.eval().requires_grad_(False),)  # in a tuple: no submodule
        self.sampler = _visiting(diffusion_of(teacher), visits)
        if self.sampler.self_conditioning:
            raise CallError(
                f"'{teacher.name}' is given its own estimates from step to step, which a student of fewer "
                "steps would not have; train it with 'self_conditioning: false'"
            )

    @property
    def teacher(self) -> GenerativeModel:
        return self._teacher[0]

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self.teacher._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("distill", self._denoiser_of("student")),)

    def _denoiser_of(self, member: str) -> tuple[str, ...]:
        """Names of the parameters that the denoiser of a model has, which is the attribute `member`."""
        model: GenerativeModel = getattr(self, member)
        module = model.shipped_graphs()[self.sampler.graph].module
        wanted = {id(p) for p in module.parameters()}
        return tuple(f"{member}.{n}" for n, p in model.named_parameters() if id(p) in wanted)

    def rates(self) -> dict[str, float]:
        return {"distill": self.config.lr}

    def after_step(self, ctx: Context) -> None:
        self.student.after_step(ctx)

    def _clean(self, batch: Batch) -> Tensor:
        """What noise is added to. Raises CallError where the batch does not hold it."""
        clean = clean_of(self.teacher, self.sampler, batch)
        if clean is None:
            raise CallError(f"the data are not what '{self.student.name}' takes noise from")
        return clean


class OnGrid(FewerSteps):
    """A student that is asked at the times of a grid alone.

    visits: how many times the grid has
    """

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        clean = self._clean(batch)
        n, device = len(batch), batch.x.device
        at = torch.randint(0, self._starts(), (n,), generator=ctx.rng, device=device) * self._stride()
        eps = torch.randn(clean.shape, generator=ctx.rng, device=device)
        walk = _Walk(self, device, batch, ctx)
        a, s = walk.levels(at)
        x = a * clean + s * eps
        return {f"distill_{self.config.method}": self._distance(walk, x, at)}

    def _starts(self) -> int:
        """How many places of the grid the student is asked at."""
        return self.sampler.steps

    def _stride(self) -> int:
        return 1

    @abstractmethod
    def _distance(self, walk: _Walk, x: Tensor, at: Tensor) -> Tensor:
        """What is minimised, for noised samples `x` at the places `at` of the grid."""


class _Walk:
    """Steps along the grid for one batch, each sample at its own place."""

    def __init__(self, both: FewerSteps, device: torch.device, batch: Batch, ctx: Context) -> None:
        self.sampler, self.student, self.teacher = both.sampler, both.student, both.teacher
        self.process = self.sampler.process
        times = self.process.times(self.sampler.steps)
        self.times = torch.tensor([self.process.network_time(t) for t in times], dtype=torch.float32).to(
            device
        )
        levels = torch.tensor(self.process.levels(self.sampler.steps), dtype=torch.float32, device=device)
        self.alphas, self.sigmas = levels.unbind(1)  # one more than there are times: the end
        self.denoising = Denoising(self.sampler, self.teacher, batch, ctx)

    def levels(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """α and σ at places of the grid, to be broadcast against samples."""
        shape = (-1, *[1] * len(self.sampler.shape))
        return self.alphas[at].reshape(shape), self.sigmas[at].reshape(shape)

    def predicted(
        self, model: GenerativeModel, x: Tensor, at: Tensor, guidance: float
    ) -> tuple[Tensor, Tensor]:
        """(x₀, ε) as the sampler would see them, clipped where it clips."""
        return self.denoising.predicted(model, x, self.times[at], *self.levels(at), guidance)

    @torch.no_grad()
    def taught(self, x: Tensor, at: Tensor) -> Tensor:
        """One step of Euler (that is, DDIM) of the (guided) teacher: x at the next place of the grid."""
        x0, eps = self.predicted(self.teacher, x, at, self.sampler.guidance)
        a, s = self.levels(at + 1)
        return a * x0 + s * eps


class Progressive(OnGrid):
    """One step of the student does what two of the teacher do (Salimans & Ho 2022, Algorithm 2).

    steps: of the student; the teacher takes twice as many
    """

    def __init__(
        self, student: GenerativeModel, teacher: GenerativeModel, config: DistillConfig, steps: int
    ) -> None:
        super().__init__(student, teacher, config, 2 * steps)

    def _starts(self) -> int:
        return self.sampler.steps // 2

    def _stride(self) -> int:
        return 2  # nested times of N steps are every other one of 2N

    def _distance(self, walk: _Walk, x: Tensor, at: Tensor) -> Tensor:
        there = walk.taught(walk.taught(x, at), at + 1)
        (a, s), (a_end, s_end) = walk.levels(at), walk.levels(at + 2)
        # The x₀ from which one such step leads to the same place: x'' = α'' x₀ + (σ''/σ) (x − α x₀)
        target = (there - (s_end / s) * x) / (a_end - (s_end / s) * a)
        made, _ = walk.predicted(walk.student, x, at, 1.0)
        weight = (a / s).square().clamp_min(1.0)  # truncated SNR, Section 4
        return (weight * (made - target).square()).mean()


class Consistency(OnGrid):
    """From anywhere on the teacher's path the student says the same end (Song et al. 2023, Algorithm 2).

    The student that is believed is itself without gradient (μ = 0), and the distance the pseudo-Huber of
    Song & Dhariwal 2023, Section 3.3. At the clean end x₀ = x holds for every prediction type, as a sample's
    noise vanishes: no boundary has to be forced.
    """

    def _distance(self, walk: _Walk, x: Tensor, at: Tensor) -> Tensor:
        later = walk.taught(x, at)
        last = (at + 1 == self.sampler.steps).reshape(-1, *[1] * (x.ndim - 1))
        with torch.no_grad():
            believed, _ = walk.predicted(walk.student, later, (at + 1).clamp(max=self.sampler.steps - 1), 1.0)
            target = torch.where(last, later, believed)
        made, _ = walk.predicted(walk.student, x, at, 1.0)
        return pseudo_huber(made, target).mean()
