"""Weights that a training or a stage starts from: out of a model directory, a checkpoint, or a run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from niwaki.core.contract import Trainable
from niwaki.core.hub_folder import refuse_pickle
from niwaki.core.store import hash_file, hash_json, read_json, read_tensors
from niwaki.nn.low_rank import is_adapter
from niwaki.training.checkpoint import latest, list_checkpoints, read_checkpoint
from niwaki.training.config import StageConfig, TrainConfig
from niwaki.training.stages import under
from niwaki_runtime.errors import NiwakiError, nearest
from niwaki_runtime.tokenizer import FILE, extends

__all__ = [
    "Source",
    "Taken",
    "content_of",
    "init_from",
    "init_from_hashes",
    "is_stored",
    "sources_of",
    "stored_weights",
]

_PART = re.compile(r"[A-Za-z_][\w.]*")


class Source(NamedTuple):
    """Where weights come from and where they go.

    path:   a safetensors file, a model directory, a checkpoint, a directory of checkpoints or a run directory
    prefix: the submodule that they are for; empty is the model itself
    part:   the submodule of the stored model that they are taken from; empty is all of it
    only:   only the weights under these names; with neither `prefix` nor `only`, the model may have others
    rename: (how names begin in what is stored, how they begin in the model); the longest that fits counts
    partial: take what fits by name and shape; otherwise all must
    """

    path: Path
    prefix: str = ""
    part: str = ""
    only: tuple[str, ...] = ()
    rename: tuple[tuple[str, str], ...] = ()
    partial: bool = False


def sources_of(config: TrainConfig | StageConfig) -> tuple[Source, ...]:
    """What `init_from` and `init_only` name."""
    if config.init_from is None:
        return ()
    further = tuple(config.init_rename.items()), config.init_partial
    if isinstance(config.init_from, str):
        return (Source(Path(config.init_from), "", "", config.init_only, *further),)
    found = []
    for prefix, text in config.init_from.items():
        before, colon, part = text.rpartition(":")
        named = bool(colon) and _PART.fullmatch(part) is not None and not Path(text).exists()
        place, of = (Path(before), part) if named else (Path(text), "")
        found.append(Source(place, prefix, of, (), *further))
    return tuple(found)


def stored_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name. Of a checkpoint the averaged weights, where it has any: they are what was trained for.

    path: a safetensors file, a directory with `model.safetensors` or with other such files (what
          transformers, diffusers and timm save, also in several), a checkpoint, a directory of
          checkpoints, or a run directory (its `model/`, else its newest checkpoint)
    Raises NiwakiError where nothing of that is there, or it is broken, CallError for a pickle.
    """
    refuse_pickle(path)
    if path.is_file():
        return read_tensors(path)
    for candidate in _weight_files(path):
        if candidate.exists():
            return read_tensors(candidate)
    if files := _hub_files(path):
        return {name: value for file in files for name, value in read_tensors(file).items()}
    if (path / "state.json").exists():
        checkpoint = read_checkpoint(path)
    else:
        found, _ = latest(path / "checkpoints")
        found = found or latest(path)[0]
        if found is None:
            for file in sorted(path.iterdir()) if path.is_dir() else ():
                refuse_pickle(file)
            raise NiwakiError(f"{path} holds neither model.safetensors nor a checkpoint to take weights from")
        checkpoint = found
    return {**checkpoint.part("model"), **checkpoint.part("ema")}


def _weight_files(path: Path) -> tuple[Path, Path]:
    return path / "model.safetensors", path / "model" / "model.safetensors"


def _hub_files(path: Path) -> list[Path]:
    """The files of a folder that another package saved: all parts, in full precision where that is there."""
    if (path / "state.json").exists():
        return []
    files = sorted(path.glob("*.safetensors"))
    return [f for f in files if ".fp16." not in f.name] or files


def content_of(path: Path) -> str:
    """SHA-256 of the file that `stored_weights` reads; `missing` where there is none."""
    newest = [list_checkpoints(folder)[-1:] for folder in (path / "checkpoints", path)]
    states = [checkpoint / "state.safetensors" for found in newest for checkpoint in found]
    for candidate in (path, *_weight_files(path), path / "state.safetensors", *states):
        if candidate.is_file():
            return hash_file(candidate)
    files = _hub_files(path)
    return hash_json([hash_file(f) for f in files]) if files else "missing"


