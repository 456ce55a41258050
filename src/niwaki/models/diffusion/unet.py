"""The U-Net of Ho, Jain & Abbeel 2020 (after Ronneberger et al. 2015), with classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from niwaki.core.base_config import BaseConfig
from niwaki.core.contract import CallError, ConditionSpec
from niwaki.models.diffusion.config import DenoiserConfig
from niwaki.models.diffusion.networks import NETWORKS, Task
from niwaki.nn.layers.attention import Attention2d
from niwaki.nn.layers.blocks import near_zero_init
from niwaki.nn.layers.dropout import Dropout
from niwaki.nn.layers.embedding import Sinusoidal
from niwaki.nn.layers.words import WordEncoder

__all__ = ["ResidualBlock", "UNet", "unet_settings"]


def unet_settings(config: DenoiserConfig, task: Task) -> dict[str, Any]:
    """Settings of a `UNet` beside its channels. Raises CallError where patches do not divide what is noised,
    or feature maps cannot be halved as often as there are widths."""
    c, halvings = config, len(config.widths) - 1
    if task.height % c.patch or task.width % c.patch:
        raise CallError(f"'patch' {c.patch} does not divide {task.height}×{task.width} pixels")
    height, width = task.height // c.patch, task.width // c.patch
    if height % 2**halvings or width % 2**halvings:
        raise CallError(f"{height}×{width} places cannot be halved {halvings} times; shorten 'model.widths'")
    return {
        "widths": c.widths,
        "blocks": c.blocks,
        "attention": [height // 2**i in c.attention for i in range(len(c.widths))],
        "heads": c.heads,
        "classes": task.classes,
        "null": task.null,
        "vectors": tuple(shape[-1] for shape in task.encoded),
        "groups": c.groups,
        "dropout": c.dropout,
        "estimate": task.estimate,
        "variance": task.variance,
        "patch": c.patch,
    }


class ResidualBlock(nn.Module):
    """norm, SiLU, conv, + projected time, norm, SiLU, conv, + input."""

    residual_ends: ClassVar[tuple[str, ...]] = ("conv2",)

    def __init__(self, inputs: int, outputs: int, time: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time = nn.Linear(time, outputs)
        self.norm2 = nn.GroupNorm(groups, outputs)
        self.dropout = Dropout(dropout)
        self.conv2 = near_zero_init(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.activation = nn.SiLU()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1(self.activation(self.norm1(x))) + self.time(time)[:, :, None, None]
        return self.skip(x) + self.conv2(self.dropout(self.activation(self.norm2(h))))


class InTheModel(BaseConfig):
    """Settings of a U-Net stand among those of its model, where they have always stood."""


@NETWORKS.register("unet")
class UNet(nn.Module):
    """x_t `(n, C, H, W)`, t float32 `(n,)` in timesteps, classes int64 `(n,)` → the prediction, like x_t.

    widths:    channels at each size, finest first; every one a multiple of `groups`
    blocks:    residual blocks at each size (one more on the way up)
    attention: for each size, whether self-attention follows its blocks
    classes:   0 for none; `classes` itself is the null label where `null`
    vectors:   lengths of further conditions `(n, length)`, each added to the time
    groups:    of every GroupNorm; a pruner keeps widths at multiples of it
    estimate:  whether the last input is an estimate of x₀, like x_t, which stands beside x_t
    variance:  whether it says a share of each variance beside the prediction: (prediction, share), both like
               x_t; shares begin near ½
    patch:     edge in pixels of what it treats as one place
    """

    name: ClassVar[str]
    Config: ClassVar[type[BaseConfig]] = InTheModel
    takes_numbers: ClassVar[bool] = True
    asks_texts: ClassVar[bool] = False

    @classmethod
    def encoder(
        cls, config: DenoiserConfig, settings: BaseConfig, asked: ConditionSpec, blank: int | None
    ) -> WordEncoder:
        beyond = int(asked.null == asked.size)  # of labels, "nothing asked" is one more
        return WordEncoder(asked.size + beyond, config.words, blank)

    @classmethod
    def for_task(cls, config: DenoiserConfig, settings: BaseConfig, task: Task) -> Self:
        return cls(task.channels, **unet_settings(config, task))

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
        groups: int = 8,
        dropout: float = 0.0,
        estimate: bool = False,
        variance: bool = False,
        patch: int = 1,
    ) -> None:
        super().__init__()
        for width in widths:
            if width % groups:
                raise CallError(
                    f"a U-Net's widths must be multiples of its {groups} groups, and {width} is not"
                )
        time = 4 * widths[0]
        self.clock = nn.Sequential(
            Sinusoidal(widths[0]), nn.Linear(widths[0], time), nn.SiLU(), nn.Linear(time, time)
        )
        self.embed = nn.Embedding(classes + int(null), time) if classes else None
        self.vectors = nn.ModuleList(nn.Linear(length, time) for length in vectors)
        self.time_activation = nn.SiLU()
        self.to_patches = nn.PixelUnshuffle(patch) if patch > 1 else nn.Identity()
        self.to_pixels = nn.PixelShuffle(patch) if patch > 1 else nn.Identity()
        self.patch, inside = patch, channels * patch**2
        self.first = nn.Conv2d(inside, widths[0], 3, padding=1)
        # A convolution of both side by side is the sum of one of each.
        self.first_estimate = nn.Conv2d(inside, widths[0], 3, padding=1, bias=False) if estimate else None
        self.variance = variance

        def stage(inputs: int, outputs: int, attend: bool) -> nn.ModuleList:
            parts: list[nn.Module] = [ResidualBlock(inputs, outputs, time, groups, dropout)]
            if attend:
                parts.append(Attention2d(outputs, heads, groups))
            return nn.ModuleList([*parts, *self.further_layers(outputs, heads, groups, attend)])

        self.down = nn.ModuleList()
        skips, width = [widths[0]], widths[0]
        for i, wide in enumerate(widths):
            for _ in range(blocks):
                self.down.append(stage(width, wide, attention[i]))
                width = wide
                skips.append(width)
            if i + 1 < len(widths):
                self.down.append(nn.ModuleList([nn.Conv2d(width, width, 3, stride=2, padding=1)]))
                skips.append(width)
        self.skip_widths = tuple(skips)
        self.middle = nn.ModuleList(
            [
                ResidualBlock(width, width, time, groups, dropout),
                *([Attention2d(width, heads, groups)] if any(attention) else []),
                *self.further_layers(width, heads, groups, any(attention)),
                ResidualBlock(width, width, time, groups, dropout),
            ]
        )
        self.up = nn.ModuleList()
        for i, wide in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.up.append(stage(width + skips.pop(), wide, attention[i]))
                width = wide
            if i:
                up = nn.Sequential(nn.Upsample(scale_factor=2.0), nn.Conv2d(width, width, 3, padding=1))
                self.up.append(nn.ModuleList([up]))
        said = inside * (1 + int(variance))
        self.output = nn.Sequential(
            nn.GroupNorm(groups, width), nn.SiLU(), near_zero_init(nn.Conv2d(width, said, 3, padding=1))
        )

    @property
    def aligned(self) -> tuple[str, int]:
        """The layer that is led to features (`niwaki.nn.alignment`), the last of the middle; its width."""
        return f"middle.{len(self.middle) - 1}", self.skip_widths[-1]

    def hidden_map(self, out: Tensor) -> Tensor:
        """What a layer says as `(n, channels, h, w)`."""
        return out

    def further_layers(self, width: int, heads: int, groups: int, attend: bool) -> list[nn.Module]:
        """What follows the residual block of every stage, and its attention where it has one: nothing in an
        image."""
        return []

    def forward(self, x: Tensor, t: Tensor, *conditions: Tensor) -> Any:
        h, rest = self.enter(x, conditions)
        return self.answers(self.denoise(h, self.embed_time(t, rest)))

    def enter(self, x: Tensor, conditions: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
        """Features `(n, widths[0], h, w)` of the input, one for each patch, and the conditions without the
        estimate of x₀."""
        if self.first_estimate is None:
            return self.first(self.to_patches(x)), conditions
        *rest, estimate = conditions
        return self.first(self.to_patches(x)) + self.first_estimate(self.to_patches(estimate)), rest

    def answers(self, out: Tensor) -> Any:
        """The prediction of patches `(n, C p², h, w)`, or (prediction, share) of `(n, 2C p², h, w)`."""
        out = self.to_pixels(out)
        if not self.variance:
            return out
        said, share = out.chunk(2, dim=1)
        return said, 0.5 * (1.0 + share)

    def embed_time(self, t: Tensor, conditions: Sequence[Tensor]) -> Tensor:
        """What residual blocks are told of the time and of classes and vectors: `(n, 4·widths[0])`."""
        time = self.clock(t)
        if self.embed is not None:
            time = time + self.embed(conditions[0])
        for layer, vector in zip(
            self.vectors, conditions[len(conditions) - len(self.vectors) :], strict=True
        ):
            time = time + layer(vector)
        return self.time_activation(time)

    def denoise(self, h: Tensor, time: Tensor) -> Tensor:
        """Features `(n, widths[0], h, w)` of the input → the output of patches `(n, C p², h, w)`, of
        variances too twice as many."""
        return self.decode(*self.encode(h, time), time)

    def encode(self, h: Tensor, time: Tensor) -> tuple[list[Tensor], Tensor]:
        """What the way down leaves for the way up, of `skip_widths` channels, and what the middle says."""
        skips = [h]
        for stage in self.down:
            h = _run(stage, h, time)
            skips.append(h)
        return skips, _run(self.middle, h, time)

    def decode(self, skips: Sequence[Tensor], h: Tensor, time: Tensor) -> Tensor:
        """The way up, from what `encode` gave."""
        skips = list(skips)
        for stage in self.up:
            if isinstance(stage[0], ResidualBlock):  # type: ignore[index]
                h = torch.cat([h, skips.pop()], dim=1)
            h = _run(stage, h, time)
        return self.output(h)


def _run(parts: nn.Module, h: Tensor, time: Tensor) -> Tensor:
    """The parts of one stage, in order; residual blocks are told the time."""
    for part in parts.children():
        h = part(h, time) if isinstance(part, ResidualBlock) else part(h)
    return h
