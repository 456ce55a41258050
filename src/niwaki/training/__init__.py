"""The one trainer: any `Trainable`, in stages and phases, on Lightning Fabric."""

from niwaki.training.config import StageConfig, TrainConfig
from niwaki.training.fit import FitResult, fit
from niwaki.training.interrupts import Interrupted
from niwaki.training.nonfinite import NotFinite

__all__ = ["FitResult", "Interrupted", "NotFinite", "StageConfig", "TrainConfig", "fit"]
