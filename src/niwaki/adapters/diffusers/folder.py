"""Reading a diffusers pipeline: from a folder, from the hub, or one that is in memory.

Only known classes are built, only safetensors are read, and no code that lies in the folder is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from niwaki.adapters.diffusers.config import NETWORKS, TOKENIZERS, Component, Words, plain
from niwaki.adapters.diffusers.kinds import KINDS
from niwaki.adapters.diffusers.lost import refuse_handmade
from niwaki.adapters.diffusers.network_files import read_network
from niwaki.adapters.diffusers.tokens import load_tokenizer, read_files
from niwaki.core.contract import CallError, nearest
from niwaki.core.store import read_json
from niwaki_runtime.unfinished import scratch_directory

__all__ = ["Parts", "is_pipeline", "read_folder", "read_pipeline"]

_SILENT = ("safety_checker", "feature_extractor", "image_encoder")
"""Components that make no samples: they are left out."""
_IDLE = ("requires_safety_checker", "id2label", "add_watermarker")
"""What a model_index.json says that changes no sample."""


@dataclass(frozen=True)
class Parts:
    """A pipeline taken apart: its class, its components, and the networks' weights by component.

    words:     its tokenizers, by their names in the pipeline
    borrowed:  whether the networks are somebody else's and have to stay as they are
    said:      settings of the pipeline itself
    originals: the networks as their own library has them; tokenizers: the tokenizers so
    """

    pipeline: str
    networks: dict[str, Component]
    scheduler: Component
    words: dict[str, Words]
    said: dict[str, Any]
    weights: dict[str, dict[str, Tensor]]
    originals: dict[str, nn.Module] = field(repr=False)
    tokenizers: dict[str, Any] = field(repr=False)
    borrowed: bool = False


def is_pipeline(path: str | Path) -> bool:
    """A folder with a `model_index.json`, as diffusers writes it."""
    return (Path(path) / "model_index.json").is_file()


def read_folder(path: Path) -> Parts:
    """The pipeline in a folder.

    Raises CallError for a folder that is none, a pipeline or component of a class that is not known (code of
    its own among them), and weights that are pickled; NiwakiError for weights that do not fit.
    """
    if path.is_file():
        raise CallError(
            f"{path} is a single file; a pipeline is a folder: diffusers' from_single_file('{path}')"
            ".save_pretrained('folder') makes one of a checkpoint that you trust"
        )
    if not path.is_dir():
        raise CallError(f"{path} does not exist")
    if not is_pipeline(path):
        raise CallError(f"{path} is no diffusers pipeline (it has no model_index.json)")
    index = read_json(path / "model_index.json")
    pipeline = _pipeline(index.get("_class_name") if isinstance(index, dict) else None)
    networks, originals, words, tokenizers = {}, {}, {}, {}
    said = _said(pipeline, index)
    for name, entry in index.items():
        library, kind = entry if isinstance(entry, list) and len(entry) == 2 else (None, None)
        if name.startswith("_") or name in (*_SILENT, "scheduler") or kind is None:
            continue
        if name.startswith("tokenizer"):
            files = read_files(path / name)
            words[name] = Words(kind=_tokenizer_class(kind), files=files)
            tokenizers[name] = load_tokenizer(path / name, words[name].kind)
            continue
        _known(name, library, kind)
        originals[name] = read_network(path / name, kind, pipeline)
        networks[name] = Component(kind=kind, settings=_settings(originals[name]))
    scheduler = _scheduler_of(path, index)
    weights = {name: network.state_dict() for name, network in originals.items()}
    parts = Parts(pipeline, networks, scheduler, words, said, weights, originals, tokenizers)
    _refuse_missing(parts, path)
    return parts


def _scheduler_of(path: Path, index: Mapping[str, Any]) -> Component:
    entry = index.get("scheduler") or [None, ""]
    if not isinstance(entry, list) or len(entry) != 2:
        raise CallError(f"{path} says of its 'scheduler' {entry!r:.80}, not its library and its kind")
    settings = plain(read_json(path / "scheduler" / "scheduler_config.json"))
    return Component(kind=str(entry[1]), settings=settings)


def _refuse_missing(parts: Parts, origin: Any) -> None:
    """Raises CallError for a component that the pipeline needs and that is not there."""
    kind = KINDS[parts.pipeline]
    needed = [kind.denoiser, *(name for name in kind.texts if name not in kind.optional)]
    needed += [_tokenizer_of(name) for name in kind.texts if name in parts.networks]
    for name in needed:
        if name not in parts.networks and name not in parts.words:
            raise CallError(f"{origin} has no '{name}', which a {parts.pipeline} needs")


def _tokenizer_of(encoder: str) -> str:
    return encoder.replace("text_encoder", "tokenizer")


def read_pipeline(pipeline: Any) -> Parts:
    """A pipeline in memory: diffusers' own object, whose networks stay as they are."""
    networks, originals, words, tokenizers = {}, {}, {}, {}
    for name, part in pipeline.components.items():
        if isinstance(part, nn.Module) and name not in _SILENT:
            kind = type(part).__name__
            _known(name, type(part).__module__.partition(".")[0], kind)
            networks[name] = Component(kind=kind, settings=_settings(part))
            refuse_handmade(name, part, networks[name])
            originals[name] = part
        elif name.startswith("tokenizer") and part is not None:
            with scratch_directory() as temporary:
                part.save_pretrained(temporary)
                words[name] = Words(kind=_tokenizer_class(type(part).__name__), files=read_files(temporary))
            tokenizers[name] = part
    scheduler = pipeline.scheduler
    _refuse_other_levels(scheduler)
    name = _pipeline(type(pipeline).__name__)
    parts = Parts(
        name,
        networks,
        Component(kind=type(scheduler).__name__, settings=plain(scheduler.config)),
        words,
        {key: pipeline.config[key] for key in KINDS[name].said if key in pipeline.config},
        {name: network.state_dict() for name, network in originals.items()},
        originals,
        tokenizers,
        borrowed=True,
    )
    _refuse_missing(parts, "the pipeline")
    return parts


