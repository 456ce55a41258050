"""A U-Net in which every layer keeps the magnitude of what it is given (Karras et al. 2024, "Analyzing and
improving the training dynamics of diffusion models", EDM2, config G): no biases, no group norms, weights of
unit rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from niwaki.core.base_config import BaseConfig
from niwaki.core.contract import CallError, ConditionSpec
from niwaki.models.diffusion.config import DenoiserConfig
from niwaki.models.diffusion.networks import NETWORKS, Task
from niwaki.models.diffusion.unet import UNet, unet_settings
from niwaki.nn.layers.attention import attend
from niwaki.nn.layers.dropout import Dropout
from niwaki.nn.layers.embedding import Sinusoidal
from niwaki.nn.layers.magnitude_preserving import MpCat, MpSiLU, MpSum, unit_rows
from niwaki.nn.layers.pixel_norm import PixelNorm
from niwaki.nn.layers.words import WordEncoder

__all__ = ["MagnitudePreserving", "MagnitudePreservingUNet"]

_RESIDUAL = 0.3  # share of a branch beside its skip (Section 2.5, Table 6)
_FAINT = 1e-2  # learned gains begin here, not at 0: so every parameter gets a gradient from the first step on


class MagnitudePreserving(BaseConfig):
    """
    residual: share t of a residual branch in the sum with its skip
    widths, blocks, attention, heads, dropout, patch: those of the model; `groups` means nothing here
    """

    residual: float = Field(_RESIDUAL, gt=0, lt=1)


def _conv(inputs: int, outputs: int, kernel: int, **gain: Any) -> nn.Conv2d:
    return unit_rows(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), **gain)


class MpAttention(nn.Module):
    """MP-sum of x and cosine attention over its places: q, k and v are vectors of mean square 1 in every head
    (Section 2.3, "Cosine attention"); heads are spelled out as in `Attention2d`."""

    residual_ends: ClassVar[tuple[str, ...]] = ("out",)

    def __init__(self, channels: int, heads: int, residual: float) -> None:
        super().__init__()
        if channels % heads:
            raise CallError(f"{channels} channels cannot be shared by {heads} attention heads")
        self.heads, self.scale = heads, (channels // heads) ** -0.5
        self.q, self.k, self.v, self.out = (_conv(channels, channels, 1) for _ in range(4))
        self.sum = MpSum(residual)

    def _split(self, x: Tensor) -> Tensor:
        """(n, heads·d, h, w) → (n, heads, h·w, d), each vector of mean square 1"""
        vectors = x.flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)
        return vectors * torch.rsqrt(vectors.square().mean(3, keepdim=True) + 1e-8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self._split(self.q(x)), self._split(self.k(x)), self._split(self.v(x))
        mixed = torch.flatten(attend(q, k, v, self.scale).transpose(2, 3), 1, 2)
        return self.sum(x, self.out(mixed.unflatten(2, x.shape[2:])))


class MpBlock(nn.Module):
    """Skip, on the way down brought to length 1 at every place, and MP-sum with SiLU, conv, × (1 + c), SiLU,
    conv (Figure 21 of the paper); attention where it has some."""

    residual_ends: ClassVar[tuple[str, ...]] = ("conv2",)

    def __init__(
        self, inputs: int, outputs: int, time: int, *, down: bool, heads: int, dropout: float, residual: float
    ) -> None:
        super().__init__()
        self.skip = _conv(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.norm = PixelNorm() if down else nn.Identity()
        self.activation, self.dropout = MpSiLU(), Dropout(dropout)
        # On the way up the branch is given both halves of what `MpCat` joined.
        self.down = down
        self.conv1 = _conv(outputs if down else inputs, outputs, 3)
        self.time = unit_rows(nn.Linear(time, outputs, bias=False), _FAINT, learned=True)
        self.conv2 = _conv(outputs, outputs, 3)
        self.sum = MpSum(residual)
        self.attention = MpAttention(outputs, heads, residual) if heads else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        skip = self.norm(self.skip(x))
        h = self.conv1(self.activation(skip if self.down else x))
        h = self.activation(h * (1.0 + self.time(time)[:, :, None, None]))
        return self.attention(self.sum(skip, self.conv2(self.dropout(h))))


@NETWORKS.register("magnitude-preserving")
class MagnitudePreservingUNet(nn.Module):
    """x_t `(n, C, H, W)`, t float32 `(n,)`, conditions → the prediction, as a `UNet` says it.

    A channel of ones stands beside x_t in the place of biases. After every step the trainer brings stored
    weights back to unit rows (`force_unit_rows`).

    settings: as of `UNet`; `groups` is not read
    """

    name: ClassVar[str]
    Config: ClassVar[type[BaseConfig]] = MagnitudePreserving
    takes_numbers: ClassVar[bool] = True
    asks_texts: ClassVar[bool] = False

    @classmethod
    def encoder(
        cls, config: DenoiserConfig, settings: BaseConfig, asked: ConditionSpec, blank: int | None
    ) -> WordEncoder:
        return UNet.encoder(config, settings, asked, blank)

    @classmethod
    def for_task(cls, config: DenoiserConfig, settings: MagnitudePreserving, task: Task) -> Self:
        told = {k: v for k, v in unet_settings(config, task).items() if k != "groups"}
        return cls(task.channels, residual=settings.residual, **told)

    def __init__(
        self,
        channels: int,
        *,
        widths: Sequence[int],
        blocks: int,
        attention: Sequence[bool],
        heads: int,
        classes: int = 0,
        null: bool = False,
        vectors: Sequence[int] = (),
        dropout: float = 0.0,
        estimate: bool = False,
        variance: bool = False,
        patch: int = 1,
        residual: float = _RESIDUAL,
    ) -> None:
        super().__init__()
        time, inside = 4 * widths[0], channels * patch**2
        self.clock = nn.Sequential(
            Sinusoidal(widths[0]), unit_rows(nn.Linear(widths[0], time, bias=False), math.sqrt(2.0))
        )
        null_too = classes + int(null)
        self.embed = unit_rows(nn.Embedding(null_too, time), math.sqrt(time)) if classes else None
        self.vectors = nn.ModuleList(unit_rows(nn.Linear(n, time, bias=False)) for n in vectors)
        self.told, self.time_activation, self.length = MpSum(0.5), MpSiLU(), PixelNorm()
        self.to_patches = nn.PixelUnshuffle(patch) if patch > 1 else nn.Identity()
        self.to_pixels = nn.PixelShuffle(patch) if patch > 1 else nn.Identity()
        self.first = _conv(inside * (1 + int(estimate)) + 1, widths[0], 3)
        self.variance = variance

        def block(inputs: int, outputs: int, down: bool, attend: bool) -> MpBlock:
            return MpBlock(
                inputs, outputs, time, down=down, heads=heads if attend else 0, dropout=dropout,
                residual=residual,
            )  # fmt: skip

        self.down, self.up, self.joins = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        skips, width = [widths[0]], widths[0]
        for i, wide in enumerate(widths):
            if i:
                self.down.append(nn.ModuleList([nn.AvgPool2d(2), block(width, width, True, False)]))
                skips.append(width)
            for _ in range(blocks):
                self.down.append(nn.ModuleList([block(width, wide, True, attention[i])]))
                width = wide
                skips.append(width)
        self.aligned = ("middle.1", width)
        self.middle = nn.ModuleList(block(width, width, False, a) for a in (any(attention), False))
        for i, wide in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                skip = skips.pop()
                self.joins.append(MpCat(width, skip))
                self.up.append(block(width + skip, wide, False, attention[i]))
                width = wide
            if i:
                self.joins.append(nn.Upsample(scale_factor=2.0))
                self.up.append(block(width, width, False, False))
        said = inside * (1 + int(variance))
        self.output = _conv(width, said, 3, gain=_FAINT, learned=True)

    def forward(self, x: Tensor, t: Tensor, *conditions: Tensor) -> Any:
        rest = list(conditions)
        labels = [rest.pop(0)] if self.embed is not None else []
        vectors = [rest.pop(0) for _ in self.vectors]
        seen = [self.to_patches(v) for v in (x, *rest)]
        time = self.embed_time(t, labels, vectors)
        h = self.first(torch.cat([*seen, torch.ones_like(seen[0][:, :1])], dim=1))
        skips = [h]
        for stage in self.down:
            for part in stage.children():
                h = part(h, time) if isinstance(part, MpBlock) else part(h)
            skips.append(h)
        for part in self.middle:
            h = part(h, time)
        for join, part in zip(self.joins, self.up, strict=True):
            h = part(join(h, skips.pop()) if isinstance(join, MpCat) else join(h), time)
        out = self.to_pixels(self.output(h))
        if not self.variance:
            return out
        said, share = out.chunk(2, dim=1)
        return said, 0.5 * (1.0 + share)

    def hidden_map(self, out: Tensor) -> Tensor:
        """What a layer says as `(n, channels, h, w)`."""
        return out

    def embed_time(self, t: Tensor, labels: Sequence[Tensor], vectors: Sequence[Tensor]) -> Tensor:
        """What blocks are told of the time, of classes and of vectors: `(n, 4·widths[0])`."""
        time = self.clock(t)
        if self.embed is not None:
            time = self.told(time, self.embed(labels[0]))
        for layer, vector in zip(self.vectors, vectors, strict=True):
            time = self.told(time, layer(self.length(vector)))
        return self.time_activation(time)
