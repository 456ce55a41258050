"""A transformer of two streams (Esser et al. 2024, "Scaling rectified flow transformers", Section 4).

Text and picture have weights of their own and attend to each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from niwaki.core.contract import CallError
from niwaki.models.diffusion.dit import DiT, DiTConfig
from niwaki.models.diffusion.networks import NETWORKS
from niwaki.models.registry import register_preset
from niwaki.nn.layers.joint_blocks import JointBlock

__all__ = ["MMDiT"]


@NETWORKS.register("mmdit")
class MMDiT(DiT):
    """As `DiT`, with the caption's tokens in a stream of their own; a label is a caption of one token.

    The last block makes nothing of the text any more. Raises CallError where there is nothing to be asked by.
    """

    takes_numbers: ClassVar[bool] = False

    def make_blocks(self, settings: DiTConfig, texts: int) -> nn.ModuleList:
        s = settings
        if not texts:
            raise CallError("the network 'mmdit' needs a caption or a class to be asked by; take dit")
        hidden, last = s.expansion * s.width, s.depth - 1
        return nn.ModuleList(
            JointBlock(
                s.width, s.heads, hidden, s.feed_forward, streams=1 + (i < last), silent=int(i == last)
            )
            for i in range(s.depth)
        )

    def transform(self, picture: Tensor, texts: Sequence[Tensor], c: Tensor) -> Tensor:
        tokens = [picture, texts[0] if len(texts) == 1 else torch.cat(list(texts), dim=1)]
        for block in self.blocks:
            tokens = block(tokens, c)
        return tokens[0]


register_preset(
    "mmdit",
    "flow-matching",
    "MMDiT (Esser et al. 2024) by flow matching: text and picture in two streams that attend to each other",
    network={"name": "mmdit"},
)
