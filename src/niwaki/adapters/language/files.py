"""Weights, configuration and tokenizer from a folder or the hub: safetensors and JSON, never a pickle."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from niwaki.core import hub_folder
from niwaki.core.contract import CallError, NiwakiError, first_line
from niwaki.core.store import read_json

__all__ = ["load_network", "package", "quiet", "tokenizer_of"]

_FILES = (
    *("config.json", "model*.safetensors", "model.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "tokenizer.model"),
)
"""What is fetched from the hub."""
_WHO = "language models are read"


def load_network(source: str) -> Any:
    """The causal language model in a folder or on the hub, every weight from its files.

    Raises CallError for pickled weights, code of its own, another kind of model or a missing package;
    NiwakiError for what cannot be had or read.
    """
    transformers = package("transformers")
    folder = hub_folder.folder_of(source, _FILES, _refuse_pickle, _WHO)
    record = read_json(folder / "config.json")
    kind = record.get("model_type")
    if not _known(kind):
        own = " (it brings code of its own, which is not run)" if "auto_map" in record else ""
        raise CallError(f"'{source}' holds a model of the type '{kind}', no causal language model known{own}")
    with quiet(transformers):
        try:
            network, report = transformers.AutoModelForCausalLM.from_pretrained(
                folder,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError, TypeError, KeyError, SafetensorError) as error:
            raise NiwakiError(
                f"'{source}' could not be loaded as a language model: {first_line(error)}"
            ) from error
    missing = sorted(report["missing_keys"])
    if missing:  # transformers would draw them at random
        raise NiwakiError(f"'{source}' lacks {len(missing)} weights, '{missing[0]}' among them")
    return network


def _known(kind: Any) -> bool:
    """Whether `transformers` itself has a causal language model of this type."""
    names = import_module("transformers.models.auto.modeling_auto").MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return kind in names


def _refuse_pickle(path: Path) -> None:
    """Raises CallError, with the way out, where `path` is a file of pickled weights by its name."""
    if path.suffix.lower() in hub_folder.PICKLES and path.is_file():
        raise CallError(
            f"'{path}' holds pickled weights, and a pickle can run any program when it is read; where you "
            'trust it, convert it once and name the new folder: python -c "from transformers import '
            f"AutoModelForCausalLM as A; A.from_pretrained('{path.parent}').save_pretrained('NEW_FOLDER')\""
        )


def tokenizer_of(source: Any) -> str:
    """The text of a tokenizer.json; empty where `source` is a folder or a model without one.

    source: a folder, a hub name, a file, the text itself, or a tokenizer of `tokenizers` or `transformers`
    Raises CallError for what is none of them.
    """
    inner = getattr(source, "backend_tokenizer", source)
    if hasattr(inner, "to_str"):
        return str(inner.to_str())
    if isinstance(source, str) and source.lstrip().startswith("{"):
        return source
    if not isinstance(source, str | Path):
        if hasattr(source, "parameters"):
            return ""  # a network knows no tokenizer
        raise CallError(f"a {type(source).__name__} is no tokenizer; give a tokenizer.json")
    path = Path(source).expanduser()
    if path.is_file():
        read_json(path)  # says what is wrong with it
        return path.read_text(encoding="utf-8")
    folder = path if path.is_dir() else hub_folder.folder_of(str(source), _FILES, _refuse_pickle, _WHO)
    if (folder / "tokenizer.json").is_file():
        return tokenizer_of(folder / "tokenizer.json")
    if not any((folder / name).exists() for name in ("vocab.json", "tokenizer.model")):
        return ""
    transformers = package("transformers")
    with quiet(transformers):
        try:
            made = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # a tokenizer may want any of several packages
            raise NiwakiError(f"the tokenizer in '{folder}' cannot be read: {error}") from error
    return tokenizer_of(made)


def package(name: str) -> Any:
    """A package that language models are read by. Raises CallError where it is missing."""
    return hub_folder.package(name, _WHO)


def quiet(transformers: Any) -> AbstractContextManager[None]:
    """Without a word from `transformers`: what matters is raised here."""
    return hub_folder.quiet(transformers, logging.CRITICAL)
