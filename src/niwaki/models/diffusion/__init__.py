"""Diffusion models: one network and one loss, on the path that the config names."""

from niwaki.models.diffusion.cascaded import CascadedDiffusion, CascadedDiffusionConfig
from niwaki.models.diffusion.controlnet import ControlNet, ControlNetConfig
from niwaki.models.diffusion.ddpm import Ddpm, DdpmConfig
from niwaki.models.diffusion.dit import DiT, DiTConfig
from niwaki.models.diffusion.edm import Edm, EdmConfig
from niwaki.models.diffusion.flow_matching import FlowMatching, FlowMatchingConfig
from niwaki.models.diffusion.latent import LatentDiffusion, LatentDiffusionConfig
from niwaki.models.diffusion.mean_flow import MeanFlow, MeanFlowConfig
from niwaki.models.diffusion.mmdit import MMDiT

__all__ = [
    "CascadedDiffusion",
    "CascadedDiffusionConfig",
    "ControlNet",
    "ControlNetConfig",
    "Ddpm",
    "DdpmConfig",
    "DiT",
    "DiTConfig",
    "Edm",
    "EdmConfig",
    "FlowMatching",
    "FlowMatchingConfig",
    "LatentDiffusion",
    "LatentDiffusionConfig",
    "MMDiT",
    "MeanFlow",
    "MeanFlowConfig",
]
