"""A convolutional generator and a projection discriminator."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from niwaki.core.contract import CallError
from niwaki.nn.layers.blocks import Unflatten, conv_down, conv_norm, conv_up, pyramid
from niwaki.nn.layers.equalized import equalized
from niwaki.nn.layers.images import Squash

__all__ = [
    "Discriminator",
    "Discriminators",
    "EqualizedProjection",
    "Generator",
    "MinibatchDeviation",
    "MinibatchDiscrimination",
    "Projection",
    "discriminators",
    "initialize",
    "widths",
]


def widths(width: int, levels: int, most: int) -> list[int]:
    """Channels from the coarsest size to the finest: doubled at every halving of the image, at most `most`.

    >>> widths(64, 3, 128)
    [128, 128, 64]
    """
    return [min(width * 2**k, most) for k in reversed(range(levels))]


class Generator(nn.Module):
    """z `(n, latent)` and classes `(n,)` → samples `(n, C, H, W)` in [low, high].

    The class enters as an embedding beside z before the first linear layer, not through conditional
    normalization: every BatchNorm then folds into the convolution before it, and every width can be pruned.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        latent: int,
        classes: int = 0,
        embedding: int = 32,
        width: int = 64,
        most: int = 512,
        refine: int = 0,
        upsampling: str = "nearest",
        norm: str = "batch",
        low: float = -1.0,
        high: float = 1.0,
    ) -> None:
        super().__init__()
        channels, height, columns = shape
        sizes = pyramid(height, columns)
        w = widths(width, len(sizes), most)
        self.embed = nn.Embedding(classes, embedding) if classes else None
        inputs = latent + (embedding if classes else 0)
        (h, c), biased = sizes[0], norm == "none"
        stem = [nn.Linear(inputs, w[0] * h * c, bias=biased), Unflatten(h, c)]
        if not biased:
            stem.append(nn.BatchNorm2d(w[0]))
        self.stem = nn.Sequential(*stem, nn.ReLU())
        body: list[nn.Module] = []
        for i in range(1, len(sizes)):
            body += conv_up(w[i - 1], w[i], upsampling=upsampling, norm=norm)
            for _ in range(refine):
                body += conv_norm(w[i], w[i], norm=norm)
        self.body = nn.Sequential(*body)
        self.output = nn.Sequential(nn.Conv2d(w[-1], channels, 3, padding=1), Squash(low, high))
        self.apply(initialize)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        if self.embed is not None:
            z = torch.cat([z, self.embed(y)], dim=1)
        return self.output(self.body(self.stem(z)))


