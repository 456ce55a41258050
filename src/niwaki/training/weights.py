"""Weights that a training or a stage starts from: out of a model directory, a checkpoint, or a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from niwaki.core.contract import Trainable
from niwaki.core.store import hash_file, read_json, read_tensors
from niwaki.nn.low_rank import is_adapter
from niwaki.training.checkpoint import latest, list_checkpoints, read_checkpoint
from niwaki.training.config import StageConfig, TrainConfig
from niwaki.training.stages import under
from niwaki_runtime.errors import NiwakiError, nearest
from niwaki_runtime.tokenizer import FILE, extends

__all__ = ["Source", "init_from", "init_from_hashes", "is_stored", "sources_of", "stored_weights"]

_PART = re.compile(r"[A-Za-z_][\w.]*")


class Source(NamedTuple):
    """Where weights come from and where they go.

    path:   a safetensors file, a model directory, a checkpoint, a directory of checkpoints or a run directory
    prefix: the submodule that they are for; empty is the model itself
    part:   the submodule of the stored model that they are taken from; empty is all of it
    only:   only the weights under these names; with neither `prefix` nor `only`, the model may have others
    """

    path: Path
    prefix: str = ""
    part: str = ""
    only: tuple[str, ...] = ()


def sources_of(config: TrainConfig | StageConfig) -> tuple[Source, ...]:
    """What `init_from` and `init_only` name."""
    if config.init_from is None:
        return ()
    if isinstance(config.init_from, str):
        return (Source(Path(config.init_from), only=config.init_only),)
    found = []
    for prefix, text in config.init_from.items():
        before, colon, part = text.rpartition(":")
        named = bool(colon) and _PART.fullmatch(part) is not None and not Path(text).exists()
        found.append(Source(Path(before), prefix, part) if named else Source(Path(text), prefix))
    return tuple(found)


def stored_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name. Of a checkpoint the averaged weights, where it has any: they are what was trained for.

    path: a safetensors file, a directory with `model.safetensors`, a checkpoint, a directory of
          checkpoints, or a run directory (its `model/`, else its newest checkpoint)
    Raises NiwakiError where nothing of that is there, or it is broken.
    """
    if path.is_file():
        return read_tensors(path)
    for candidate in _weight_files(path):
        if candidate.exists():
            return read_tensors(candidate)
    if (path / "state.json").exists():
        checkpoint = read_checkpoint(path)
    else:
        found, _ = latest(path / "checkpoints")
        found = found or latest(path)[0]
        if found is None:
            raise NiwakiError(f"{path} holds neither model.safetensors nor a checkpoint to take weights from")
        checkpoint = found
    return {**checkpoint.part("model"), **checkpoint.part("ema")}


def _weight_files(path: Path) -> tuple[Path, Path]:
    return path / "model.safetensors", path / "model" / "model.safetensors"


def _content(path: Path) -> str:
    """SHA-256 of the file that `stored_weights` reads; `missing` where there is none."""
    newest = [list_checkpoints(folder)[-1:] for folder in (path / "checkpoints", path)]
    states = [checkpoint / "state.safetensors" for found in newest for checkpoint in found]
    for candidate in (path, *_weight_files(path), path / "state.safetensors", *states):
        if candidate.is_file():
            return hash_file(candidate)
    return "missing"


def is_stored(path: Path) -> bool:
    """Whether `path` holds weights of a training that is done: a file, a model or a checkpoint. A run
    directory whose training was stopped has checkpoints and no model, and holds none."""
    if path.is_file() or any(candidate.exists() for candidate in _weight_files(path)):
        return True
    return (path / "state.json").exists() or (
        not (path / "run.json").exists() and _content(path) != "missing"
    )


def init_from_hashes(config: TrainConfig) -> dict[str, str]:
    """SHA-256 of what every `init_from` of a training names, by path: a model that stands on another one
    has to be trained again when that one was. {} where nothing is taken over."""
    every: list[TrainConfig | StageConfig] = [config, *config.stages]
    return {str(s.path): _content(s.path) for one in every for s in sources_of(one)}


@torch.no_grad()
def init_from(model: nn.Module, source: Source) -> tuple[str, ...]:
    """Copy stored weights into `model`; returns the names of those that were set.

    With a prefix, the stored part and the submodule must have the same tensors. Without, all that is stored
    must have a place in the model; with `only`, just those are set, and all of them must be stored.
    A tensor of another shape may be fitted by the model (`Trainable.fitted`: a vocabulary that has grown).
    Raises NiwakiError naming the first tensor that is missing, has no place, or another shape, and where a
    whole model was trained on tokens of another tokenizer.
    """
    stored = stored_weights(source.path)
    if not (source.prefix or source.part or source.only):
        _check_tokenizer(model, source.path)
    targets = {n: t for n, t in model.state_dict().items() if isinstance(t, Tensor) and not is_adapter(n)}
    if source.prefix or source.part:
        wanted = _matched(source, stored, targets)
    elif source.only:
        wanted = {n: n for n in targets if under(n, source.only)}
        if not wanted:
            names = ", ".join(source.only)
            raise NiwakiError(f"the model has no weights under {names}; {nearest(source.only[0], targets)}")
    else:
        wanted = {n: n for n in stored}
    for name, there in wanted.items():
        if name not in targets:
            hint = nearest(name, targets) if source.prefix else "name what to take in init_only"
            raise NiwakiError(f"{source.path} holds '{there}', which the model does not have; {hint}")
        if there not in stored:
            raise NiwakiError(f"{source.path} lacks '{there}'; {nearest(there, stored)}")
        if stored[there].shape != targets[name].shape and isinstance(model, Trainable):
            grown = model.fitted(name, stored[there])
            stored[there] = stored[there] if grown is None else grown
        if stored[there].shape != targets[name].shape:
            shapes = tuple(stored[there].shape), tuple(targets[name].shape)
            raise NiwakiError(
                f"'{there}' has the shape {shapes[0]} in {source.path} but {shapes[1]} in the model"
            )
    for name, there in wanted.items():
        targets[name].copy_(stored[there])
    return tuple(wanted)


def _check_tokenizer(model: nn.Module, path: Path) -> None:
    """Raises NiwakiError where the stored model ships a tokenizer that the model's own does not extend: equal
    numbers would be other words."""
    records = [place for place in (path / "model.json", path / "model" / "model.json") if place.is_file()]
    own = getattr(model, "files", {}).get(FILE)
    if own is None or not records:
        return
    there = dict(read_json(records[0])).get("files", {}).get(FILE)
    if there is not None and not extends(own, there):
        raise NiwakiError(
            f"the model in {path} reads text with another tokenizer than these data; cut them with its own "
            "(data.tokenizer, or the data's vocabulary)"
        )


def _matched(source: Source, stored: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, str]:
    """Name in the model → name in the source: everything on either side."""

    def strip(names: Mapping[str, Tensor], prefix: str, where: str) -> list[str]:
        if not prefix:
            return list(names)
        inside = [n[len(prefix) + 1 :] for n in names if n.startswith(prefix + ".")]
        if not inside:
            parts = {n.rpartition(".")[0] for n in names} - {""}
            raise NiwakiError(f"{where} has no weights under '{prefix}'; {nearest(prefix, parts)}")
        return inside

    here = strip(targets, source.prefix, "the model")
    there = strip(stored, source.part, str(source.path))
    at, of = source.prefix and source.prefix + ".", source.part and source.part + "."
    return {at + name: of + name for name in dict.fromkeys((*here, *there))}
