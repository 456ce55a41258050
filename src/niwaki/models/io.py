"""A model on disk: `model.json` says how to build it, `model.safetensors` holds its weights. No pickle.

A compressed model is built as it was first, edited again by its recorded surgery, and then filled with the
kept weights.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from niwaki.core.contract import CallError, GenerativeModel, NiwakiError
from niwaki.core.store import read_json, read_tensors, write_json, write_tensors
from niwaki.core.weights import matched
from niwaki.models import registry
from niwaki.surgery.edits import apply_edits, edit_from_json
from niwaki_runtime.errors import first_line
from niwaki_runtime.specs import DataSpec

__all__ = [
    "ENCODER",
    "FORMAT",
    "build_record",
    "fill",
    "is_external",
    "load_model",
    "model_record",
    "not_sampled",
    "save_model",
]

FORMAT = 1
"""Version of `model.json`; a newer one is refused."""

ENCODER = "encoder"
"""`kind` of what is kept as a model is, but makes no samples: `niwaki.features` builds it."""

_BUILDERS = {
    "adapted": "niwaki.adapters.module",
    "language-model": "niwaki.adapters.language.adapt",
    "pipeline": "niwaki.adapters.diffusers",
}
"""Models that no registry builds: name → module whose `rebuild(config, spec)` makes them."""


def is_external(name: str) -> bool:
    """Whether models of this name are other people's, which no registry builds."""
    return name in _BUILDERS


class Kept(Protocol):
    """What can be kept: a generative model, or an encoder (whose `kind` says so)."""

    name: str
    config: Any
    spec: DataSpec
    surgery: tuple[Any, ...]

    def state_dict(self) -> dict[str, Any]: ...


def not_sampled(name: str) -> CallError:
    """What is said where an encoder is asked to be a generative model."""
    return CallError(f"'{name}' is an encoder: it can be trained and used as features, not sampled")


def model_record(model: Kept) -> dict[str, Any]:
    """How to build `model` again, as JSON: name, config, spec and surgery."""
    kind = getattr(model, "kind", None)
    return {
        **({} if kind is None else {"kind": kind}),
        "format": FORMAT,
        "name": model.name,
        "config": model.config.model_dump(mode="json"),
        "spec": model.spec.to_json(),
        "surgery": [edit.to_json() for edit in model.surgery],
        **({"programs": list(shipped)} if (shipped := getattr(model, "shipped", ())) else {}),
        **({"files": dict(files)} if (files := vars(model).get("files")) else {}),
    }


def save_model(model: Kept, directory: Path | str) -> Path:
    """Write `model.json` and `model.safetensors` into `directory` (made where missing); returns it.

    The weights are written first: a directory whose `model.json` is new has its weights too.
    """
    directory = Path(directory)
    write_tensors(directory / "model.safetensors", model.state_dict())
    write_json(directory / "model.json", model_record(model))
    return directory


def build_record(record: dict[str, Any]) -> GenerativeModel:
    """The model that `model_record` described, cut as it was, with fresh weights."""
    spec = DataSpec.from_json(record["spec"])
    if record["name"] in _BUILDERS:
        model: GenerativeModel = importlib.import_module(_BUILDERS[record["name"]]).rebuild(
            record["config"], spec
        )
    else:
        model = registry.build(record["name"], record["config"], spec)
    edits = _edits(record.get("surgery", ()))
    apply_edits(model, edits)
    model.surgery = edits
    model.shipped = tuple(record.get("programs", ()))
    if "files" in record:
        model.files = dict(record["files"])
    return model


def _edits(records: Any) -> tuple[Any, ...]:
    """Raises NiwakiError for what is no list of edits."""
    try:
        return tuple(edit_from_json(edit) for edit in records)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise NiwakiError(f"the record of the model's surgery cannot be read: {first_line(error)}") from error


def fill(model: nn.Module, weights: dict[str, Tensor], origin: Path | str) -> None:
    """Load `weights` into `model`. Raises NiwakiError naming what is missing, extra, misfit or of another
    type (`niwaki.core.weights.matched`)."""
    model.load_state_dict(matched(model.state_dict(), weights, origin))


def load_model(directory: Path | str) -> GenerativeModel:
    """The model saved in `directory`, in eval mode, on the CPU: the same outputs, bit for bit.

    Raises NiwakiError where a file is missing, broken, newer than this version, or does not fit, CallError
    where an encoder was saved there.
    """
    directory = Path(directory)
    record = read_json(directory / "model.json")
    if not isinstance(record, dict) or not {"format", "name", "config", "spec"} <= record.keys():
        raise NiwakiError(f"{directory / 'model.json'} does not describe a model")
    kinds = (int, str, dict)
    if not all(map(isinstance, (record[k] for k in ("format", "name", "config")), kinds)):
        raise NiwakiError(f"{directory / 'model.json'} does not describe a model")
    if record["format"] > FORMAT:
        raise NiwakiError(
            f"{directory / 'model.json'} has the format {record['format']}, above {FORMAT}; update niwaki"
        )
    if record.get("kind") == ENCODER:
        raise not_sampled(record["name"])
    try:
        model = build_record(record)
    except (TypeError, ValueError, RuntimeError, OverflowError, MemoryError) as error:
        raise NiwakiError(
            f"{directory / 'model.json'} describes a model that cannot be built: {first_line(error)}"
        ) from error
    fill(model, read_tensors(directory / "model.safetensors"), directory / "model.safetensors")
    return model.eval()
