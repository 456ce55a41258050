"""What a recipe says about quantization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from niwaki.compression.step_config import Step

__all__ = ["QuantizeConfig"]


class QuantizeConfig(Step):
    """Static int8 on the exported graph, ranges taken from real sampling trajectories.

    bits:        8
    calibration: inputs of each graph that ranges are taken from
    seed:        of the calibration samples; disjoint from every evaluation seed by construction
    preset:      `mixed` gives activations a zero point (after SiLU, GELU), `performance` keeps them symmetric
                 (after ReLU)
    model_type:  `transformer` for attention's own patterns
    ignored:     operators to leave in float, by the names of their modules
    """

    kind: Literal["quantize"] = "quantize"
    bits: Literal[8] = 8
    calibration: int = Field(default=300, ge=8)
    seed: int = Field(default=0, ge=0, lt=2**16)
    preset: Literal["mixed", "performance"] = "mixed"
    model_type: Literal["transformer"] | None = None
    ignored: tuple[str, ...] = ()

    def refusal(self, earlier: Sequence[Step]) -> str:
        if any(step.kind == "quantize" for step in earlier):
            return "would quantize a model that is quantized already; keep one 'quantize'"
        return ""
