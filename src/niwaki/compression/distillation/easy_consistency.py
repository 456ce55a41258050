"""Easy consistency tuning (ECT; Geng, Pokle, Luo, Lin & Kolter 2024): a diffusion model is tuned until it
says the end of its path from anywhere.

Two noised copies of one real sample, with the same noise, at a time t and an earlier one r: what the student
says at t is drawn to what it says at r, without gradient there. It begins with wide gaps (r = 0 is the loss
of the diffusion model that it was) and ends with narrow ones. Times are the process's own, whichever it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from niwaki.compression.distillation.config import DistillConfig
from niwaki.compression.distillation.denoising import Denoising
from niwaki.compression.distillation.distances import pseudo_huber
from niwaki.compression.distillation.fewer_steps import FewerSteps
from niwaki.core.contract import Batch, Context, GenerativeModel
from niwaki.nn.diffusion import TensorProcess, columns, noised

__all__ = ["EasyConsistency"]

FEWEST, MOST, STAGE = 3, 8, 200
"""The gap is halved in so many stages of even length: one for each `STAGE` steps of training. The narrower it
is, the more steps it takes to be learnt, and a chain of gaps that were not leads nowhere."""
WIDER, FALL = 8.0, 1.0
"""k and b of n(t) = 1 + k / (1 + exp(b t)): gaps are wider where there is little noise (Section 3.3)."""
ASKED = 0.25
"""Share of the times that are those at which the sampler will ask."""


class EasyConsistency(FewerSteps):
    """f(x_t) = sg f(x_r) with x_t, x_r of the same real sample and noise, r → t (Equations 10 to 14).

    f is x₀ as the sampler reads the network, and f(x, 0) = x on every path, as a sample's noise vanishes: no
    boundary has to be forced. A guided teacher is imitated instead of the data: x_r lies one step of its
    own from x_t.
    """

    def __init__(
        self, student: GenerativeModel, teacher: GenerativeModel, config: DistillConfig, visits: int
    ) -> None:
        super().__init__(student, teacher, config, visits)
        self.stages = max(FEWEST, min(MOST, config.steps // STAGE))
        self.path = TensorProcess(self.sampler.process)
        self.register_buffer("asked", self._visited(), persistent=False)

    asked: Tensor  # (visits,): the times of the sampler of few steps

    def _visited(self) -> Tensor:
        times = self.sampler.process.times(self.sampler.steps)
        return torch.tensor(times).round().long() if self.path.process.timesteps else torch.tensor(times)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        clean = self._clean(batch)
        t = self._times(len(batch), ctx)
        r, at_end = self.earlier(t, ctx.progress)
        eps = torch.randn(clean.shape, generator=ctx.rng, device=clean.device)
        (a, s), (a_r, s_r) = self._levels(t, clean), self._levels(r, clean)
        a_r, s_r = torch.where(at_end, 1.0, a_r), torch.where(at_end, 0.0, s_r)
        x = noised(clean, eps, a, s)
        denoising = Denoising(self.sampler, self.teacher, batch, ctx)
        with torch.no_grad():
            x0_t, eps_t = clean, eps
            if self.sampler.guidance != 1.0:
                x0_t, eps_t = denoising.predicted(
                    self.teacher, x, self.path.network_time(t), a, s, self.sampler.guidance
                )
            later = noised(x0_t, eps_t, a_r, s_r)
            # The end has no time to be asked at: there f(x, 0) = x. What is asked instead is not used.
            asked_r, asked_s = torch.where(at_end, a, a_r), torch.where(at_end, s, s_r)
            when = self.path.network_time(torch.where(at_end.flatten(), t, r))
            believed, _ = denoising.predicted(self.student, later, when, asked_r, asked_s)
            target = torch.where(at_end, later, believed)
        made, _ = denoising.predicted(self.student, x, self.path.network_time(t), a, s)
        gap = (torch.atan2(s, a) - torch.atan2(s_r, a_r)).flatten()
        return {"distill_easy_consistency": (pseudo_huber(made, target) / gap).mean()}

    def earlier(self, t: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        """(r, whether it is the clean end, as it broadcasts against samples) for times `(n,)`.

        r = t (1 − n(t) / 2^k) in the process's own time (Equation 13), k = 1 at the beginning and `stages` at
        the end, n of the ratio σ/α. Of discrete times r is the next one below, −1 being the end.
        """
        a, s = self.path.levels(t)
        halvings = 1 + min(self.stages - 1, int(progress * self.stages))
        share = (1.0 + WIDER * torch.sigmoid(-FALL * s / a)) / 2**halvings
        if self.path.process.timesteps:
            r = torch.floor((t + 1).float() * (1.0 - share)).long() - 1
        else:
            r = t * (1.0 - share)
        end = r < 0 if self.path.process.timesteps else r <= 0
        like = torch.empty(len(t), *self.sampler.shape, device="meta")
        return torch.where(end, t, r), columns(end, like)

    def _times(self, n: int, ctx: Context) -> Tensor:
        """As the process draws them for training, a share `ASKED` at the times of the few steps."""
        t = self.path.draw(n, ctx.rng)
        which = torch.randint(0, len(self.asked), (n,), generator=ctx.rng, device=t.device)
        coins = torch.rand((n,), generator=ctx.rng, device=t.device)
        return torch.where(coins < ASKED, self.asked[which].to(t.dtype), t)

    def _levels(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        a, s = self.path.levels(t)
        return columns(a, like), columns(s, like)
