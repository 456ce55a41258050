"""Published architectures in small, by family. Importing it fills `CASES`."""

from prunability.zoo import (
    autoregressive,
    backbones,
    diffusers_models,
    dynamic,
    flows,
    gans,
    gans_translation,
    ours,
    refused,
    transformers_models,
    vaes,
)
from prunability.zoo.case import CASES, Case

__all__ = [
    "CASES", "Case", "autoregressive", "backbones", "diffusers_models", "dynamic", "flows", "gans",
    "gans_translation", "ours", "refused", "transformers_models", "vaes",
]  # fmt: skip