def _refuse_other_levels(scheduler: Any) -> None:
    """Raises CallError where a scheduler's noise levels are not what its settings make."""
    levels = getattr(scheduler, "alphas_cumprod", None)
    made = getattr(type(scheduler).from_config(scheduler.config), "alphas_cumprod", None)
    if not isinstance(levels, Tensor) or not isinstance(made, Tensor):
        return
    if levels.shape != made.shape or not torch.allclose(levels.cpu(), made, atol=1e-6):
        raise CallError(
            "the scheduler's 'alphas_cumprod' was changed by hand, which its configuration does not say; "
            "undo it"
        )


def _said(pipeline: str, index: Mapping[str, Any]) -> dict[str, Any]:
    """What a model_index.json says beside components that is acted upon. Raises CallError for the rest."""
    said = {}
    for name, value in index.items():
        if isinstance(value, list) or name.startswith("_") or name in _IDLE:
            continue
        if name in KINDS[pipeline].said:
            said[name] = value
        elif value:
            raise CallError(f"the pipeline's setting {name} = {value!r} has no counterpart in niwaki")
    return said


def _tokenizer_class(kind: Any) -> str:
    if kind not in TOKENIZERS:
        raise CallError(f"the pipeline's tokenizer is a '{kind}'; known are {', '.join(TOKENIZERS)}")
    return TOKENIZERS[kind]


def _pipeline(name: Any) -> str:
    if isinstance(name, list):
        raise CallError(
            f"the pipeline is code of its own ('{name[-1]}'), which niwaki does not run; "
            f"known are {', '.join(KINDS)}"
        )
    if str(name) not in KINDS:
        raise CallError(f"niwaki has no adapter for the pipeline '{name}'; {nearest(str(name), KINDS)}")
    return str(name)


def _known(name: str, library: Any, kind: Any) -> None:
    if str(kind) not in NETWORKS or library != NETWORKS[kind]:
        own = (
            "" if library in ("diffusers", "transformers") else ", code of its own, which niwaki does not run"
        )
        raise CallError(
            f"the pipeline's '{name}' is a '{library}.{kind}'{own}; known are {', '.join(NETWORKS)}"
        )


def _settings(network: nn.Module) -> dict[str, Any]:
    config: Any = network.config
    return plain(config.to_dict() if hasattr(config, "to_dict") else config)
