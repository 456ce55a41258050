"""Distribution matching distillation: samples that the teacher finds as likely as they are frequent.

Yin et al. 2024 ("DMD") and 2024 ("DMD2"). Pairs of noise and sample are not imitated. A third network, the
fake denoiser, learns what the student makes; where it and the teacher say different ends of the same noised
sample, the student moves towards the teacher's: the gradient of KL(student ‖ teacher) at that noise level. It
vanishes where both distributions are equal, so that nothing draws samples to a mean. A critic (`adversarial`)
compares them with real ones, which repairs what the teacher itself gets wrong.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from niwaki.compression.distillation.config import DistillConfig
from niwaki.compression.distillation.critic import Critic, critic_loss, fooling_loss
from niwaki.compression.distillation.denoising import Denoising
from niwaki.compression.distillation.fewer_steps import FewerSteps
from niwaki.core.contract import Batch, CallError, Context, GenerativeModel, Phase
from niwaki.nn.diffusion import TensorProcess, columns, noised

__all__ = ["DistributionMatching", "matching_direction"]

FAKE_UPDATES = 2
"""Updates of the fake denoiser for each of the student, on the samples that it has just made, at fresh noise
(two time scales; DMD2, Section 4.2, uses 5)."""


def matching_direction(x0: Tensor, fake: Tensor, real: Tensor) -> Tensor:
    """(μ_fake − μ_real) / mean |x₀ − μ_real| of each sample: DMD's gradient with its weight (Yin et al.
    2024, Equations 7 and 8). All are `(n, *shape)`."""
    size = (x0 - real).abs().flatten(1).mean(1).clamp_min(1e-6)
    return (fake - real) / columns(size, x0)


class DistributionMatching(FewerSteps):
    """The student is the generator that `consistency` samples with: it jumps to the end, is noised to the
    next of its few times, and jumps again. One of the jumps is trained in each step, in turns, on what the
    jumps before it made (DMD2, Section 4.5), so that it is trained on what it will see."""

    def __init__(
        self, student: GenerativeModel, teacher: GenerativeModel, config: DistillConfig, visits: int
    ) -> None:
        super().__init__(student, teacher, config, visits)
        self.path = TensorProcess(self.sampler.process)
        self.fake = copy.deepcopy(teacher).requires_grad_(True)
        if config.adversarial > 0:
            if self.sampler.shape != student.spec.shape:
                raise CallError(
                    f"'adversarial' compares samples with real ones, and '{student.name}' takes noise from "
                    "latents; leave it out"
                )
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # the same critic in every resumed training
                self.critic = Critic(student.spec)

    def phases(self) -> tuple[Phase, ...]:
        critic = (Phase("critic", ("critic",), fresh_batch=False),) if self.config.adversarial > 0 else ()
        return (
            Phase("distill", self._denoiser_of("student")),
            Phase("fake", self._denoiser_of("fake"), repeats=FAKE_UPDATES, fresh_batch=False),
            *critic,
        )

    def rates(self) -> dict[str, float]:
        own = {"critic": self.config.own_lr}
        return {p.name: own.get(p.name, self.config.lr) for p in self.phases()}

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        clean = self._clean(batch)
        denoising = Denoising(self.sampler, self.teacher, batch, ctx)
        labels = batch.get("class")
        if phase == "distill":
            fresh = self.made(denoising, clean, ctx)
            ctx.shared["made"] = fresh.detach()
            terms = {"distill_distribution_matching": self._mismatch(denoising, fresh, ctx)}
            if self.config.adversarial > 0:
                terms["adversarial"] = self.config.adversarial * fooling_loss(self.critic(fresh, labels))
            return terms
        made = ctx.shared.get("made")
        if made is None:
            with torch.no_grad():
                made = self.made(denoising, clean, ctx)
        if phase == "critic":
            return {"critic": critic_loss(self.critic(clean, labels), self.critic(made, labels))}
        return {"fake": self._denoised(denoising, made, ctx)}

    def made(self, denoising: Denoising, like: Tensor, ctx: Context) -> Tensor:
        """Samples of the student, shaped like `like`, with gradient through the last jump alone."""
        process, steps = self.sampler.process, self.sampler.steps
        times, levels = process.times(steps), process.levels(steps)

        def normal() -> Tensor:
            return torch.randn(like.shape, generator=ctx.rng, device=like.device)

        x, last = process.start_scale(steps) * normal(), ctx.step % steps
        for i in range(last + 1):
            with torch.set_grad_enabled(i == last and torch.is_grad_enabled()):
                a, s = (like.new_tensor(level) for level in levels[i])
                time = like.new_full((len(like),), process.network_time(times[i]))
                x0, _ = denoising.predicted(self.student, x, time, a, s)
            if i < last:
                x = levels[i + 1][0] * x0.detach() + levels[i + 1][1] * normal()
        return x0

    def _denoised(self, denoising: Denoising, made: Tensor, ctx: Context) -> Tensor:
        """The loss of a diffusion model, on the student's samples."""
        process, said = self.sampler.process, self.sampler.prediction
        x, t, eps, a, s = self._noised(made, ctx)
        out = denoising.output(self.fake, x, self.path.network_time(t), a, s)
        error = (out - process.conversion(said).target(made, eps, a, s)).square()
        return (process.loss_weight(said, a, s) * error).mean()

    def _mismatch(self, denoising: Denoising, made: Tensor, ctx: Context) -> Tensor:
        """½ ‖x₀ − sg(x₀ − g)‖², whose gradient is g = `matching_direction`."""
        with torch.no_grad():
            x, t, _, a, s = self._noised(made, ctx)
            time = self.path.network_time(t)
            real, _ = denoising.predicted(self.teacher, x, time, a, s, self.sampler.guidance)
            fake, _ = denoising.predicted(self.fake, x, time, a, s)
            target = made - matching_direction(made, fake, real)
        return 0.5 * (made - target).square().mean()

    def _noised(self, made: Tensor, ctx: Context) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(x, t, ε, α, σ) at times that the process draws for training."""
        t = self.path.draw(len(made), ctx.rng)
        eps = torch.randn(made.shape, generator=ctx.rng, device=made.device)
        a, s = (columns(level, made) for level in self.path.levels(t))
        return noised(made, eps, a, s), t, eps, a, s
