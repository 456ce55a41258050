"""What a recipe says about pruning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, field_validator

from niwaki.compression.step_config import Step

__all__ = ["PruneConfig"]


class PruneConfig(Step):
    """Cut whole channels out, so that every layer really becomes smaller.

    ratio:      share of the channels to take away, 0 … 1
    rounds:     cut in as many even steps, ranking anew after each
    recover:    distillation steps after each round but the last
    round_to:   widths stay multiples of this in layers wide enough (engines compute in blocks of 8 or 16)
    min_width:  no layer becomes narrower
    importance: a registered ranking of channels
    ranking:    `layer` takes the same share from every layer, `global` ranks all channels together
    exclude:    names (or beginnings of names) of modules that keep their width
    """

    kind: Literal["prune"] = "prune"
    ratio: float = Field(default=0.5, gt=0, lt=1)
    rounds: int = Field(default=1, ge=1)
    recover: int = Field(default=0, ge=0)
    round_to: int = Field(default=8, ge=1)
    min_width: int = Field(default=8, ge=1)
    importance: str = "magnitude"
    ranking: Literal["layer", "global"] = "layer"
    exclude: tuple[str, ...] = ()

    @field_validator("importance")
    @classmethod
    def _registered(cls, value: str) -> str:
        from niwaki.compression.pruning.importance import importance_of  # torch is wanted only now

        importance_of(value)
        return value

    def refusal(self, earlier: Sequence[Step]) -> str:
        if any(step.kind == "quantize" for step in earlier):
            return (
                "needs weights to change, but 'quantize' has made them integers in the exported graph; "
                "put 'quantize' last"
            )
        return ""