def is_stored(path: Path) -> bool:
    """Whether `path` holds weights of a training that is done: a file, a model or a checkpoint. A run
    directory whose training was stopped has checkpoints and no model, and holds none."""
    if path.is_file() or any(candidate.exists() for candidate in _weight_files(path)):
        return True
    return (path / "state.json").exists() or (
        not (path / "run.json").exists() and content_of(path) != "missing"
    )


def init_from_hashes(config: TrainConfig) -> dict[str, str]:
    """SHA-256 of what every `init_from` of a training names, by path: a model that stands on another one
    has to be trained again when that one was. {} where nothing is taken over."""
    every: list[TrainConfig | StageConfig] = [config, *config.stages]
    found = {str(s.path): content_of(s.path) for one in every for s in sources_of(one)}
    for file in () if config.prefer is None else config.prefer.files:
        found[file] = content_of(Path(file))
    return found


class Taken(NamedTuple):
    """What was set, by name in the model, and a sentence about what was not; empty where everything was."""

    names: tuple[str, ...]
    left: str


@torch.no_grad()
def init_from(model: nn.Module, source: Source) -> Taken:
    """Copy stored weights into `model`.

    With a prefix, the stored part and the submodule must have the same tensors. Without, all that is stored
    must have a place in the model; with `only`, just those are set, and all of them must be stored.
    A tensor of another shape may be fitted by the model (`Trainable.fitted`: a vocabulary that has grown).
    Raises NiwakiError naming what is missing, has no place, or another shape, where not `partial`, or where
    nothing fits; and where a whole model was trained on tokens of another tokenizer.
    """
    stored = _renamed(stored_weights(source.path), source)
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
        wanted = {n: n for n in (stored if not source.partial else {**stored, **targets})}
    extra = [there for name, there in wanted.items() if name not in targets]
    missing = [there for there in wanted.values() if there not in stored]
    taken = {name: there for name, there in wanted.items() if name in targets and there in stored}
    misfit = []
    for name, there in taken.items():
        if stored[there].shape != targets[name].shape and isinstance(model, Trainable):
            grown = model.fitted(name, stored[there])
            stored[there] = stored[there] if grown is None else grown
        if stored[there].shape != targets[name].shape:
            misfit.append(name)
    left = _left(source, targets, stored, extra, missing, [(taken[n], n) for n in misfit])
    fits = {name: there for name, there in taken.items() if name not in misfit}
    if left and (not source.partial or not fits):
        raise NiwakiError(left)
    for name, there in fits.items():
        targets[name].copy_(stored[there])
    return Taken(tuple(fits), left and f"{len(fits)} weights were taken: {left}")


def _renamed(stored: dict[str, Tensor], source: Source) -> dict[str, Tensor]:
    """By the names that the model has for them."""
    if not source.rename:
        return stored
    for before, _ in source.rename:
        if not any(name.startswith(before) for name in stored):
            raise NiwakiError(
                f"{source.path} holds no weight whose name begins with '{before}' (train.init_rename); "
                f"{nearest(before, stored)}"
            )
    longest = sorted(source.rename, key=lambda pair: -len(pair[0]))

    def of(name: str) -> str:
        before, after = next((pair for pair in longest if name.startswith(pair[0])), ("", ""))
        return after + name[len(before) :]

    named = {of(name): value for name, value in stored.items()}
    if len(named) < len(stored):
        raise NiwakiError(f"train.init_rename gives two weights of {source.path} one name")
    return named


def _left(
    source: Source,
    targets: Mapping[str, Tensor],
    stored: Mapping[str, Tensor],
    extra: Sequence[str],
    missing: Sequence[str],
    misfit: Sequence[tuple[str, str]],
) -> str:
    """All that does not fit, in one sentence; empty where everything does."""

    def more(names: Sequence[object]) -> str:
        return f" and {len(names) - 1} more" if len(names) > 1 else ""

    said, hint = [], ""
    if extra:
        said.append(f"{source.path} holds '{extra[0]}'{more(extra)}, which the model does not have")
        hint = nearest(extra[0], targets) if source.prefix else "name what to take in init_only"
    if missing:
        said.append(f"{source.path} lacks '{missing[0]}'{more(missing)}")
        hint = hint or nearest(missing[0], stored)
    if misfit:
        there, name = misfit[0]
        shapes = tuple(stored[there].shape), tuple(targets[name].shape)
        others = f" ({len(misfit) - 1} more do not fit either)" if len(misfit) > 1 else ""
        said.append(
            f"'{there}' has the shape {shapes[0]} in {source.path} but {shapes[1]} in the model{others}"
        )
    return "; ".join(said if source.partial or not hint else [*said, hint])


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
