"""Weights and configuration from a folder or the hub: safetensors and JSON, no pickle, nothing dropped."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from niwaki.core import hub_folder
from niwaki.core.contract import CallError, NiwakiError, first_line
from niwaki.core.store import read_json
from niwaki.core.weights import refuse_adapters, refuse_quantized, stored_types

__all__ = ["fetch", "is_language_model", "load_network", "package", "quiet"]

_FILES = (
    *("config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "tokenizer.model"),
    *("added_tokens.json", "special_tokens_map.json"),
)
"""What is fetched from the hub."""
_WHO = "language models are read"


def is_language_model(path: str | Path) -> bool:
    """A folder as `save_pretrained` of transformers writes it: a `config.json` that names a type of model."""
    file = Path(path) / "config.json"
    if not file.is_file() or (Path(path) / "model.json").is_file():
        return False
    try:
        record = read_json(file)
    except NiwakiError:
        return False
    return isinstance(record, dict) and "model_type" in record


def load_network(source: str) -> Any:
    """The causal language model in a folder or on the hub, every weight from its files, in float32.

    Raises CallError for pickled weights, quantized ones, an adapter alone, code of its own, another kind of
    model or a missing package; NiwakiError for what cannot be had or read, and for weights that are missing
    or that the network has no place for.
    """
    transformers = package("transformers")
    folder = fetch(source)
    if (folder / "adapter_config.json").is_file():
        raise CallError(
            f"'{source}' holds an adapter (adapter_config.json), no whole model: merge it into the model "
            "that it was trained on (merge_and_unload in peft) and save that"
        )
    record = read_json(folder / "config.json")
    if not isinstance(record, dict):
        raise NiwakiError(f"{folder / 'config.json'} does not describe a model")
    kind = record.get("model_type")
    if not _known(kind):
        own = " (it brings code of its own, which is not run)" if "auto_map" in record else ""
        raise CallError(f"'{source}' holds a model of the type '{kind}', no causal language model known{own}")
    refuse_quantized(record, {}, f"'{source}'")
    types = _types(folder)
    refuse_adapters(types, f"'{source}'")
    refuse_quantized({}, types, f"'{source}'")
    with quiet(transformers):
        try:
            network, report = transformers.AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=torch.float32,  # buffers that no file holds are then exact, too
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        except Exception as error:  # configurations and weights of others fail in any way they like
            raise NiwakiError(
                f"'{source}' could not be loaded as a language model: {first_line(error)}"
            ) from error
    _account(source, report)
    return network


def _types(folder: Path) -> dict[str, str]:
    """Type of each weight in the folder, by name; of none where a file is damaged, which is said later."""
    try:
        return stored_types(sorted(folder.glob("model*.safetensors")))
    except (NiwakiError, SafetensorError):
        return {}


def _account(source: str, report: Any) -> None:
    """Raises NiwakiError for weights that are missing, which transformers would draw at random, and for those
    that it would leave out."""
    missing = sorted(map(str, report["missing_keys"]))
    extra = sorted(map(str, report["unexpected_keys"]))
    misfit = sorted(map(str, report.get("mismatched_keys") or ()))
    if missing and extra:
        for name in extra:
            ends = [m for m in missing if name.endswith(f".{m}")]
            if ends:
                prefix = name.removesuffix(ends[0])
                raise NiwakiError(
                    f"'{source}' lacks {len(missing)} weights, for they are named with '{prefix}' in front "
                    f"('{name}'); write them without it"
                )
    if missing:
        raise NiwakiError(f"'{source}' lacks {len(missing)} weights, '{missing[0]}' among them")
    if misfit:
        raise NiwakiError(f"'{source}' holds weights that do not fit its config.json: {misfit[0]}")
    if extra:
        raise NiwakiError(
            f"'{source}' holds {len(extra)} weights that the network of its config.json has no place for, "
            f"'{extra[0]}' among them: a setting in config.json is wrong, or the file is of another model"
        )


def _known(kind: Any) -> bool:
    """Whether `transformers` itself has a causal language model of this type."""
    names = import_module("transformers.models.auto.modeling_auto").MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return isinstance(kind, str) and kind in names


def fetch(source: str) -> Path:
    """The folder of a model, downloaded where it is a name on the hub. Raises CallError for pickles."""
    return hub_folder.folder_of(source, _FILES, _refuse_pickle, _WHO)


def _refuse_pickle(path: Path) -> None:
    """Raises CallError, with the way out, where `path` is a file of pickled weights by its name."""
    if path.suffix.lower() in hub_folder.PICKLES and path.is_file():
        raise CallError(
            f"'{path}' holds pickled weights, and a pickle can run any program when it is read; where you "
            'trust it, convert it once and name the new folder: python -c "from transformers import '
            f"AutoModelForCausalLM as A; A.from_pretrained('{path.parent}').save_pretrained('NEW_FOLDER')\""
        )


def package(name: str) -> Any:
    """A package that language models are read by. Raises CallError where it is missing."""
    return hub_folder.package(name, _WHO)


def quiet(transformers: Any) -> AbstractContextManager[None]:
    """Without a word from `transformers`: what matters is raised here."""
    return hub_folder.quiet(transformers, logging.CRITICAL)
