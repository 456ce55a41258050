"""The pipelines that can be adapted: what each of them does with its components."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["KINDS", "Encoded", "PipelineKind"]

Settings = Mapping[str, Any]
Tokens = Mapping[str, int]


@dataclass(frozen=True)
class Encoded:
    """What a text encoder says of tokens `(n, length)`; None for what its class does not have.

    last:   states `(n, length, width)` after the last layer and its norm
    before: those before the last layer
    pooled: `(n, width)`
    """

    last: Tensor
    before: Tensor | None = None
    pooled: Tensor | None = None


@dataclass(frozen=True)
class PipelineKind:
    """A pipeline of diffusers, as far as its class and no component says.

    denoiser: name of the network that takes the noise away
    texts:    names of its text encoders, in the order in which their tokens follow each other
    optional: those of them that may be left out
    join:     (what each of them says, None for one left out; settings of the denoiser; tokens that each
              reads) → inputs of the denoiser after x and t
    outputs:  (settings of the networks, tokens that each encoder reads, both by name) → name and shape per
              sample of those inputs, in order
    lengths:  tokens of a prompt by encoder, where the pipeline says it and not the tokenizer
    guidance: its weight unless told otherwise; 0 where the pipeline does not guide
    told:     the weight of guidance that the denoiser is told unless told otherwise, where it has learned to
              be (`guidance_embeds`); 0 where none has
    spacing:  of the visited times where the pipeline and not its scheduler says them
    pack:     side of the squares of latents that are one token, where the pipeline makes tokens of them; 0
              where its denoiser takes them as they are
    size:     height and width of the latents unless told otherwise, where no component says it; 0 where one
              does
    latents:  `scaled` by the VAE's scaling_factor; also `normalized` by its latents_mean and latents_std,
              where it has them; or `shifted` by its shift_factor
    said:     settings in its model_index.json that are acted upon here
    silent:   what its model_index.json says of components that make no samples, which are left out
    """

    denoiser: str
    texts: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    join: Callable[[Sequence[Any], Settings, Tokens], tuple[Tensor, ...]] | None = None
    outputs: Callable[[Mapping[str, Settings], Tokens], dict[str, tuple[int, ...]]] | None = None
    lengths: Mapping[str, int] = field(default_factory=dict)
    guidance: float = 0.0
    told: float = 0.0
    spacing: Literal["trailing"] | None = None
    pack: int = 0
    size: int = 0
    latents: Literal["scaled", "normalized", "shifted"] = "scaled"
    said: tuple[str, ...] = ()
    silent: Mapping[str, Any] = field(default_factory=dict)


def _sd(texts: Sequence[Any], settings: Settings, tokens: Tokens) -> tuple[Tensor, ...]:
    return (texts[0].last,)


def _sd_outputs(settings: Mapping[str, Settings], tokens: Tokens) -> dict[str, tuple[int, ...]]:
    return {"states": (tokens["text_encoder"], int(settings["text_encoder"]["hidden_size"]))}


def _xl(texts: Sequence[Any], settings: Settings, tokens: Tokens) -> tuple[Tensor, ...]:
    """The states of both side by side, and the second one's pooled ones (Podell et al. 2023, Section 2.1)."""
    one, two = texts
    return torch.cat([one.before, two.before], dim=-1), two.pooled


def _sd3(texts: Sequence[Any], settings: Settings, tokens: Tokens) -> tuple[Tensor, ...]:
    """Those of both CLIPs side by side, filled up to T5's width, then T5's; and both pooled ones (Esser et
    al. 2024, Section 4)."""
    one, two, three = texts
    clip = torch.cat([one.before, two.before], dim=-1)
    wide = int(settings["joint_attention_dim"])
    clip = functional.pad(clip, (0, wide - clip.shape[-1]))
    if three is None:
        rest = clip.new_zeros((1, tokens["text_encoder_3"], wide)).expand(clip.shape[0], -1, -1)
    else:
        rest = three.last
    return torch.cat([clip, rest], dim=1), torch.cat([one.pooled, two.pooled], dim=-1)


def _sd3_outputs(settings: Mapping[str, Settings], tokens: Tokens) -> dict[str, tuple[int, ...]]:
    pooled = sum(int(settings[name]["projection_dim"]) for name in ("text_encoder", "text_encoder_2"))
    length = tokens["text_encoder"] + tokens["text_encoder_3"]
    return {"states": (length, int(settings["transformer"]["joint_attention_dim"])), "pooled": (pooled,)}


def _xl_outputs(settings: Mapping[str, Settings], tokens: Tokens) -> dict[str, tuple[int, ...]]:
    one, two = settings["text_encoder"], settings["text_encoder_2"]
    wide = int(one["hidden_size"]) + int(two["hidden_size"])
    return {"states": (tokens["text_encoder"], wide), "pooled": (int(two["projection_dim"]),)}


def _flux(texts: Sequence[Any], settings: Settings, tokens: Tokens) -> tuple[Tensor, ...]:
    """T5's states, and CLIP's pooled ones."""
    clip, t5 = texts
    return t5.last, clip.pooled


def _flux_outputs(settings: Mapping[str, Settings], tokens: Tokens) -> dict[str, tuple[int, ...]]:
    wide = int(settings["text_encoder_2"]["d_model"])
    pooled = int(settings["text_encoder"]["hidden_size"])
    return {"states": (tokens["text_encoder_2"], wide), "pooled": (pooled,)}


_NO_PICTURES = {"feature_extractor": [None, None], "image_encoder": [None, None]}

KINDS = {
    "DDPMPipeline": PipelineKind("unet"),
    "DDIMPipeline": PipelineKind("unet"),
    "StableDiffusionPipeline": PipelineKind(
        "unet",
        ("text_encoder",),
        join=_sd,
        outputs=_sd_outputs,
        guidance=7.5,
        silent={"requires_safety_checker": False, "safety_checker": [None, None], **_NO_PICTURES},
    ),
    "StableDiffusionXLPipeline": PipelineKind(
        "unet",
        ("text_encoder", "text_encoder_2"),
        join=_xl,
        outputs=_xl_outputs,
        guidance=5.0,
        latents="normalized",
        said=("force_zeros_for_empty_prompt",),
        silent=_NO_PICTURES,
    ),
    "StableDiffusion3Pipeline": PipelineKind(
        "transformer",
        ("text_encoder", "text_encoder_2", "text_encoder_3"),
        optional=("text_encoder_3",),
        join=_sd3,
        outputs=_sd3_outputs,
        lengths={"text_encoder_3": 256},
        guidance=7.0,
        latents="shifted",
        silent=_NO_PICTURES,
    ),
    "FluxPipeline": PipelineKind(
        "transformer",
        ("text_encoder", "text_encoder_2"),
        join=_flux,
        outputs=_flux_outputs,
        lengths={"text_encoder_2": 512},
        told=3.5,
        spacing="trailing",
        pack=2,
        size=128,
        latents="shifted",
        silent=_NO_PICTURES,
    ),
    "DiTPipeline": PipelineKind("transformer", guidance=4.0),
}
"""By their class in diffusers."""
