"""What a recipe says about training on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from niwaki.compression.step_config import Step

__all__ = ["FinetuneConfig"]


class FinetuneConfig(Step):
    """Train on, taught by the uncompressed model at equal noise and equal condition.

    steps, batch, betas, warmup, clip, ema, precision, device: as in training
    lr:          of what is taught by the teacher; it may be high, for the distance is a tame loss
    own_lr:      of what only the model's own loss trains (a critic)
    outputs:     weight of the distance between the student's and the teacher's outputs
    distance:    `l1`, `l2`, or `l1l2` for their sum
    spread:      weight of the difference in the distances between samples, for graphs that make samples;
                 it rises over the first half
    own:         weight of the model's own loss (adversarial for a GAN: it keeps the diversity)
    """

    kind: Literal["finetune"] = "finetune"
    steps: int = Field(default=500, ge=1)
    batch: int = Field(default=128, ge=1)
    lr: float = Field(default=2e-3, gt=0)
    own_lr: float = Field(default=2e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.99)
    warmup: int = Field(default=20, ge=0)
    clip: float = Field(default=0.0, ge=0)
    ema: float = Field(default=0.99, ge=0, lt=1)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    device: str = "auto"
    outputs: float = Field(default=10.0, ge=0)
    distance: Literal["l1", "l2", "l1l2"] = "l1l2"
    spread: float = Field(default=10.0, ge=0)
    own: float = Field(default=0.1, ge=0)

    def refusal(self, earlier: Sequence[Step]) -> str:
        if any(step.kind == "quantize" for step in earlier):
            return (
                "needs weights to change, but 'quantize' has made them integers in the exported graph; "
                "put 'quantize' last"
            )
        return ""
