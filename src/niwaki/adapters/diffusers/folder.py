"""Reading a diffusers pipeline: from a folder, from the hub, or one that is in memory.

Only known classes are built, only safetensors are read, and no code that lies in the folder is run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from niwaki.adapters.diffusers.config import NETWORKS, PIPELINES, Component, plain
from niwaki.adapters.diffusers.lost import refuse_handmade, refuse_unknown
from niwaki.adapters.diffusers.quiet import quiet
from niwaki.adapters.diffusers.tokens import load_tokenizer, read_files
from niwaki.core.contract import CallError, NiwakiError, nearest
from niwaki.core.hub_folder import PICKLES
from niwaki.core.store import read_json
from niwaki.core.weights import refuse_adapters, refuse_quantized, stored_types
from niwaki_runtime.unfinished import scratch_directory

__all__ = ["Parts", "is_pipeline", "read_folder", "read_pipeline"]

_SILENT = ("safety_checker", "feature_extractor", "image_encoder")
"""Components that make no samples: they are left out."""
_WORDS = ("requires_safety_checker", "id2label")
"""What a model_index.json says that changes no sample."""


@dataclass(frozen=True)
class Parts:
    """A pipeline taken apart: its class, its components, and the networks' weights by component.

    originals: the networks as their own library has them; words: the tokenizer
    """

    pipeline: str
    networks: dict[str, Component]
    scheduler: Component
    tokenizer: dict[str, str]
    weights: dict[str, dict[str, Tensor]]
    originals: dict[str, nn.Module] = field(repr=False)
    words: Any = None


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
    networks, originals = {}, {}
    _refuse_entries(index)
    for name, entry in index.items():
        library, kind = entry if isinstance(entry, list) and len(entry) == 2 else (None, None)
        if name.startswith("_") or name in (*_SILENT, "scheduler", "tokenizer") or kind is None:
            continue
        _known(name, library, kind)
        network = _read_network(path / name, kind, path)
        networks[name] = Component(kind=kind, settings=_settings(network))
        originals[name] = network
    needed = {PIPELINES[pipeline]} | ({"text_encoder"} if pipeline == "StableDiffusionPipeline" else set())
    for name in sorted(needed - networks.keys()):
        raise CallError(f"{path} has no '{name}', which a {pipeline} needs")
    entry = index.get("scheduler") or [None, ""]
    if not isinstance(entry, list) or len(entry) != 2:
        raise CallError(f"{path} says of its 'scheduler' {entry!r:.80}, not its library and its kind")
    settings = plain(read_json(path / "scheduler" / "scheduler_config.json"))
    tokenizer, words = {}, None
    if "text_encoder" in networks:
        tokenizer, words = read_files(path / "tokenizer"), load_tokenizer(path / "tokenizer")
    scheduler = Component(kind=str(entry[1]), settings=settings)
    weights = {name: network.state_dict() for name, network in originals.items()}
    return Parts(pipeline, networks, scheduler, tokenizer, weights, originals, words)


def read_pipeline(pipeline: Any) -> Parts:
    """A pipeline in memory: diffusers' own object, whose networks stay as they are."""
    networks, originals = {}, {}
    for name, part in pipeline.components.items():
        if isinstance(part, nn.Module) and name not in _SILENT:
            kind = type(part).__name__
            _known(name, type(part).__module__.partition(".")[0], kind)
            networks[name] = Component(kind=kind, settings=_settings(part))
            refuse_handmade(name, part, networks[name])
            originals[name] = part
    tokenizer, words = {}, pipeline.components.get("tokenizer")
    if words is not None:
        with scratch_directory() as temporary:
            words.save_pretrained(temporary)
            tokenizer = read_files(temporary)
    scheduler = pipeline.scheduler
    _refuse_other_levels(scheduler)
    return Parts(
        _pipeline(type(pipeline).__name__),
        networks,
        Component(kind=type(scheduler).__name__, settings=plain(scheduler.config)),
        tokenizer,
        {name: network.state_dict() for name, network in originals.items()},
        originals,
        words,
    )


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


