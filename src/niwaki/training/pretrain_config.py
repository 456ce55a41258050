"""What a recipe says about pre-training a model's encoder."""

from __future__ import annotations

from pydantic import Field

from niwaki.core.base_config import BaseConfig
from niwaki.nn.augment.config import Augment

__all__ = ["PretrainConfig"]


class PretrainConfig(BaseConfig):
    """
    by:          what is learnt without labels: `simclr`
    temperature: τ of its loss
    augment:     how much views of a sample differ
    """

    by: str = "simclr"
    temperature: float = Field(0.2, gt=0)
    augment: Augment = Augment()
