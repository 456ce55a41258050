"""Extractors by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from niwaki.core.contract import CallError, nearest
from niwaki.core.store import hash_directory, hash_file, hash_json
from niwaki.data import Dataset
from niwaki.features.budget import Announce
from niwaki.features.classifier import train_classifier
from niwaki.features.encoders import encoder_names, registered_encoder
from niwaki.features.extractor import Extractor, Progress
from niwaki.features.log_mel import log_mel_features, needs_sound
from niwaki.features.pretrained import KINDS, is_pretrained, pretrained_extractor
from niwaki.features.random import random_features
from niwaki.features.selfsupervised import is_encoder, run_encoder, train_encoder

__all__ = ["available", "build", "files_of", "names"]

Maker = Callable[..., Any]


@dataclass(frozen=True)
class Heard:
    """Who hears of a training: its course, and how long it will take before it begins."""

    progress: Progress | None = None
    announce: Announce | None = None


@dataclass(frozen=True)
class _Kind:
    """
    make:   an extractor of (dataset, cache, seed, device, heard)
    refuse: raises CallError for data that it cannot look at
    """

    make: Maker
    refuse: Callable[[Dataset], None]


_KINDS: dict[str, _Kind] = {}


def _register(name: str, refuse: Callable[[Dataset], None] = lambda _: None) -> Callable[[Maker], Maker]:
    def enter(make: Maker) -> Maker:
        _KINDS[name] = _Kind(make, refuse)
        return make

    return enter


def _needs_labels(dataset: Dataset) -> None:
    if dataset.spec.classes < 2:
        raise CallError("a classifier needs data with at least two classes")


@_register("random")
def _random(dataset: Dataset, cache: Path | None, seed: int, device: str, heard: Heard) -> Extractor:
    return random_features(dataset, cache=cache, seed=seed, device=device)


@_register("log-mel", needs_sound)
def _log_mel(dataset: Dataset, cache: Path | None, seed: int, device: str, heard: Heard) -> Extractor:
    return log_mel_features(dataset, cache=cache, device=device)


@_register("classifier", _needs_labels)
def _classifier(dataset: Dataset, cache: Path | None, seed: int, device: str, heard: Heard) -> Extractor:
    return train_classifier(
        dataset, cache=cache, seed=seed, device=device, progress=heard.progress, announce=heard.announce
    )


def _encoder(name: str) -> _Kind:
    def make(dataset: Dataset, cache: Path | None, seed: int, device: str, heard: Heard) -> Extractor:
        return train_encoder(
            name,
            dataset,
            cache=cache,
            seed=seed,
            device=device,
            progress=heard.progress,
            announce=heard.announce,
        )

    return _Kind(make, lambda dataset: registered_encoder(name).refuse(dataset.spec))


def _kinds() -> dict[str, _Kind]:
    return {**_KINDS, **{name: _encoder(name) for name in encoder_names()}}


def _of_run(directory: Path) -> _Kind:
    """A trained encoder by the path of its run."""

    def make(dataset: Dataset, cache: Path | None, seed: int, device: str, heard: Heard) -> Extractor:
        return run_encoder(directory, dataset, cache=cache, device=device)

    return _Kind(make, lambda _: None)


def _pretrained(name: str) -> _Kind:
    """`kind:source`, as `dinov2:facebook/dinov2-base`."""
    kind, _, source = name.partition(":")

    def make(dataset: Dataset, cache: Path | None, seed: int, device: str, heard: Heard) -> Extractor:
        return pretrained_extractor(kind, source, dataset, cache, device)

    return _Kind(make, lambda _: None)


def _kind(name: str) -> _Kind:
    if is_pretrained(name):
        return _pretrained(name)
    known = _kinds()
    if name not in known and is_encoder(Path(name)):
        return _of_run(Path(name))
    if name not in known:
        raise CallError(f"there are no features '{name}'; {nearest(name, (*known, *KINDS))}")
    return known[name]


def files_of(name: str) -> str:
    """Hash of the files that features come from which are named by their place: an encoder's run, weights of
    a pretrained network on this machine. Empty for those that follow from the data, the seed and settings."""
    if is_pretrained(name):
        source = Path(name.partition(":")[2])
        return hash_directory(source) if source.exists() else ""
    if name in _kinds() or not is_encoder(Path(name)):
        return ""
    place = Path(name) / "model" if (Path(name) / "model").is_dir() else Path(name)
    return hash_json([hash_file(place / file) for file in ("model.json", "model.safetensors")])


def names() -> tuple[str, ...]:
    """All extractors there are."""
    return tuple(_kinds())


def available(dataset: Dataset) -> tuple[str, ...]:
    """Those that this data set allows: a classifier needs labels, a masked autoencoder patches."""
    return tuple(name for name, kind in _kinds().items() if _allows(kind, dataset))


def _allows(kind: _Kind, dataset: Dataset) -> bool:
    try:
        kind.refuse(dataset)
    except CallError:
        return False
    return True


def build(
    wanted: Sequence[str],
    dataset: Dataset,
    *,
    cache: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
    announce: Announce | None = None,
) -> list[Extractor]:
    """Extractors by name, fitted to the training split of `dataset` (or taken from the cache), deterministic
    by the seed. The path of a run that trained an encoder is a name too, and so is `kind:source` of a
    pretrained network (`inception:weights.safetensors`, `dinov2:folder`, `clip:folder or hub name`).

    cache:    directory that keeps weights and features by content hash; None keeps nothing
    progress: called with (extractor, steps done, steps in all) while one is trained
    announce: called with (extractor, steps, about how many seconds) before one is trained on the CPU
    Raises CallError for an unknown name, a name given twice, and for data that an extractor cannot look at.
    """
    if isinstance(wanted, str):
        raise CallError(f"features must be a list of names, not the single name '{wanted}'")
    kinds = [_kind(name) for name in wanted]
    if not wanted or len(set(wanted)) != len(wanted):
        raise CallError("name at least one kind of features, and each only once")
    folder = None if cache is None else Path(cache)
    made = [kind.make(dataset, folder, seed, device, Heard(progress, announce)) for kind in kinds]
    if len({extractor.name for extractor in made}) < len(made):
        raise CallError(f"two of these features would both be called the same: {', '.join(wanted)}")
    return made
