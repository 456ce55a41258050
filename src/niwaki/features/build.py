"""Extractors by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from niwaki.contract import CallError, nearest
from niwaki.data import Dataset
from niwaki.features.classifier import train_classifier
from niwaki.features.extractor import Extractor, Progress
from niwaki.features.random import random_features

__all__ = ["available", "build", "names"]

Maker = Callable[..., Any]


@dataclass(frozen=True)
class _Kind:
    make: Maker
    needs_labels: bool


_KINDS: dict[str, _Kind] = {}


def _register(name: str, *, needs_labels: bool = False) -> Callable[[Maker], Maker]:
    def enter(make: Maker) -> Maker:
        _KINDS[name] = _Kind(make, needs_labels)
        return make

    return enter


@_register("random")
def _random(
    dataset: Dataset, cache: Path | None, seed: int, device: str, progress: Progress | None
) -> Extractor:
    return random_features(dataset, cache=cache, seed=seed, device=device)


@_register("classifier", needs_labels=True)
def _classifier(
    dataset: Dataset, cache: Path | None, seed: int, device: str, progress: Progress | None
) -> Extractor:
    return train_classifier(dataset, cache=cache, seed=seed, device=device, progress=progress)


def names() -> tuple[str, ...]:
    """All extractors there are."""
    return tuple(_KINDS)


def available(dataset: Dataset) -> tuple[str, ...]:
    """Those that this data set allows: a classifier needs labels."""
    return tuple(n for n, kind in _KINDS.items() if dataset.spec.classes >= 2 or not kind.needs_labels)


def build(
    wanted: Sequence[str],
    dataset: Dataset,
    *,
    cache: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[Extractor]:
    """Extractors by name, fitted to the training split of `dataset` (or taken from the cache), deterministic
    by the seed.

    cache:    directory that keeps weights and features by content hash; None keeps nothing
    progress: called with (extractor, steps done, steps in all) while one is trained
    Raises CallError for an unknown name, a name given twice, and `classifier` on data without classes.
    """
    if isinstance(wanted, str):
        raise CallError(f"features must be a list of names, not the single name '{wanted}'")
    for name in wanted:
        if name not in _KINDS:
            raise CallError(f"there are no features '{name}'; {nearest(name, _KINDS)}")
    if not wanted or len(set(wanted)) != len(wanted):
        raise CallError("name at least one kind of features, and each only once")
    folder = None if cache is None else Path(cache)
    return [_KINDS[name].make(dataset, folder, seed, device, progress) for name in wanted]
