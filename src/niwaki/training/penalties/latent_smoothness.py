"""Latent smoothness: decoded samples change slowly along the latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from niwaki.core.contract import Batch, Context, GenerativeModel, Trainable
from niwaki.training.further_losses import further_loss
from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.base import Noise

__all__ = ["latent_smoothness"]

STEP = 0.1
"""ε, a tenth of the latents' deviation: far more than float32 rounds by, and little beside what they say."""


@dataclass(frozen=True)
class _BothWays(Noise):
    """Latents a step to either side of normal ones, in a random direction; whatever else is drawn is the same
    on both sides."""

    rng: Any = None

    def normal(self, shape: tuple[int, ...], *, stream: str = "latent", draw: int = 0) -> Tensor:
        def drawn() -> Tensor:
            return torch.randn(self.n // 2, *shape, generator=self.rng, device=self.rng.device)

        z = drawn()
        if stream != "latent" or draw:
            return torch.cat([z, z])
        u = drawn().flatten(1)
        step = STEP * (u / u.norm(dim=1, keepdim=True)).view_as(z)
        return torch.cat([z + step, z - step])


@further_loss("latent_smoothness")
def latent_smoothness(model: Trainable, batch: Batch, ctx: Context) -> Tensor:
    """E ‖g(z + εu) − g(z − εu)‖² / (4 ε² d) of z normal, u a direction at random, d the values of a sample:
    for small ε ‖J‖² / (d · values of z), J the Jacobian of g (Rifai et al. 2011, "Contractive auto-encoders",
    hold an encoder's so; Karras et al. 2020, Section 3.2, keep a generator's paths equally long: the setting
    `path_length` of `stylegan2`).

    Half a batch of latents, both sides of each decoded in one call: batch norms see both.
    Raises CallError for a model whose samples are not made of latents.
    """
    sampler = model.sampler() if isinstance(model, GenerativeModel) else None
    if not isinstance(model, GenerativeModel) or sampler is None or not sampler.draws_latents():
        raise CallError("the loss latent_smoothness is for models that decode samples from latents")
    half = max(len(batch) // 2, 1)
    asked = {name: batch[name][:half] for name in model.conditions if name in batch}
    noise = _BothWays(model.backend(), 0, 0, 2 * half, rng=ctx.rng)
    made: Tensor = sampler(model.graphs(), noise, {n: torch.cat([v, v]) for n, v in asked.items()})
    ahead, behind = made.float().chunk(2)
    return (ahead - behind).square().mean() / (4.0 * STEP**2)
