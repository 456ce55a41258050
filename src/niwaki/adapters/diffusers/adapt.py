"""`adapt_pipeline`: a diffusers pipeline, wherever it lies, as a model of niwaki."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from niwaki.adapters.diffusers.compare import refuse_other_outputs, refuse_other_tokens
from niwaki.adapters.diffusers.config import PipelineConfig
from niwaki.adapters.diffusers.first_call import call_once
from niwaki.adapters.diffusers.folder import Parts, read_folder, read_pipeline
from niwaki.adapters.diffusers.kinds import KINDS
from niwaki.adapters.diffusers.lora import merge_loras
from niwaki.adapters.diffusers.lost import refuse_settings
from niwaki.adapters.diffusers.pipeline import AdaptedPipeline
from niwaki.core.contract import CallError, DataSpec, nearest
from niwaki.core.hub_folder import fetched
from niwaki.core.lora_files import Lora
from niwaki.core.paths import expanded
from niwaki.core.weights import matched

__all__ = ["adapt_pipeline"]

_FILES = ("*.json", "*.safetensors", "*.txt")
"""What is fetched from the hub: no pickles and no code."""
_SOLVERS = ("ddim", "ddpm", "dpmpp_2m", "euler", "heun", "unipc")


def adapt_pipeline(
    source: Any,
    *,
    steps: int = 50,
    guidance: float | None = None,
    solver: Literal["ddim", "ddpm", "dpmpp_2m", "euler", "heun", "unipc"] | None = None,
    captions: Sequence[str] = (),
    length: int | None = None,
    size: int | Sequence[int] | None = None,
    lora: str | Path | Sequence[str | Path] = (),
    spec: DataSpec | None = None,
) -> AdaptedPipeline:
    """Make a model of niwaki out of a diffusers pipeline: DDPM, DDIM, Stable Diffusion (XL, 3), Flux or DiT.

    source:   a pipeline folder (`save_pretrained`), a name on the hub, or a pipeline object
    steps:    network calls per sample
    guidance: weight of classifier-free guidance, 1 for none; None is the pipeline's own (7.5 for Stable
              Diffusion, 5 for XL, 7 for 3, 4 for DiT). Of Flux it is what its network is told (3.5), where
              that has learned to be, else guidance by the empty prompt (1)
    solver:   instead of the pipeline's scheduler, on its noise schedule
    captions: prompt of each class in turn: a text-to-image model is then asked for classes, as data with
              labels need it; without them it is asked by `prompt`
    length:   tokens of a prompt for T5, in pipelines that have one; None is what they do (256; Flux 512)
    size:     height and width of the images in pixels, or one number for both, in pipelines that none of
              their networks says it for (Flux); None is what they do (1024 with Flux's own VAE)
    lora:     files of LoRA weights (safetensors of diffusers or peft), or their folders, merged one after the
              other; `path:0.8` adds 0.8 times what it says
    spec:     of the data that its images answer to (`dataset.spec`): grey levels and class names
    Sampling is that of the pipeline with the same noise, up to rounding; images are in −1 … 1, not clipped.
    Every network is built again from its settings and compared once, in float32, with the one given, as its
    own library runs it; so is the tokenizer.
    Raises CallError for what is no such pipeline, a setting without a counterpart here, something that was
    changed by hand, pickled or quantized weights and code of its own; NiwakiError for weights that do not
    fit, and for a network that fails at its first call or makes values that are not finite, by name.

    >>> adapt_pipeline("runs/ddpm-folder", steps=20).sample(4, seed=0).shape  # doctest: +SKIP
    torch.Size([4, 3, 32, 32])
    """
    given = (lora,) if isinstance(lora, str | Path) else lora
    loras = [Lora.of(one) for one in given]
    parts = merge_loras(_parts(source), loras)
    if captions and not KINDS[parts.pipeline].texts:
        raise CallError("captions are for pipelines with a text encoder, and this one has none")
    if any(not isinstance(c, str) or not c.strip() for c in captions):
        raise CallError("a caption must be a text that is not empty")
    if solver is not None and solver not in _SOLVERS:
        raise CallError(f"a pipeline has no solver '{solver}'; {nearest(str(solver), _SOLVERS)}")
    config = PipelineConfig(
        pipeline=parts.pipeline,
        networks=parts.networks,
        scheduler=parts.scheduler,
        tokenizer=parts.words["tokenizer"].files if "tokenizer" in parts.words else {},
        tokenizers={name: words for name, words in parts.words.items() if name != "tokenizer"},
        said=parts.said,
        captions=tuple(captions),
        solver=solver,
        length=_length(parts, length),
        steps=steps,
        size=_size(parts, size),
        **_guidance(parts, guidance),
    )
    for name in config.networks:
        refuse_settings(config.pipeline, name, config.networks)
    for name, words in zip(config.texts, config.words, strict=True):
        read = config.networks[name].settings
        limits = int(read["vocab_size"]), int(read.get("max_position_embeddings") or sys.maxsize)
        refuse_other_tokens(words, parts.tokenizers[name.replace("text_encoder", "tokenizer")], *limits)
    model = AdaptedPipeline(config, _spec(config, spec)).eval()
    for name, part in model.parts().items():
        part.load_state_dict(matched(part.state_dict(), parts.weights[name], f"the pipeline's '{name}'"))
    call_once(model)
    refuse_other_outputs(model, parts.originals)
    return model


def _parts(source: Any) -> Parts:
    if not isinstance(source, str | Path):
        if not hasattr(source, "components") or not hasattr(source, "scheduler"):
            raise CallError(
                f"a pipeline is a folder, a name on the hub or diffusers' object, not {type(source).__name__}"
            )
        return read_pipeline(source)
    path = expanded(source)
    if not path.exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        path = fetched(str(source), _FILES, "pipelines are fetched")
    return read_folder(path)


def _length(parts: Parts, given: int | None) -> int:
    if given is None:
        return 0
    if not KINDS[parts.pipeline].lengths or given < 1:
        raise CallError(
            f"length is a number of tokens for T5, which a {parts.pipeline} "
            + ("reads at least one of" if KINDS[parts.pipeline].lengths else "does not have")
        )
    return int(given)


def _size(parts: Parts, given: int | Sequence[int] | None) -> tuple[int, ...]:
    """Height and width of the latents of images of that size."""
    if given is None:
        return ()
    kind = KINDS[parts.pipeline]
    if not kind.size:
        raise CallError(f"a {parts.pipeline} says the size of its images itself; leave size out")
    sides = (given, given) if isinstance(given, int) else tuple(given)
    if len(sides) != 2 or not all(isinstance(side, int) for side in sides):
        raise CallError(f"size is one number of pixels, or a height and a width, not {given!r}")
    height, width = sides
    step = kind.pack * (_larger(parts.networks["vae"].settings) if "vae" in parts.networks else 1)
    if min(height, width) < step or height % step or width % step:
        raise CallError(
            f"a {parts.pipeline} with this VAE makes images of multiples of {step} pixels, not "
            f"{width}×{height}"
        )
    return height * kind.pack // step, width * kind.pack // step


def _larger(vae: Mapping[str, Any]) -> int:
    """How often a side of the latents goes into that of the image."""
    return int(2 ** (len(vae["block_out_channels"]) - 1))


def _guidance(parts: Parts, given: float | None) -> dict[str, float]:
    kind = KINDS[parts.pipeline]
    if kind.told and parts.networks[kind.denoiser].settings.get("guidance_embeds"):
        return {"told": kind.told if given is None else float(given)}
    if not kind.guidance:
        return {"guidance": float(given or 1.0)}
    # At or below 1 the pipelines do not guide at all.
    return {"guidance": max(kind.guidance if given is None else float(given), 1.0)}


def _spec(config: PipelineConfig, given: DataSpec | None) -> DataSpec:
    """What the pipeline's images are."""
    settings = config.networks[config.denoiser].settings
    channels, height, width = config.shape
    if "vae" in config.networks:
        vae = config.networks["vae"].settings
        larger = _larger(vae)
        channels, height, width = vae["out_channels"], larger * height, larger * width
    shape = (int(channels), int(height), int(width))
    classes = settings.get("num_embeds_ada_norm") or settings.get("num_class_embeds") or len(config.captions)
    found = DataSpec.of("image", shape, classes=int(classes), class_names=tuple(config.captions))
    if given is None:
        return found
    if tuple(given.shape) != shape or (given.low, given.high) != (-1.0, 1.0):
        raise CallError(
            f"the pipeline makes images {shape} in −1 … 1, the spec is of {tuple(given.shape)} in "
            f"{given.low:g} … {given.high:g}"
        )
    names = given.class_names if given.classes == classes else found.class_names
    return DataSpec.of("image", shape, levels=given.levels or None, classes=int(classes), class_names=names)
