"""What a recipe says of a loss of one's own, and of when a stage ends early."""

from __future__ import annotations

from pydantic import Field

from niwaki.core.base_config import BaseConfig

__all__ = ["EarlyStopping", "LossConfig"]


class LossConfig(BaseConfig):
    """A further loss, added to those of a phase.

    call:   `latent_smoothness`, or `module:function`, called as (model, batch, ctx); returns a scalar, or
            scalars by name
    weight: of all its terms, beside `loss_weights`
    phase:  where it is added; may be left out where the model has one phase
    """

    call: str = Field(pattern=r"^([A-Za-z_][\w.]*:)?[A-Za-z_][\w.]*$")
    weight: float = 1.0
    phase: str | None = None


class EarlyStopping(BaseConfig):
    """When a stage ends before its last step: after `patience` validations in a row that are not lower than
    the best before by more than `min_delta`."""

    patience: int = Field(5, gt=0)
    min_delta: float = Field(0.0, ge=0)
