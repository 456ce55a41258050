"""What a recipe says about sensitivity."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from niwaki.core.base_config import BaseConfig
from niwaki_runtime.errors import CallError

__all__ = ["SensitivityConfig"]


class SensitivityConfig(BaseConfig):
    """Which layers are tried, how hard, and on how many samples.

    ratios:      shares of a layer's channels to cut
    bits:        of a layer's weights alone: 2 … 8
    activations: whether inputs of 8 bits are tried, too
    n:           pairs of samples for every trial; 400 let 200 real samples serve, the fewest that a margin of
                 diversity can be measured on
    confirm:     how many trials are repeated with more samples
    confirm_n:   pairs of samples for those
    importance:  how channels are ranked, as in `prune`
    layers:      names (or beginnings of names) of layers to try; empty is all
    margins:     `fidelity` and `diversity`, to use instead of measured ones
    """

    ratios: tuple[float, ...] = (0.25, 0.5, 0.75)
    bits: tuple[Literal[2, 3, 4, 5, 6, 7, 8], ...] = (8, 6, 4, 3)
    activations: bool = True
    n: int = Field(default=400, ge=50)
    confirm: int = Field(default=8, ge=0)
    confirm_n: int = Field(default=1500, ge=50)
    importance: str = "magnitude"
    layers: tuple[str, ...] = ()
    margins: dict[str, float] = Field(default={})

    @field_validator("ratios")
    @classmethod
    def _shares(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        for ratio in value:
            if not 0 < ratio < 1:
                raise CallError(f"a ratio lies between 0 and 1, not at {ratio}")
        return value
