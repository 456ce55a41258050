"""What is kept of a diffusers pipeline: enough to build it again without its folder and without its author's
code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from niwaki.core.base_config import BaseConfig

__all__ = ["NETWORKS", "PIPELINES", "Component", "PipelineConfig", "plain"]

PIPELINES = {
    "DDPMPipeline": "unet",
    "DDIMPipeline": "unet",
    "StableDiffusionPipeline": "unet",
    "DiTPipeline": "transformer",
}
"""Pipelines that can be adapted → which of their networks takes the noise away."""

NETWORKS = {
    "UNet2DModel": "diffusers",
    "UNet2DConditionModel": "diffusers",
    "DiTTransformer2DModel": "diffusers",
    "AutoencoderKL": "diffusers",
    "CLIPTextModel": "transformers",
}
"""Classes that networks may have → the library that they are of. No other code is ever loaded."""


class Component(BaseConfig):
    """A class of diffusers or transformers by name, and the settings to make it with."""

    kind: str
    settings: dict[str, Any] = Field({})


class PipelineConfig(BaseConfig):
    """A pipeline, and the arguments of `adapt_pipeline`.

    pipeline:  its class in diffusers
    networks:  by their names in the pipeline: `unet`, `transformer`, `vae`, `text_encoder`
    scheduler: of the pipeline
    tokenizer: its files, by name
    captions:  prompt of each class; where there are any, the model is asked for classes instead of prompts
    solver:    instead of the scheduler's own, on its noise schedule; None keeps that
    spacing:   of the timesteps, instead of the scheduler's own; None keeps that
    steps:     network calls per sample
    guidance:  1 for none
    """

    pipeline: str
    networks: dict[str, Component]
    scheduler: Component
    tokenizer: dict[str, str] = Field({})
    captions: tuple[str, ...] = ()
    solver: Literal["ddim", "ddpm", "dpmpp_2m", "euler", "heun", "unipc", "consistency"] | None = None
    spacing: Literal["trailing", "leading", "linspace"] | None = None
    steps: int = 50
    guidance: float = 1.0

    @property
    def denoiser(self) -> str:
        """Name of the network that takes the noise away."""
        return PIPELINES[self.pipeline]


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A component's own config as JSON: without private keys, and without infinities (all are defaults)."""
    return {
        name: _listed(value)
        for name, value in settings.items()
        if not name.startswith("_") and not (isinstance(value, float) and not math.isfinite(value))
    }


def _listed(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_listed(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _listed(v) for k, v in value.items()}
    if hasattr(value, "tolist"):  # betas in memory are an array
        return value.tolist()
    return value if isinstance(value, bool | int | float | str) or value is None else str(value)
