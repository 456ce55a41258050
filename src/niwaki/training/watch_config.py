"""What a recipe says about watching a training: an adversarial one for collapse, any for its gradients."""

from __future__ import annotations

from pydantic import Field

from niwaki.core.base_config import BaseConfig

__all__ = ["WatchConfig"]


class WatchConfig(BaseConfig):
    """
    every:    steps between looks; 0 is a twentieth of the stage, and none in one of fewer than 100 steps
    samples:  generated for a look
    share:    of the training time that looks may take; those that would take more are left out, the last one
              excepted. 0 leaves none out, and neither do `stop` (where a training ends must not follow from
              the machine) and several processes
    after:    share of the stage before which nothing is told: a young generator reaches little
    patience: looks in a row that must show a failure before it is told
    stop:     whether the stage ends when collapse is told
    gradients: steps between measurements of the gradients and updates of every layer; 0 is a hundredth of the
              stage (10 at least), and none in one of fewer than 100 steps
    """

    every: int = Field(0, ge=0)
    samples: int = Field(256, ge=32)
    share: float = Field(0.03, ge=0, le=1)
    after: float = Field(0.25, ge=0, le=1)
    patience: int = Field(2, ge=1)
    stop: bool = False
    gradients: int = Field(0, ge=0, exclude_if=lambda value: value == 0)
