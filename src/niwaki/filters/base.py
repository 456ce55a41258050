"""What a filter is, and which kind of filter a path holds."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from niwaki_runtime.errors import CallError, nearest
from niwaki_runtime.specs import ValueSpec

__all__ = ["Filter", "FilterPlace", "open_filter", "register_filter"]


class Filter(ABC):
    """Samples in, a score for each: how surely it is of what is to be withheld, 0 … 1.

    kind:      by which the registry knows it
    name:      what answers call it
    threshold: a sample is withheld where its score is above it
    """

    kind: ClassVar[str]
    name: str
    threshold: float

    @classmethod
    @abstractmethod
    def holds(cls, path: Path) -> bool:
        """Whether a filter of this kind lies there."""

    @classmethod
    @abstractmethod
    def open(cls, place: FilterPlace) -> Filter:
        """Raises NiwakiError for a broken one, CallError for wrong settings."""

    @abstractmethod
    def check(self, spec: ValueSpec) -> None:
        """Raises CallError where it cannot look at such samples."""

    @abstractmethod
    def score(self, x: np.ndarray, spec: ValueSpec) -> np.ndarray:
        """Samples `(n, *shape)` in the range of `spec` → `(n,)` float64, 0 … 1."""

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "kind": self.kind, "threshold": self.threshold}


@dataclass(frozen=True)
class FilterPlace:
    """Where a filter lies, and what is set otherwise than there.

    threshold: in place of the filter's
    labels:    of a classifier of many labels, those that are to be withheld
    """

    path: Path
    threshold: float | None = None
    labels: tuple[str, ...] = ()
    engine: str = "auto"

    @classmethod
    def read(cls, text: str | Path, engine: str = "auto") -> FilterPlace:
        """`PATH`, `PATH,threshold=0.8`, `PATH,label=nsfw,threshold=0.5`.

        >>> FilterPlace.read("faces.filter,threshold=0.9").threshold
        0.9
        """
        path, *settings = str(text).split(",")
        threshold, labels = None, []
        for setting in settings:
            key, equals, value = setting.partition("=")
            if not equals or key not in ("threshold", "label"):
                raise CallError(f"a filter is PATH,threshold=0.5 or PATH,label=NAME, not '{text}'")
            if key == "label":
                labels.append(value)
                continue
            try:
                threshold = float(value)
            except ValueError:
                raise CallError(f"a filter's threshold is a number 0 … 1, not '{value}'") from None
            if not 0 <= threshold <= 1:
                raise CallError(f"a filter's threshold is a number 0 … 1, not '{value}'")
        return cls(Path(path).expanduser(), threshold, tuple(labels), engine)


_KINDS: dict[str, type[Filter]] = {}


def register_filter(name: str) -> Callable[[type[Filter]], type[Filter]]:
    """Class decorator: a kind of filter."""

    def enter(cls: type[Filter]) -> type[Filter]:
        cls.kind = name
        _KINDS[name] = cls
        return cls

    return enter


def open_filter(what: str | Path | FilterPlace | Filter, engine: str = "auto") -> Filter:
    """The filter at a path (`FilterPlace.read`), of the first kind that holds it.

    Raises CallError where there is none, NiwakiError for a broken one.
    """
    if isinstance(what, Filter):
        return what
    place = what if isinstance(what, FilterPlace) else FilterPlace.read(what, engine)
    _import_kinds()
    if not place.path.exists():
        near = [str(p) for p in place.path.parent.glob("*.filter")] if place.path.parent.is_dir() else []
        raise CallError(
            f"there is no filter {place.path}" + (f"; {nearest(str(place.path), near)}" if near else "")
        )
    for kind in _KINDS.values():
        if kind.holds(place.path):
            return kind.open(place)
    raise CallError(f"{place.path} is no filter of a known kind: {', '.join(_KINDS)}")


def _import_kinds() -> None:
    home = importlib.import_module("niwaki.filters.kinds")
    for found in pkgutil.iter_modules(home.__path__, f"{home.__name__}."):
        importlib.import_module(found.name)
