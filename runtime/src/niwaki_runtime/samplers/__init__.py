"""Ways of sampling, one file each: plain JSON-able data that runs on torch tensors and numpy arrays alike."""

from niwaki_runtime.samplers.autoregressive import Autoregressive
from niwaki_runtime.samplers.autoregressive_flow import AutoregressiveFlow
from niwaki_runtime.samplers.base import (
    Backend,
    MixedNoise,
    Noise,
    NumpyBackend,
    Runner,
    Sampler,
    State,
    sampler_from_json,
)
from niwaki_runtime.samplers.bits_back import BitsBack
from niwaki_runtime.samplers.cascade import Cascade
from niwaki_runtime.samplers.diffusion import Diffusion
from niwaki_runtime.samplers.direct_coding import DirectCoding
from niwaki_runtime.samplers.inpaint import Inpaint
from niwaki_runtime.samplers.inversion import Inversion
from niwaki_runtime.samplers.latent_inpaint import LatentInpaint
from niwaki_runtime.samplers.latent_upscale import LatentUpscale
from niwaki_runtime.samplers.local_bits_back import LocalBitsBack
from niwaki_runtime.samplers.masked import Masked
from niwaki_runtime.samplers.masked_bound import MaskedBound
from niwaki_runtime.samplers.mean_flow import MeanFlow
from niwaki_runtime.samplers.mixture import Mixture
from niwaki_runtime.samplers.next_scale import NextScale
from niwaki_runtime.samplers.noise_conditioned import NoiseConditioned
from niwaki_runtime.samplers.ode_likelihood import OdeLikelihood
from niwaki_runtime.samplers.one_shot import OneShot
from niwaki_runtime.samplers.paths import Paths
from niwaki_runtime.samplers.raster import Raster
from niwaki_runtime.samplers.renoise import Renoise
from niwaki_runtime.samplers.steps import Steps
from niwaki_runtime.samplers.style_based import StyleBased
from niwaki_runtime.samplers.upscale import Upscale

__all__ = [
    "Autoregressive",
    "AutoregressiveFlow",
    "Backend",
    "BitsBack",
    "Cascade",
    "Diffusion",
    "DirectCoding",
    "Inpaint",
    "Inversion",
    "LatentInpaint",
    "LatentUpscale",
    "LocalBitsBack",
    "Masked",
    "MaskedBound",
    "MeanFlow",
    "MixedNoise",
    "Mixture",
    "NextScale",
    "Noise",
    "NoiseConditioned",
    "NumpyBackend",
    "OdeLikelihood",
    "OneShot",
    "Paths",
    "Raster",
    "Renoise",
    "Runner",
    "Sampler",
    "State",
    "Steps",
    "StyleBased",
    "Upscale",
    "sampler_from_json",
]
