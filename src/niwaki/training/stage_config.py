"""What a recipe says about one of several trainings that follow each other."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from niwaki.core.base_config import BaseConfig

__all__ = ["Rate", "Source", "StageConfig"]

Rate = Annotated[float, Field(ge=0)]
Source = str | dict[str, str] | None


class StageConfig(BaseConfig):
    """One of several trainings that follow each other (a codec, then a prior over its codes).

    name:         what phases call it (`Phase.stage`)
    steps:        its length
    lr:           overrides the learning rate of the whole training: one number, or by optimizer name
    freeze:       names of modules (or parameters) that stay as they are, in evaluation mode
    init_from:    where weights are taken from before its first step, as in `TrainConfig`
    init_only:    of a single `init_from`: only the weights under these names; all of them must be there
    init_rename:  how names of stored weights begin → how they do in the model
    init_partial: take what fits, and say what does not
    loss_weights: weights by loss term, over those of the whole training
    more:         any other setting of `TrainConfig` that makes sense within a stage (batch, optimizers,
                  schedule, warmup, clip, ema, accumulate, precision, losses, early_stopping …)
    """

    model_config = ConfigDict(extra="allow")

    name: str
    steps: int = Field(gt=0)
    lr: Rate | dict[str, Rate] | None = None
    freeze: tuple[str, ...] = ()
    init_from: Source = None
    init_only: tuple[str, ...] = ()
    init_rename: dict[str, str] = Field(default={}, exclude_if=lambda value: not value)
    init_partial: bool = Field(False, exclude_if=lambda value: not value)
    loss_weights: dict[str, float] = Field(default={})

    @property
    def given(self) -> dict[str, Any]:
        """The settings of the whole training that it changes."""
        rate = {} if self.lr is None else {"lr": self.lr}
        return {**(self.model_extra or {}), **rate, "loss_weights": self.loss_weights}
