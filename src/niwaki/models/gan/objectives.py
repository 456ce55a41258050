"""What discriminator and generator play for: each objective as functions of the discriminator's logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from niwaki.models.gan.losses import discriminator_loss, generator_loss, least_squares

__all__ = ["OBJECTIVES", "Objective"]


@dataclass(frozen=True)
class Objective:
    """
    discriminator: (real logits, fake logits, smoothing) → named terms, each a mean over the batch
    generator:     (fake logits, real logits) → its term; the latter are looked at where it is `relativistic`
    relativistic:  logits are compared, a real sample's with a made one's
    levelled:      whether the level of logits matters; where only differences do, a discriminator's last
                   layer has no bias, which nothing would train
    smooths:       whether its target for real samples may be lowered (one-sided label smoothing, Salimans et
                   al. 2016, Section 3.4)
    """

    discriminator: Callable[[Tensor, Tensor, float], dict[str, Tensor]]
    generator: Callable[[Tensor, Tensor], Tensor]
    relativistic: bool = False
    levelled: bool = True
    smooths: bool = False


def _logistic(real: Tensor, fake: Tensor, smoothing: float) -> dict[str, Tensor]:
    terms = discriminator_loss(real, fake)
    if smoothing:  # the cross-entropy with the target 1 − s
        terms["real"] = (1 - smoothing) * terms["real"] + smoothing * F.softplus(real).mean()
    return terms


def _minimax(fake: Tensor, _: Tensor) -> Tensor:
    """log(1 − σ(D(G(z)))), which saturates where made samples are found out (Goodfellow et al. 2014,
    Equation 1)."""
    return -F.softplus(fake).mean()


def _hinge(real: Tensor, fake: Tensor, _: float) -> dict[str, Tensor]:
    """max(0, 1 − D(x)) + max(0, 1 + D(G(z))) (Lim & Ye 2017; Miyato et al. 2018, Equation 16)."""
    return {"real": F.relu(1 - real).mean(), "fake": F.relu(1 + fake).mean()}


def _squares(real: Tensor, fake: Tensor, smoothing: float) -> dict[str, Tensor]:
    return {"real": least_squares(real, 1 - smoothing), "fake": least_squares(fake, 0)}


def _wasserstein(real: Tensor, fake: Tensor, _: float) -> dict[str, Tensor]:
    """E D(G(z)) − E D(x), the dual of the Wasserstein distance over 1-Lipschitz D (Arjovsky et al. 2017,
    Equation 2)."""
    return {"real": -real.mean(), "fake": fake.mean()}


def _relativistic(real: Tensor, fake: Tensor, _: float) -> dict[str, Tensor]:
    """−log σ(D(x) − D(G(z))), pair by pair (Jolicoeur-Martineau 2019; Huang et al. 2024, Equation 2)."""
    return {"relativistic": F.softplus(fake - real).mean()}


def _mean(fake: Tensor, _: Tensor) -> Tensor:
    return -fake.mean()


OBJECTIVES: dict[str, Objective] = {
    "non_saturating": Objective(_logistic, lambda fake, _: generator_loss(fake), smooths=True),
    "minimax": Objective(_logistic, _minimax, smooths=True),
    "hinge": Objective(_hinge, _mean),
    "least_squares": Objective(_squares, lambda fake, _: least_squares(fake, 1), smooths=True),
    "wasserstein": Objective(_wasserstein, _mean, levelled=False),
    "relativistic": Objective(
        _relativistic, lambda fake, real: F.softplus(real - fake).mean(), relativistic=True, levelled=False
    ),
}
