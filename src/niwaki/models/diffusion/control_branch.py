"""The branch that leads a frozen U-Net by a picture (Zhang, Rao & Agrawala 2023, "Adding conditional control
to text-to-image diffusion models", Section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from niwaki.core.contract import CallError, ValueSpec
from niwaki.models.diffusion.unet import UNet

__all__ = ["ControlBranch"]


def zero_convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """1×1, weights and biases 0: it adds nothing until it is trained."""
    layer = nn.Conv2d(inputs, outputs, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


class ControlBranch(nn.Module):
    """x_t, t, conditions and the control picture → what is added to every skip of the U-Net, and to its
    middle.

    unet:    whose way down and middle are copied
    control: of the picture, `(C, H, W)`; its sides are the same multiple of those of the U-Net's first
             features
    places:  (h, w) of these features
    width:   channels between the picture and the first features

    Raises CallError for a picture of other proportions.
    """

    def __init__(self, unet: UNet, control: ValueSpec, places: tuple[int, int], width: int) -> None:
        super().__init__()
        channels, high, wide = control.shape
        stride = high // places[0]
        if stride < 1 or (places[0] * stride, places[1] * stride) != (high, wide):
            raise CallError(
                f"a control picture of {high}×{wide} pixels does not lie over {places[0]}×{places[1]} places"
            )
        self.trunk = deepcopy(unet)
        self.trunk.up, self.trunk.output = nn.ModuleList(), nn.Sequential()
        first, *_ = unet.skip_widths
        self.picture = nn.Sequential(
            nn.PixelUnshuffle(stride) if stride > 1 else nn.Identity(),
            nn.Conv2d(channels * stride**2, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            zero_convolution(width, first),
        )
        self.skips = nn.ModuleList(zero_convolution(n, n) for n in unet.skip_widths)
        self.middle = zero_convolution(unet.skip_widths[-1], unet.skip_widths[-1])

    def forward(
        self, x: Tensor, t: Tensor, conditions: Sequence[Tensor], control: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        h, rest = self.trunk.enter(x, conditions)
        h = h + self.picture(control)
        skips, middle = self.trunk.encode(h, self.trunk.embed_time(t, rest))
        return [layer(skip) for layer, skip in zip(self.skips, skips, strict=True)], self.middle(middle)

    def says_nothing(self) -> bool:
        """Whether everything that it adds is 0: before its first step."""
        zero = (self.middle, *self.skips)
        return not any(bool(p.any()) for layer in zero for p in layer.parameters())

    @torch.no_grad()
    def copy_trunk(self, unet: nn.Module) -> None:
        """Take over the weights of the U-Net's way down and middle."""
        own = self.trunk.state_dict()
        for name, weight in unet.state_dict().items():
            if name in own:
                own[name].copy_(weight)
