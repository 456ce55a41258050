"""A U-Net of clips, factorised over space and time (Ho et al., "Video diffusion models", NeurIPS 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from niwaki.models.diffusion.unet import UNet
from niwaki.models.video.temporal import TEMPORAL

__all__ = ["SpaceTimeUNet"]


class SpaceTimeUNet(UNet):
    """x_t `(n, T, C, H, W)`, t float32 `(n,)`, classes int64 `(n,)`, past `(n, P, C, H, W)` → the prediction,
    like x_t.

    Convolutions, norms and attention over space take every frame as an image of its own; after those of each
    stage come the layers over time. Of a past the frames come before those that are made, through a first
    convolution of their own, which also tells them apart: they are known, and have no noise.

    frames:   T
    past:     P, 0 for none
    temporal: names of the layers over time (`TEMPORAL`), in their order; those that attend are where there is
              attention over space
    settings: those of `UNet`
    """

    def __init__(
        self,
        channels: int,
        *,
        frames: int,
        past: int = 0,
        temporal: Sequence[str] = ("convolution", "attention"),
        **settings: Any,
    ) -> None:
        self._length, self._temporal = frames + past, tuple(temporal)  # asked for while the stages are made
        super().__init__(channels, **settings)
        self.frames, self.past = frames, past
        inside = channels * settings.get("patch", 1) ** 2
        self.first_past = nn.Conv2d(inside, settings["widths"][0], 3, padding=1) if past else None

    def further_layers(self, width: int, heads: int, groups: int, attend: bool) -> list[nn.Module]:
        chosen = (TEMPORAL[name] for name in self._temporal)
        return [layer(width, self._length, heads, groups) for layer in chosen if attend or not layer.attends]

    def forward(self, x: Tensor, t: Tensor, *conditions: Tensor) -> Any:
        h, rest = self.enter(x, conditions)
        if self.first_past is not None:
            *rest, past = rest
            known = self.first_past(self.to_patches(past.flatten(0, 1)))
            both = known.unflatten(0, (-1, self.past)), h.unflatten(0, (-1, self.frames))
            h = torch.cat(both, dim=1).flatten(0, 1)
        time = self.embed_time(t, rest)
        out = self.denoise(h, time[:, None].expand(-1, self._length, -1).flatten(0, 1))
        made = self.answers(out)
        return tuple(self._clips(part) for part in made) if self.variance else self._clips(made)

    def enter(self, x: Tensor, conditions: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
        if self.first_estimate is None:
            return self.first(self.to_patches(x.flatten(0, 1))), conditions
        *rest, estimate = conditions
        frames = (self.to_patches(part.flatten(0, 1)) for part in (x, estimate))
        return self.first(next(frames)) + self.first_estimate(next(frames)), rest

    def _clips(self, frames: Tensor) -> Tensor:
        """Frames of past and clip in one row → those that are made, `(n, T, C, H, W)`."""
        return frames.unflatten(0, (-1, self._length))[:, self.past :]
