"""Diffusion models: one network and one loss, on the path that the config names."""

from niwaki.models.diffusion.ddpm import Ddpm, DdpmConfig
from niwaki.models.diffusion.edm import Edm, EdmConfig
from niwaki.models.diffusion.flow_matching import FlowMatching, FlowMatchingConfig
from niwaki.models.diffusion.latent import LatentDiffusion, LatentDiffusionConfig
from niwaki.models.diffusion.mean_flow import MeanFlow, MeanFlowConfig

__all__ = [
    "Ddpm",
    "DdpmConfig",
    "Edm",
    "EdmConfig",
    "FlowMatching",
    "FlowMatchingConfig",
    "LatentDiffusion",
    "LatentDiffusionConfig",
    "MeanFlow",
    "MeanFlowConfig",
]
