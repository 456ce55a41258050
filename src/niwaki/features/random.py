"""Random convolutional networks: features that no data set has shaped.

A randomly initialised network keeps distances well enough to rank generators of data that no pretrained
network knows (Naeem et al., "Reliable fidelity and diversity metrics for generative models", ICML 2020,
section 4). One draw is a matter of luck, so several seeds are concatenated; `parts` tells them apart, and
their spread is reported.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from niwaki.core.contract import DataSpec
from niwaki.data import Dataset
from niwaki.features.extractor import NetworkExtractor
from niwaki.features.units import Units, has_units, units_of
from niwaki.nn.layers.grids import AVERAGE, CONVOLUTION, grid_of

__all__ = ["RandomFeatures", "random_features"]

_MEMBERS = 3
_WIDTH = 64
"""Features of each member."""
_FIT = 4096
"""Training samples that the scale of the features is taken from."""


class RandomFeatures(nn.Module):
    """An ensemble of random networks; columns of different units are brought to one scale first, and the
    features are standardised by the mean and deviation of training samples.

    Of images and series each member's features are then scaled to length √width: without that, blurred
    samples move towards the middle of the cloud, where everything is near, and count as better than real ones
    (measured on digits).
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, spec: DataSpec, *, seed: int, members: int = _MEMBERS, width: int = _WIDTH) -> None:
        super().__init__()
        self.units = units_of(spec)
        self.members = nn.ModuleList(_member(spec, width) for _ in range(members))
        self.on_sphere = len(spec.shape) > 1 or spec.axes == "T"
        self.register_buffer("mean", torch.zeros(members * width))
        self.register_buffer("scale", torch.ones(members * width))
        for i, member in enumerate(self.members):
            _draw(member, torch.Generator().manual_seed(seed * 1_000_003 + i))

    def forward(self, x: Tensor) -> Tensor:
        """(n, *shape) → (n, members·width)."""
        z = (self._raw(x) - self.mean) * self.scale
        if not self.on_sphere:
            return z
        parts = z.unflatten(1, (len(self.members), -1))
        return (F.normalize(parts, dim=2) * math.sqrt(parts.shape[2])).flatten(1)

    def _raw(self, x: Tensor) -> Tensor:
        x = self.units(x)
        return torch.cat([m(x) for m in self.members], 1)

    @torch.no_grad()
    def fit_scale(self, x: Tensor) -> None:
        raw = torch.cat([self._raw(part) for part in x.split(256)]).double()
        self.mean.copy_(raw.mean(0))
        deviation = raw.std(0)
        # Features that hardly vary would be nothing but magnified rounding.
        self.scale.copy_(1.0 / deviation.clamp(min=1e-3 * float(deviation.max()) + 1e-12))


def random_features(
    dataset: Dataset, *, cache: Path | None = None, seed: int = 0, device: str = "auto"
) -> NetworkExtractor:
    """The extractor `random` for a data set: deterministic by the seed and the training samples' mean and
    deviation.

    Raises CallError for samples of more than three dimensions beside their channels.
    """
    network = RandomFeatures(dataset.spec, seed=seed)
    count = min(_FIT, len(dataset.train))
    first = dataset.train.values(torch.arange(count)).cpu()
    if isinstance(network.units, Units):
        network.units.fit(first)
    network.fit_scale(first)
    width, members = _WIDTH, _MEMBERS
    return NetworkExtractor(
        "random",
        dataset.spec,
        network,
        dim=members * width,
        settings={
            "version": 1,
            "on_sphere": network.on_sphere,
            "seed": seed,
            "members": members,
            "width": width,
            **({"units": True} if has_units(dataset.spec) else {}),
        },
        cache=cache,
        device=device,
        parts=tuple(slice(i * width, (i + 1) * width) for i in range(members)),
    )


_NAMED = 16
"""Width of a token's random vector."""


def _member(spec: DataSpec, width: int) -> nn.Sequential:
    """On grids (images, series, sound, clips, sequences of tokens): convolutions of stride 2 down to a side
    of at most 4, then a projection of what is left. Vectors (d,): two dense layers."""
    found = grid_of(spec, "'random'")
    grid, (front, channels) = found.sides, found.front(_NAMED)
    if not grid:  # a vector
        hidden = 4 * width
        first, second = nn.Linear(spec.size, hidden), nn.Linear(hidden, hidden)
        return nn.Sequential(first, nn.LeakyReLU(0.2), second, nn.LeakyReLU(0.2), nn.Linear(hidden, width))
    conv, side = CONVOLUTION[len(grid)], max(grid)
    body: list[nn.Module] = []
    # Large samples are halved at once: layers at full size would take most of the time.
    out, stem = 32, (1, 3) if side < 24 else (2, 5)
    body += [conv(channels, out, stem[1], stride=stem[0], padding=stem[1] // 2), nn.LeakyReLU(0.2)]
    side = -(-side // stem[0])
    while side > 4:
        body += [conv(out, 64, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
        out, side = 64, (side + 1) // 2
    cells = tuple(min(2, s) for s in grid)
    pool = AVERAGE[len(grid)](cells if len(grid) > 1 else cells[0])
    return nn.Sequential(*front, *body, pool, nn.Flatten(), nn.Linear(out * math.prod(cells), width))


@torch.no_grad()
def _draw(network: nn.Module, rng: torch.Generator) -> None:
    """He's variance, so that the signal neither grows nor fades; biases spread the kinks of the
    activations."""
    for layer in network.modules():
        if isinstance(layer, nn.Embedding):
            layer.weight.normal_(0.0, 1.0, generator=rng)
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            fan_in = layer.weight[0].numel()
            layer.weight.normal_(0.0, math.sqrt(2.0 / fan_in), generator=rng)
            assert layer.bias is not None
            layer.bias.normal_(0.0, 0.1, generator=rng)