def _refuse_entries(index: Any) -> None:
    """Raises CallError for what a model_index.json says beside components, and for another tokenizer."""
    for name, value in index.items():
        if isinstance(value, list) or name.startswith("_") or name in _WORDS or not value:
            continue
        raise CallError(f"the pipeline's setting {name} = {value!r} has no counterpart in niwaki")
    words = index.get("tokenizer") or [None, None]
    if words[1] not in (None, "CLIPTokenizer", "CLIPTokenizerFast"):
        raise CallError(f"the pipeline's tokenizer is a '{words[1]}'; known is CLIPTokenizer")


def _pipeline(name: Any) -> str:
    if isinstance(name, list):
        raise CallError(
            f"the pipeline is code of its own ('{name[-1]}'), which niwaki does not run; "
            f"known are {', '.join(PIPELINES)}"
        )
    if str(name) not in PIPELINES:
        raise CallError(f"niwaki has no adapter for the pipeline '{name}'; {nearest(str(name), PIPELINES)}")
    return str(name)


def _known(name: str, library: Any, kind: Any) -> None:
    if str(kind) not in NETWORKS or library != NETWORKS[kind]:
        own = (
            "" if library in ("diffusers", "transformers") else ", code of its own, which niwaki does not run"
        )
        raise CallError(
            f"the pipeline's '{name}' is a '{library}.{kind}'{own}; known are {', '.join(NETWORKS)}"
        )


def _read_network(directory: Path, kind: str, pipeline: Path) -> nn.Module:
    """One network with its weights, float32. Raises as `read_folder` says."""
    variant = _variant(directory, pipeline)
    refuse_unknown(directory.name, kind, read_json(directory / "config.json"))
    try:
        types = stored_types(sorted(directory.glob("*.safetensors")))
    except NiwakiError:
        types = {}  # a damaged file is named below
    refuse_adapters(types, directory)
    refuse_quantized({}, types, directory)
    keywords: dict[str, Any] = {
        "use_safetensors": True,
        "local_files_only": True,
        "output_loading_info": True,
        "variant": variant,
    }
    try:
        with quiet():
            import diffusers

            if NETWORKS[kind] == "transformers":
                from transformers import CLIPTextModel

                loaded: Any = CLIPTextModel.from_pretrained(directory, dtype=torch.float32, **keywords)
            else:
                loaded = getattr(diffusers, kind).from_pretrained(
                    directory, torch_dtype=torch.float32, low_cpu_mem_usage=False, **keywords
                )
        network, info = loaded
    except ImportError as error:
        raise NiwakiError(
            f"pipelines need diffusers and transformers: pip install niwaki[hub] ({error})"
        ) from error
    except Exception as error:  # files of others fail in any way they like
        text = " ".join(line.strip() for line in str(error).strip().splitlines()[:2])
        raise NiwakiError(f"{directory} cannot be read: {text[:300]}") from error
    for problem, wrong in (("lacks", "missing_keys"), ("has no place for", "unexpected_keys")):
        found = sorted(k for k in info.get(wrong) or () if not k.endswith("position_ids"))
        if found:
            subject = directory if problem == "lacks" else f"the network '{kind}' of {directory}"
            raise NiwakiError(f"{subject} {problem} the weights '{found[0]}'")
    misfit = sorted(map(str, info.get("mismatched_keys") or ()))
    if misfit:
        raise NiwakiError(f"{directory} holds weights that do not fit its config: {misfit[0]}")
    return network.eval()


def _variant(directory: Path, pipeline: Path) -> str | None:
    """Which of the weights is read: the plain ones before those of half precision."""
    names = [p.name for p in directory.iterdir()] if directory.is_dir() else []
    safe = [n for n in names if n.endswith((".safetensors", ".safetensors.index.json"))]
    if not safe:
        pickles = sorted(n for n in names if n.endswith((*PICKLES, ".msgpack")))
        if not pickles:
            raise CallError(f"{directory} holds no weights")
        raise CallError(
            f"{directory / pickles[0]} is a pickle, which can run any code when it is read; if you trust it, "
            'convert it: python -c "from diffusers import DiffusionPipeline as P; '
            f"P.from_pretrained('{pipeline}').save_pretrained('{pipeline.name}-safe')\""
        )
    if any(".fp16." in n for n in safe) and all(".fp16." in n for n in safe):
        return "fp16"
    return None


def _settings(network: nn.Module) -> dict[str, Any]:
    config: Any = network.config
    return plain(config.to_dict() if hasattr(config, "to_dict") else config)
