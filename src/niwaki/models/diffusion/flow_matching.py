"""Flow matching on the straight path (Lipman et al. 2023; Liu, Gong & Liu 2023): a U-Net says velocities."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from niwaki.models.diffusion.config import DenoiserConfig
from niwaki.models.diffusion.ddpm import Ddpm
from niwaki.models.registry import register
from niwaki_runtime.process import LinearPath, Process

__all__ = ["FlowMatching", "FlowMatchingConfig"]


class FlowMatchingConfig(DenoiserConfig):
    """
    shift:      k of t → k t / (1 + (k − 1) t), in training and sampling; above 1 for large images
    density:    of t in training: `uniform` or `logit_normal`
    prediction: `velocity` or `x0`
    other settings: as in `DenoiserConfig`; Heun's `steps` cost 2·steps − 1 calls
    """

    shift: float = Field(1.0, gt=0)
    density: Literal["uniform", "logit_normal"] = "logit_normal"
    prediction: Literal["velocity", "x0"] = "velocity"
    usual: ClassVar[dict[str, Any]] = {"solver": "heun", "steps": 12}

    def process(self) -> Process:
        return LinearPath(shift=self.shift, density=self.density)


@register("flow-matching")
class FlowMatching(Ddpm):
    """A network that follows the straight path from noise to samples (rectified flow)."""

    Config = FlowMatchingConfig
    config: FlowMatchingConfig
