"""The one trainer: any `Trainable`, in stages and phases, on Lightning Fabric."""

from niwaki.training.config import StageConfig, TrainConfig
from niwaki.training.fit import FitResult, fit
from niwaki.training.interrupts import Interrupted
from niwaki.training.loss_config import EarlyStopping, LossConfig
from niwaki.training.nonfinite import NotFinite
from niwaki.training.weights import init_from_hashes

__all__ = [
    "EarlyStopping",
    "FitResult",
    "Interrupted",
    "LossConfig",
    "NotFinite",
    "StageConfig",
    "TrainConfig",
    "fit",
    "init_from_hashes",
]
