"""What is kept of a diffusers pipeline: enough to build it again without its folder and without its author's
code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from niwaki.adapters.diffusers.kinds import KINDS, PipelineKind
from niwaki.core.base_config import BaseConfig

__all__ = ["NETWORKS", "TOKENIZERS", "Component", "PipelineConfig", "Words", "plain", "size_of"]

NETWORKS = {
    "UNet2DModel": "diffusers",
    "UNet2DConditionModel": "diffusers",
    "DiTTransformer2DModel": "diffusers",
    "AutoencoderKL": "diffusers",
    "CLIPTextModel": "transformers",
    "CLIPTextModelWithProjection": "transformers",
    "T5EncoderModel": "transformers",
    "SD3Transformer2DModel": "diffusers",
    "FluxTransformer2DModel": "diffusers",
}
"""Classes that networks may have → the library that they are of. No other code is ever loaded."""

TOKENIZERS = {
    "CLIPTokenizer": "CLIPTokenizer",
    "CLIPTokenizerFast": "CLIPTokenizer",
    "T5Tokenizer": "T5Tokenizer",
    "T5TokenizerFast": "T5Tokenizer",
}
"""Classes that tokenizers may have → the class of transformers that reads their files."""


class Component(BaseConfig):
    """A class of diffusers or transformers by name, and the settings to make it with."""

    kind: str
    settings: dict[str, Any] = Field({})


class Words(BaseConfig):
    """A tokenizer.

    kind:   the class of transformers that reads it
    files:  by name
    length: that prompts are padded to; 0 is the tokenizer's own
    """

    kind: str = "CLIPTokenizer"
    files: dict[str, str] = Field({})
    length: int = 0


class PipelineConfig(BaseConfig):
    """A pipeline, and the arguments of `adapt_pipeline`.

    pipeline:  its class in diffusers
    networks:  by their names in the pipeline: `unet`, `transformer`, `vae`, `text_encoder` …
    scheduler: of the pipeline
    tokenizer: files of its (first) tokenizer, by name
    tokenizers: those beyond the first, by their names in the pipeline
    said:      settings of the pipeline itself that are acted upon
    captions:  prompt of each class; where there are any, the model is asked for classes instead of prompts
    solver:    instead of the scheduler's own, on its noise schedule; None keeps that
    spacing:   of the timesteps, instead of the scheduler's own; None keeps that
    length:    tokens of a prompt where the pipeline says it (T5); 0 is what the pipeline does
    steps:     network calls per sample
    guidance:  1 for none
    told:      weight of guidance that the denoiser is told; 0 where it is told none
    size:      height and width of the latents, where no component says it; empty is what the pipeline does
    """

    pipeline: str
    networks: dict[str, Component]
    scheduler: Component
    tokenizer: dict[str, str] = Field({})
    tokenizers: dict[str, Words] = Field({})
    said: dict[str, Any] = Field({})
    captions: tuple[str, ...] = ()
    solver: Literal["ddim", "ddpm", "dpmpp_2m", "euler", "heun", "unipc", "consistency"] | None = None
    spacing: Literal["trailing", "leading", "linspace"] | None = None
    length: int = 0
    steps: int = 50
    guidance: float = 1.0
    told: float = 0.0
    size: tuple[int, ...] = ()

    @property
    def kind(self) -> PipelineKind:
        return KINDS[self.pipeline]

    @property
    def denoiser(self) -> str:
        """Name of the network that takes the noise away."""
        return self.kind.denoiser

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what the denoiser takes the noise from."""
        settings, kind = self.networks[self.denoiser].settings, self.kind
        channels = int(settings["in_channels"]) // max(kind.pack, 1) ** 2
        height, width = size_of((self.size or kind.size) if kind.size else settings["sample_size"])
        return channels, height, width

    @property
    def image_tokens(self) -> int:
        """Tokens of one image, where the denoiser makes some of it."""
        settings = self.networks[self.denoiser].settings
        side = self.kind.pack or int(settings.get("patch_size") or 1)
        return math.prod(self.shape[1:]) // side**2

    @property
    def texts(self) -> tuple[str, ...]:
        """Names of the text encoders that are there, in the order of their tokens."""
        return tuple(name for name in self.kind.texts if name in self.networks)

    @property
    def words(self) -> tuple[Words, ...]:
        """The tokenizer of each of `texts`."""
        known = {"tokenizer": Words(files=self.tokenizer), **self.tokenizers}
        found = {name: known[name.replace("text_encoder", "tokenizer")] for name in self.texts}
        return tuple(
            words.model_copy(update={"length": self.length_of(name)}) for name, words in found.items()
        )

    def length_of(self, encoder: str) -> int:
        """Tokens of a prompt that a text encoder reads, where the pipeline says it; else 0."""
        return (self.length or self.kind.lengths[encoder]) if encoder in self.kind.lengths else 0


def size_of(size: Any) -> tuple[int, int]:
    """Height and width of what diffusers calls a sample_size."""
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


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
