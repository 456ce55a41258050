"""What a recipe says about storage: sharing weights, and packing them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from niwaki.compression.step_config import Step

__all__ = ["PackConfig", "ShareConfig"]


class ShareConfig(Step):
    """Few different weights: those of a layer become the centres of their clusters (k-means).

    The model stays float and is as fast as before; it is `pack` that makes few values small.

    clusters: different weights that stay, at most; 16 take 4 bits. Zero, where it occurs, is one of them
    per:      one set of values for each `layer`, or one for each output `channel`
    exclude:  names (or beginnings of names) of modules that keep their weights (a batch norm that follows
              still goes into them)
    """

    kind: Literal["share"] = "share"
    clusters: int = Field(default=16, ge=2, le=256)
    per: Literal["layer", "channel"] = "layer"
    exclude: tuple[str, ...] = ()

    def refusal(self, earlier: Sequence[Step]) -> str:
        if any(step.kind == "quantize" for step in earlier):
            return (
                "needs weights to change, but 'quantize' has made them integers in the exported graph; "
                "put 'quantize' after it"
            )
        return ""


class PackConfig(Step):
    """Store the bundle's weights entropy-coded; they are unpacked when it is loaded, bit for bit.

    It pays for sparse, shared and low-bit weights. Always the last step.
    """

    kind: Literal["pack"] = "pack"

    def refusal(self, earlier: Sequence[Step]) -> str:
        if any(step.kind == "pack" for step in earlier):
            return "would pack a bundle that is packed already; keep one 'pack', at the end"
        return ""