class MinibatchDeviation(nn.Module):
    """Adds one channel: the standard deviation within groups of neighbours, averaged over all values.

    Karras et al. 2018, Section 3. A batch that `group` does not divide is one group.
    """

    def __init__(self, group: int = 4) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        group = self.group if n % self.group == 0 else n
        parts = x.reshape(n // group, group, *x.shape[1:]).to(torch.promote_types(x.dtype, torch.float32))
        variance = (parts - parts.mean(dim=1, keepdim=True)).square().mean(dim=1)  # ten times as fast as var
        deviation = (variance + 1e-8).sqrt().flatten(1).mean(1)  # (n/group,)
        plane = deviation.repeat_interleave(group)[:, None, None, None].expand(n, 1, *x.shape[2:])
        return torch.cat([x, plane.to(x.dtype)], dim=1)


class MinibatchDiscrimination(nn.Module):
    """Adds to features `(n, k)` how alike each sample is to its neighbours: `(n, k + kernels)`.

    o_b(xᵢ) = mean over j ≠ i of exp(−‖Mᵢ_b − Mⱼ_b‖₁), M = φ(x) T (Salimans et al. 2016, Section 3.2), within
    groups of neighbours as `MinibatchDeviation` forms them.
    """

    def __init__(self, features: int, kernels: int, *, size: int = 8, group: int = 8) -> None:
        super().__init__()
        self.kernels, self.group = kernels, group
        self.project = nn.Linear(features, kernels * size, bias=False)

    def forward(self, phi: Tensor) -> Tensor:
        n = phi.shape[0]
        group = self.group if n % self.group == 0 else n
        m = self.project(phi).view(n // group, group, self.kernels, -1)
        apart = (m[:, :, None] - m[:, None]).abs().sum(-1)  # (n/group, group, group, kernels)
        alike = (torch.exp(-apart).sum(2) - 1) / max(1, group - 1)
        return torch.cat([phi, alike.view(n, self.kernels)], dim=1)


class Projection(nn.Module):
    """Samples `(n, *shape)` and classes `(n,)` → logits `(n,)`, ψ(φ(x)) + ⟨e(y), φ(x)⟩ (Miyato & Koyama 2018,
    "cGANs with projection discriminator", Figure 2).

    A subclass makes φ `features`, ψ `logit`, and e `embed`, which is None without classes.
    """

    features: nn.Module
    logit: nn.Module
    embed: nn.Embedding | None

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        phi = self.features(x)
        logit = self.logit(phi)[:, 0]
        return logit if self.embed is None else logit + (self.embed(y) * phi).sum(1)


class EqualizedProjection(Projection):
    """ψ and e with equalized learning rate.

    size: of φ(x)
    """

    def __init__(self, features: nn.Module, size: int, *, classes: int, bias: bool) -> None:
        super().__init__()
        self.features = features
        self.logit = equalized(nn.Linear(size, 1, bias=bias))
        self.embed = equalized(nn.Embedding(classes, size)) if classes else None


class Discriminator(Projection):
    """Of images `(n, C, H, W)`, by strided convolutions. No normalization: R1 suffices."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        classes: int = 0,
        width: int = 64,
        most: int = 512,
        features: int = 256,
        deviation: int = 4,
        kernels: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        channels, height, columns = shape
        sizes = pyramid(height, columns)
        w = widths(width, len(sizes), most)[::-1]
        activation = partial(nn.LeakyReLU, 0.2)
        layers: list[nn.Module] = [nn.Conv2d(channels, w[0], 3, padding=1), activation()]
        for i in range(1, len(sizes)):
            layers += conv_down(w[i - 1], w[i], activation)
        self.convolutions, inputs = len(layers), w[-1]
        if deviation:
            layers.append(MinibatchDeviation(deviation))
            inputs += 1
        h, c = sizes[0]
        layers += [nn.Flatten(), nn.Linear(inputs * h * c, features), activation()]
        if kernels:
            layers.append(MinibatchDiscrimination(features, kernels))
            features += kernels
        self.features: nn.Sequential = nn.Sequential(*layers)
        self.logit = nn.Linear(features, 1, bias=bias)
        self.embed = nn.Embedding(classes, features) if classes else None
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, std=features**-0.5)

    def maps(self, x: Tensor) -> Tensor:
        """The last feature maps of images, before they are looked at as a whole: `(n, k, h, w)`."""
        return self.features[: self.convolutions](x)


class Discriminators(nn.Module):
    """One at each of several scales: logits `(n, scales)` (Wang et al. 2018, "pix2pixHD", Section 3.2)."""

    def __init__(self, shape: tuple[int, int, int], scales: int, **settings: Any) -> None:
        super().__init__()
        channels, height, width = shape
        smallest = min(height, width) >> (scales - 1)
        if smallest < 4 or height % (1 << (scales - 1)) or width % (1 << (scales - 1)):
            raise CallError(f"images of {height}×{width} cannot be halved {scales - 1} times for 'scales'")
        self.parts = nn.ModuleList(
            Discriminator((channels, height >> k, width >> k), **settings) for k in range(scales)
        )

    def _scaled(self, x: Tensor) -> Iterator[tuple[nn.Module, Tensor]]:
        """Each discriminator with the image of its size."""
        for k, part in enumerate(self.parts):
            x = functional.avg_pool2d(x, 2) if k else x
            yield part, x

    def features(self, x: Tensor) -> Tensor:
        return torch.cat([part.features(v) for part, v in self._scaled(x)], dim=1)  # type: ignore[operator]

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return torch.stack([part(v, y) for part, v in self._scaled(x)], dim=1)


def discriminators(shape: tuple[int, int, int], scales: int, **settings: Any) -> nn.Module:
    """One discriminator, or one at each of several scales. Raises CallError where images are too small."""
    return Discriminator(shape, **settings) if scales == 1 else Discriminators(shape, scales, **settings)


def initialize(module: nn.Module) -> None:
    """He et al. 2015 for layers before a ReLU."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
