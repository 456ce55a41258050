"""P(levels of a pixel | hidden value of its place): channel after channel, each told those before it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.nn.layers.discretized_logistic import log_mass

__all__ = ["LEVELS", "Distribution", "PixelHead"]

Distribution = Literal["categorical", "logistic"]


class LevelDistribution(ABC):
    """Parameters of one value → log-probabilities of its levels."""

    parameters: int

    @abstractmethod
    def __init__(self, levels: int, components: int) -> None:
        """components: of a mixture"""

    @abstractmethod
    def __call__(self, parameters: Tensor) -> Tensor:
        """`(…, parameters)` → `(…, levels)`, float32; probabilities sum to 1."""


class _Categorical(LevelDistribution):
    """A logit for each level."""

    def __init__(self, levels: int, components: int) -> None:
        self.parameters = levels

    def __call__(self, parameters: Tensor) -> Tensor:
        return parameters.float().log_softmax(-1)


class _Logistic(LevelDistribution):
    """A mixture of discretized logistics (Salimans et al. 2017, "PixelCNN++")."""

    def __init__(self, levels: int, components: int) -> None:
        self.levels, self.components = levels, components
        self.parameters = 3 * components

    def __call__(self, parameters: Tensor) -> Tensor:
        weights, means, scales = parameters.float().unsqueeze(-2).chunk(3, -1)  # (…, 1, components)
        k = torch.arange(self.levels, device=parameters.device, dtype=means.dtype).unsqueeze(-1)
        # Components begin apart from each other, about as wide as their distance.
        centres = torch.linspace(-1.0, 1.0, self.components + 2, device=k.device)[1:-1]
        mass = log_mass(k, means + centres, 0.25 * torch.exp(scales.clamp(-6.0, 3.0)), self.levels)
        found: Tensor = (weights.log_softmax(-1) + mass).logsumexp(-1)
        return found


LEVELS: dict[str, type[LevelDistribution]] = {"categorical": _Categorical, "logistic": _Logistic}


class PixelHead(nn.Module):
    """Hidden values and encoded levels of the channels before → log-probabilities of every channel's levels.

    channels: of a pixel; inputs: of the encoding of one channel; hidden: width of each channel's network
    """

    def __init__(
        self, width: int, channels: int, inputs: int, hidden: int, distribution: LevelDistribution
    ) -> None:
        super().__init__()
        self.distribution, self.inputs = distribution, inputs
        self.mix = nn.ModuleList(nn.Linear(width + k * inputs, hidden) for k in range(channels))
        self.say = nn.ModuleList(nn.Linear(hidden, distribution.parameters) for _ in range(channels))
        for layer in self.say:
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=0.1 / math.sqrt(hidden))
            nn.init.zeros_(layer.bias)

    def forward(self, hidden: Tensor, encoded: Tensor) -> Tensor:
        """`(…, width)`, `(…, C·inputs)` with the encodings of one channel side by side → `(…, C, levels)`."""
        hidden, each = F.relu(hidden), []
        for k, (mix, say) in enumerate(zip(self.mix, self.say, strict=True)):
            seen = torch.cat([hidden, encoded[..., : k * self.inputs]], -1) if k else hidden
            each.append(self.distribution(say(F.relu(mix(seen)))))
        return torch.stack(each, -2)
