"""Writing an adapted pipeline back as a diffusers folder, where diffusers' configs can say its widths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from niwaki.adapters.diffusers.config import NETWORKS, Component
from niwaki.adapters.diffusers.networks import build
from niwaki.adapters.diffusers.pipeline import AdaptedPipeline
from niwaki.adapters.diffusers.quiet import quiet
from niwaki.adapters.diffusers.tokens import write_files
from niwaki.core.contract import CallError
from niwaki.core.store import atomic_directory, write_json

__all__ = ["save_pipeline"]


def save_pipeline(model: AdaptedPipeline, directory: Path | str) -> Path:
    """Write `model` as a folder that diffusers loads (safetensors), in place of what was there; returns it.

    A diffusers config gives one width for each stage, so only models that kept their widths (masked,
    clustered, fine-tuned) or were cut evenly have one; any can be a bundle (`niwaki.export`).
    Raises CallError, naming the first layer whose shape no config gives; nothing is written then.
    """
    directory = Path(directory)
    fresh = {
        name: _expressed(f"{name}.", model.config.networks[name], part)
        for name, part in model.parts().items()
    }
    import diffusers

    scheduler = model.config.scheduler
    index: dict[str, Any] = {
        "_class_name": model.config.pipeline,
        "_diffusers_version": diffusers.__version__,
        "scheduler": ["diffusers", scheduler.kind],
        **{
            name: [NETWORKS[model.config.networks[name].kind], model.config.networks[name].kind]
            for name in fresh
        },
    }
    words = dict(zip(model.config.texts, model.config.words, strict=True))
    for name, tokenizer in words.items():
        index[name.replace("text_encoder", "tokenizer")] = ["transformers", tokenizer.kind]
    for name in model.config.kind.optional:
        if name not in fresh:
            index |= {name: [None, None], name.replace("text_encoder", "tokenizer"): [None, None]}
    index |= {**model.config.kind.silent, **model.config.said}
    with atomic_directory(directory) as place, quiet():
        for name, network in fresh.items():
            network.save_pretrained(place / name, safe_serialization=True)  # type: ignore[operator]
        getattr(diffusers, scheduler.kind).from_config(dict(scheduler.settings)).save_pretrained(
            place / "scheduler"
        )
        for name, tokenizer in words.items():
            write_files(tokenizer.files, place / name.replace("text_encoder", "tokenizer"))
        write_json(place / "model_index.json", index)
    return directory


def _expressed(prefix: str, component: Component, part: nn.Module) -> nn.Module:
    """A network of diffusers' own with the weights of `part`. Raises CallError where no config says its
    shapes."""
    wanted = _structure(part)
    misfit = ""
    for changes in ({}, _WIDTHS[component.kind](part)):
        settings = Component(kind=component.kind, settings={**component.settings, **changes})
        with torch.device("meta"):  # only its shapes are asked
            shapes = _structure(build(settings))
        misfit = next((n for n, shape in wanted.items() if shapes.get(n) != shape), "")
        if not misfit and shapes.keys() == wanted.keys():
            network = build(settings)
            network.load_state_dict(part.state_dict())
            return network
    layer = misfit.rpartition(".")[0]
    raise CallError(
        f"diffusers has no config for this pruned pipeline: '{prefix}{layer}' is {wanted[misfit]}, where a "
        f"{component.kind} has {shapes.get(misfit)}; keep it as a bundle (niwaki.export) instead"
    )


def _structure(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shapes of a network's tensors, and the groups and heads that no shape shows."""
    found = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    for name, module in network.named_modules():
        for inner in ("num_groups", "groups", "heads"):
            if isinstance(getattr(module, inner, None), int):
                found[f"{name}.{inner}"] = (int(getattr(module, inner)),)
    return found


def _unet(part: Any) -> dict[str, Any]:
    return {"block_out_channels": [block.resnets[0].conv2.out_channels for block in part.down_blocks]}


def _vae(part: Any) -> dict[str, Any]:
    return {"block_out_channels": [block.resnets[0].conv2.out_channels for block in part.encoder.down_blocks]}


def _clip(part: Any) -> dict[str, Any]:
    layers = getattr(part, "text_model", part).encoder.layers
    return {"intermediate_size": layers[0].mlp.fc1.out_features}


_WIDTHS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "UNet2DModel": _unet,
    "UNet2DConditionModel": _unet,
    "AutoencoderKL": _vae,
    "CLIPTextModel": _clip,
    "CLIPTextModelWithProjection": _clip,
    "DiTTransformer2DModel": lambda part: {},
    "SD3Transformer2DModel": lambda part: {},
    "FluxTransformer2DModel": lambda part: {},
    "T5EncoderModel": lambda part: {},
}
"""What of a config gives widths, read off a network."""
