"""p(x | z) of stored levels: a probability for each of them at every place, given a decoder's features."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.core.contract import CallError, Levels, ValueSpec
from niwaki.nn.layers.discretized_logistic import log_mass
from niwaki.nn.layers.images import level_of

__all__ = ["HEADS", "Categorical", "Kind", "LevelHead", "Logistic", "usual_head"]

Kind = Literal["categorical", "logistic"]
_MOST = 64  # beyond it, levels are amounts and no longer cases


def usual_head(levels: int) -> Kind:
    """The distribution that fits so many levels."""
    return "categorical" if levels <= _MOST else "logistic"


class LevelHead(nn.Module):
    """Features `(n, width, H, W)` → log-probabilities of the K levels `(n, C, K, H, W)`, by place.

    spec: images of levels `(C, H, W)`
    """

    def __init__(self, width: int, spec: ValueSpec) -> None:
        super().__init__()
        assert isinstance(spec.values, Levels)
        self.channels, self.levels = spec.shape[0], spec.levels
        self.values, self.low, self.step = spec.values, spec.low, spec.values.step
        self.output = nn.Conv2d(width, self.outputs(), 1)

    def outputs(self) -> int:
        """Parameters of one place."""
        raise NotImplementedError

    def forward(self, h: Tensor) -> Tensor:
        raise NotImplementedError

    def begin(self, x: Tensor) -> None:
        """Set what follows from training samples `(m, C, H, W)`."""

    def level_of(self, x: Tensor) -> Tensor:
        """Values as seen → numbers of the nearest levels, int64."""
        return level_of(x, self.values)

    def log_prob(self, x: Tensor, h: Tensor) -> Tensor:
        """log P(x | z) in nats `(n,)`: of the stored levels, not of a density."""
        each = self(h).gather(2, self.level_of(x).unsqueeze(2))
        return each.flatten(1).sum(1)

    def mean(self, h: Tensor) -> Tensor:
        """E[x | z] `(n, C, H, W)`, as seen."""
        k = torch.arange(self.levels, device=h.device, dtype=h.dtype)[:, None, None]
        return self.low + self.step * (self(h).exp() * k).sum(2)

    def draw(self, h: Tensor, noise: Tensor) -> Tensor:
        """x ~ p(x | z) `(n, C, H, W)`, as seen, from standard normals of the same shape: the level that the
        distribution function reaches at Φ(noise). At noise 0 it is the median."""
        u = 0.5 * (1.0 + torch.erf(noise / math.sqrt(2.0)))
        below = self(h).exp().cumsum(2)[:, :, :-1] < u.unsqueeze(2)
        return self.low + self.step * below.to(h.dtype).sum(2)


class Categorical(LevelHead):
    """A logit for each level, beside each place's own frequencies in the training data: a network that says
    nothing has the likelihood of independent values."""

    table: Tensor  # (C, K, H, W), logarithms

    def __init__(self, width: int, spec: ValueSpec) -> None:
        if spec.levels > _MOST:
            raise CallError(f"a logit for each of {spec.levels} levels is too many; set likelihood: logistic")
        super().__init__(width, spec)
        self.register_buffer("table", torch.zeros(spec.shape[0], spec.levels, *spec.shape[1:]))
        nn.init.normal_(self.output.weight, std=0.1 / math.sqrt(width))
        nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]

    def outputs(self) -> int:
        return self.channels * self.levels

    def begin(self, x: Tensor) -> None:
        counts = F.one_hot(self.level_of(x), self.levels).sum(0).movedim(-1, 1) + 0.5
        self.table.copy_((counts / counts.sum(1, keepdim=True)).log())

    def forward(self, h: Tensor) -> Tensor:
        logits = self.output(h).float().unflatten(1, (self.channels, self.levels))
        return (logits + self.table).log_softmax(2)


class Logistic(LevelHead):
    """A discretized logistic distribution (Kingma et al. 2016; Salimans et al. 2017): P(k) is its mass from
    k − ½ to k + ½; the outermost levels hold all that lies beyond them. Values are independent given z."""

    def __init__(self, width: int, spec: ValueSpec) -> None:
        super().__init__(width, spec)
        nn.init.normal_(self.output.weight, std=0.1 / math.sqrt(width))
        nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]

    def outputs(self) -> int:
        return 2 * self.channels

    def _parts(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Means and scales `(n, C, H, W)`; the range of the levels is −1 … 1, and a scale of ¼ is where both
        begin."""
        means, scales = self.output(h).float().chunk(2, 1)
        return means, 0.25 * torch.exp(scales.clamp(-6.0, 3.0))

    def forward(self, h: Tensor) -> Tensor:
        means, scales = self._parts(h)
        k = torch.arange(self.levels, device=h.device, dtype=means.dtype).view(-1, 1, 1)
        return log_mass(k, means.unsqueeze(2), scales.unsqueeze(2), self.levels)

    def log_prob(self, x: Tensor, h: Tensor) -> Tensor:
        means, scales = self._parts(h)  # at the level of x alone: few operations where there are many levels
        return log_mass(self.level_of(x).to(means.dtype), means, scales, self.levels).flatten(1).sum(1)

    def draw(self, h: Tensor, noise: Tensor) -> Tensor:
        """As for all heads, but between levels: by rounding to 256 of them engines would differ. The
        logit of Φ is that of Page 1977, which errs in probability by less than 2e-4."""
        means, scales = self._parts(h)
        v = means + scales * noise * (1.5976 + 0.070565 * noise.square())
        return self.low + (v.clamp(-1.0, 1.0) + 1.0) * (0.5 * self.step * (self.levels - 1))


HEADS: dict[str, type[LevelHead]] = {"categorical": Categorical, "logistic": Logistic}
