"""Mixtures of logistics as monotone functions (Ho et al. 2019, "Flow++", Section 3.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from niwaki.models.flow.bisection import bisect
from niwaki.models.flow.transforms import Affine, Transform

__all__ = ["MixtureLogistics"]

_BOUND = 3.0  # of the logarithm of a component's scale


class _Parts(NamedTuple):
    """Of each value `(n, k, components)`: log π, μ, log s; and what the affine move is told `(n, 2k)`."""

    weight: Tensor
    mean: Tensor
    log_scale: Tensor
    affine: Tensor


def _log_sum(x: Tensor) -> Tensor:
    """log Σ e^x over the last axis, of finite x: torch's own also asks for infinities."""
    most = x.amax(-1, keepdim=True).detach()
    return torch.log(torch.exp(x - most).sum(-1)) + most.squeeze(-1)


def _log_sigmoid(t: Tensor) -> Tensor:
    """log σ(t), also where σ(t) is 0 in float32: exporters write the logarithm of the sigmoid."""
    return t.clamp(max=0.0) - torch.log1p(torch.exp(-t.abs()))


class MixtureLogistics(Transform):
    """z = h(x) e^a + b, h(x) = (logit F(x) + δx) / (1 + δ), F a mixture of logistic distribution functions.

    δ is not in the paper: without it h is flat where no component is, and no precision leads back from there.

    components: of the mixture
    rest:       δ, so that no slope of h is smaller than δ/(1 + δ)
    """

    def __init__(self, components: int = 4, rest: float = 0.1) -> None:
        self.components, self.rest = components, rest
        self.parameters = 2 + 3 * components
        self._affine = Affine()

    def arrange(self, said: Tensor) -> Tensor:
        """Unlike other transforms' it keeps its parameters apart: `(n, parameters, k)`."""
        return said

    def _parts(self, said: Tensor, k: int) -> _Parts:
        said = said.unflatten(1, (self.parameters, k)) if said.ndim == 2 else said
        mixture = said[:, 2:].unflatten(1, (3, self.components)).movedim(2, -1)  # (n, 3, k, components)
        log_scale = _BOUND * torch.tanh(mixture[:, 2] / _BOUND)
        return _Parts(mixture[:, 0].log_softmax(-1), mixture[:, 1], log_scale, said[:, :2].flatten(1))

    def forward(self, x: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        parts = self._parts(said, x.shape[1])
        h, slope = self._bend(x, parts)
        z, logdet = self._affine.forward(h, parts.affine)
        return z, logdet + torch.log(slope)

    def inverse(self, z: Tensor, said: Tensor) -> Tensor:
        parts = self._parts(said, z.shape[1])
        h = self._affine.inverse(z, parts.affine)
        x = self._unbend(h.detach(), _Parts(*(part.detach() for part in parts)))
        if torch.is_grad_enabled() and (h.requires_grad or parts.weight.requires_grad):
            # The derivative of an inverse function: a step of Newton's method, through whose slope none goes.
            bent, slope = self._bend(x, parts)
            x = x + (h - bent) / slope.detach()
        return x

    def _bend(self, x: Tensor, parts: _Parts) -> tuple[Tensor, Tensor]:
        """h(x) and its slope."""
        t = (x.unsqueeze(-1) - parts.mean) * torch.exp(-parts.log_scale)
        below = parts.weight + _log_sigmoid(t)  # log of π σ(t)
        above = below - t  # log of π σ(−t)
        log_below, log_above = _log_sum(below), _log_sum(above)
        density = _log_sum(above + _log_sigmoid(t) - parts.log_scale)
        rise = torch.exp(density - log_below - log_above)
        bent = (log_below - log_above + self.rest * x) / (1.0 + self.rest)
        return bent, (rise + self.rest) / (1.0 + self.rest)

    def _unbend(self, h: Tensor, parts: _Parts) -> Tensor:
        """The x of which `_bend` makes h, between the points where single components alone would make it."""
        wanted = (1.0 + self.rest) * h
        scale = torch.exp(parts.log_scale)
        alone = (scale * wanted.unsqueeze(-1) + parts.mean) / (1.0 + self.rest * scale)
        rate = torch.exp(-parts.log_scale)

        def above(x: Tensor) -> Tensor:
            t = (x.unsqueeze(-1) - parts.mean) * rate
            below = parts.weight + _log_sigmoid(t)
            return _log_sum(below) - _log_sum(below - t) + self.rest * x - wanted

        return bisect(above, alone.amin(-1), alone.amax(-1))
