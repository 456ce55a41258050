"""What a recipe says about low-rank adapters."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Self

from pydantic import Field, model_validator

from niwaki.core.base_config import BaseConfig
from niwaki.nn.low_rank import adapter_class, is_adapter

__all__ = ["AdapterConfig", "named"]


def named(name: str, patterns: Iterable[str]) -> bool:
    """Whether a dotted name, a part of it, or what it lies in, is one of the patterns:
    `blocks.0.attention.key` is named by `attention`, by `blocks.*.key` and by `blocks`."""
    return any(fnmatchcase(f".{name}.", f"*.{pattern}.*") for pattern in patterns)


class AdapterConfig(BaseConfig):
    """
    name:  `lora`: W + (α/r)·B·A; `dora`: the same for the direction, with a free magnitude of each output
    rank:  r, of the change of each weight
    alpha: α; the change is multiplied by α/r
    on:    the layers that are adapted: dotted names of modules or parts of them, `*` for anything
           (`attention`, `denoiser.*`). Empty is every linear layer and convolution that the stage trains
    also:  weights, named so too, that are trained as they are, beside the adapters; all others stay
    """

    name: str = "lora"
    rank: int = Field(8, gt=0)
    alpha: float = Field(16.0, gt=0)
    on: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _known(self) -> Self:
        adapter_class(self.name)
        return self

    def trains(self, name: str) -> bool:
        """Whether the parameter of this name is trained."""
        return is_adapter(name) or named(name, self.also)
