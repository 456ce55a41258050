"""A diffusion transformer (Peebles & Xie 2023, "Scalable diffusion models with transformers"): patches,
adaLN-Zero, and captions as further tokens."""

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
from niwaki.models.registry import register_preset
from niwaki.nn.layers.blocks import Unflatten, near_zero_init
from niwaki.nn.layers.embedding import Sinusoidal
from niwaki.nn.layers.feed_forward import FeedForward
from niwaki.nn.layers.joint_blocks import AdaptiveNorm, JointBlock
from niwaki.nn.layers.text_encoder import TextEncoder

__all__ = ["DiT", "DiTConfig", "grid_places"]


class DiTConfig(BaseConfig):
    """
    patch:      edge in pixels (or places of latents) of what becomes one token
    width:      of tokens
    depth:      blocks
    heads:      of each attention
    expansion:  width between the two layers of a block's MLP, in multiples of `width`
    feed_forward: what an MLP consists of, as in `BlockStyle`; `squared_relu` is cheaper on a CPU
    text_width: of the vectors that encode a caption's tokens
    text_depth: blocks of the transformer that encodes captions; 0 lets no word look at another
    text_heads: of each attention in it; `text_width` is a multiple of twice as many
    """

    patch: int = Field(2, ge=1)
    width: int = Field(128, ge=4)
    depth: int = Field(6, ge=1)
    heads: int = Field(4, ge=1)
    expansion: int = Field(4, ge=1)
    feed_forward: FeedForward = "gelu"
    text_width: int = Field(64, ge=4)
    text_depth: int = Field(1, ge=0)
    text_heads: int = Field(4, ge=1)


@NETWORKS.register("dit")
class DiT(nn.Module):
    """x_t `(n, C, H, W)`, t float32 `(n,)` in timesteps, conditions → the prediction, like x_t, or with a
    share of each variance.

    Time, the class and the mean over a caption's tokens modulate every block; the tokens themselves stand
    beside those of the picture, and share their weights ("in-context conditioning", Section 3.2).

    Raises CallError where patches do not divide what is noised.
    """

    name: ClassVar[str]
    Config: ClassVar[type[BaseConfig]] = DiTConfig
    takes_numbers: ClassVar[bool] = True
    asks_texts: ClassVar[bool] = True

    @classmethod
    def encoder(
        cls, config: DenoiserConfig, settings: DiTConfig, asked: ConditionSpec, blank: int | None
    ) -> TextEncoder:
        s = settings
        return TextEncoder.of(asked, blank, s.text_width, s.text_depth, s.text_heads)

    @classmethod
    def for_task(cls, config: DenoiserConfig, settings: DiTConfig, task: Task) -> Self:
        if config.dropout:
            raise CallError(f"the network '{cls.name}' has no dropout; leave out 'model.dropout'")
        return cls(settings, task)

    def __init__(self, settings: DiTConfig, task: Task) -> None:
        super().__init__()
        s, patch, width = settings, settings.patch, settings.width
        if task.height % patch or task.width % patch:
            raise CallError(f"a patch of {patch} does not divide {task.height}×{task.width} places")
        if width % 4:
            raise CallError(f"places are told in quarters of the width, and {width} is no multiple of 4")
        self.variance = task.variance
        self.clock = nn.Sequential(
            Sinusoidal(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.embed = nn.Embedding(task.classes + int(task.null), width) if task.classes else None
        self.pooled = nn.ModuleList(nn.Linear(shape[-1], width) for shape in task.encoded)
        self.texts = nn.ModuleList(nn.Linear(shape[-1], width) for shape in task.encoded)
        self.activation = nn.SiLU()
        self.first = nn.Conv2d(task.channels, width, patch, stride=patch)
        # A convolution of both side by side is the sum of one of each.
        self.first_estimate = (
            nn.Conv2d(task.channels, width, patch, stride=patch, bias=False) if task.estimate else None
        )
        rows, columns = task.height // patch, task.width // patch
        self.places = nn.Parameter(grid_places(rows, columns, width))
        self.blocks = self.make_blocks(s, len(task.encoded))
        self.norm, self.norm_width = AdaptiveNorm(width), width
        self.grid = Unflatten(rows, columns)
        said = task.channels * (1 + int(task.variance))
        self.output = nn.Sequential(
            near_zero_init(nn.Conv2d(width, said * patch**2, 1)), nn.PixelShuffle(patch)
        )

    def make_blocks(self, settings: DiTConfig, texts: int) -> nn.ModuleList:
        """The blocks of a network that is given so many texts."""
        s, hidden = settings, settings.expansion * settings.width
        return nn.ModuleList(JointBlock(s.width, s.heads, hidden, s.feed_forward) for _ in range(s.depth))

    @property
    def aligned(self) -> tuple[str, int]:
        """The block that is led to features (`niwaki.nn.alignment`), a third of the way as the paper's eighth
        of 28 is, and its width."""
        return f"blocks.{(len(self.blocks) - 1) // 3}", self.norm_width

    def hidden_map(self, out: Tensor | Sequence[Tensor]) -> Tensor:
        """What a block says of the picture's tokens, which come last, as `(n, width, h, w)`."""
        tokens = (out if isinstance(out, Tensor) else out[0])[:, -self.grid.height * self.grid.width :]
        return self.grid(tokens.transpose(1, 2).flatten(1))

    def transform(self, picture: Tensor, texts: Sequence[Tensor], c: Tensor) -> Tensor:
        """Tokens `(n, T, width)` of the picture and of every text → those of the picture after all blocks."""
        tokens = torch.cat([*texts, picture], dim=1) if texts else picture
        for block in self.blocks:
            (tokens,) = block([tokens], c)
        return tokens[:, tokens.shape[1] - picture.shape[1] :]

    def forward(self, x: Tensor, t: Tensor, *conditions: Tensor) -> Any:
        rest = list(conditions)
        h = self.first(x)
        if self.first_estimate is not None:
            h = h + self.first_estimate(rest.pop())
        picture = h.flatten(2).transpose(1, 2) + self.places
        c = self.clock(t)
        if self.embed is not None:
            c = c + self.embed(rest.pop(0))
        texts = [text if text.ndim == 3 else text[:, None] for text in rest]
        for layer, text in zip(self.pooled, texts, strict=True):
            c = c + layer(text.mean(1))
        c = self.activation(c)
        entered = [layer(text) for layer, text in zip(self.texts, texts, strict=True)]
        picture = self.norm(self.transform(picture, entered, c), c)
        out = self.output(self.grid(picture.transpose(1, 2).flatten(1)))
        if not self.variance:
            return out
        said, share = out.chunk(2, dim=1)
        return said, 0.5 * (1.0 + share)


def grid_places(rows: int, columns: int, width: int) -> Tensor:
    """Sines and cosines `(rows·columns, width)` of the row and of the column of every token (Section 3.2 of
    Dosovitskiy et al. 2021 in two dimensions), from which the network learns its own."""
    half = Sinusoidal(width // 2)
    down, along = half(torch.arange(rows)), half(torch.arange(columns))
    both = [down[:, None].expand(-1, columns, -1), along[None].expand(rows, -1, -1)]
    return torch.cat(both, dim=-1).flatten(0, 1) / math.sqrt(2.0)


register_preset(
    "dit",
    "flow-matching",
    "Diffusion transformer (Peebles & Xie 2023) by flow matching, asked by class or caption",
    network={"name": "dit"},
)
