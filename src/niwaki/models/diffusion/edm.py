"""EDM (Karras, Aittala, Aila & Laine 2022): its path, preconditioning and loss around the U-Net, by Heun."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from niwaki.models.diffusion.config import DenoiserConfig
from niwaki.models.diffusion.ddpm import Ddpm
from niwaki.models.registry import register
from niwaki_runtime.process import Karras, Process

__all__ = ["Edm", "EdmConfig"]


class EdmConfig(DenoiserConfig):
    """
    sigma_data: standard deviation of the data's values; measure it (`x.std()`)
    sigma_min, sigma_max, rho, spacing: which σ are visited (`Karras`)
    noise_mean, noise_std: of ln σ in training
    prediction: `edm`: F of D = c_skip x + c_out F
    other settings: as in `DenoiserConfig`; Heun's `steps` cost 2·steps − 1 calls
    """

    sigma_data: float = Field(0.5, gt=0)
    sigma_min: float = Field(0.002, gt=0)
    sigma_max: float = Field(80.0, gt=0)
    rho: float = Field(7.0, gt=0)
    spacing: Literal["karras", "trailing"] = "karras"
    noise_mean: float = -1.2
    noise_std: float = Field(1.2, gt=0)
    prediction: Literal["edm", "epsilon", "x0"] = "edm"
    usual: ClassVar[dict[str, Any]] = {"solver": "heun", "steps": 12}

    def process(self) -> Process:
        return Karras(
            sigma_min=self.sigma_min,
            sigma_max=self.sigma_max,
            rho=self.rho,
            spacing=self.spacing,
            sigma_data=self.sigma_data,
            mean=self.noise_mean,
            std=self.noise_std,
        )


@register("edm")
class Edm(Ddpm):
    """A denoiser on EDM's path, whose network sees and makes values near 1 at every noise level.

    The graph is F itself; the sampler makes D around it (`Karras`), so that int8 ranges and half precision
    see nothing far from 1.
    """

    Config = EdmConfig
    config: EdmConfig
