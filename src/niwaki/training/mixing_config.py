"""What a recipe says about mixed samples."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from niwaki.core.base_config import BaseConfig

__all__ = ["MixConfig"]


class MixConfig(BaseConfig):
    """
    mixup:  α of λ ~ Beta(α, α): samples are λ x + (1 − λ) x'; 0 is none of it
    cutmix: α likewise: a box of the share 1 − λ is pasted from x'. With both, batches are mixed either way
    share:  of the batches that are mixed
    until:  share of the stage after which none is
    """

    mixup: float = Field(0.0, ge=0)
    cutmix: float = Field(0.0, ge=0)
    share: float = Field(1.0, gt=0, le=1)
    until: float = Field(1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.mixup or self.cutmix):
            raise ValueError("say how samples are mixed: 'mixup' or 'cutmix' above 0")
        return self
