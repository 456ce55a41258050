"""What a use is, and which there are."""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from pydantic import ValidationError

from niwaki.core.base_config import BaseConfig
from niwaki.core.errors import CallError
from niwaki.core.registry import import_modules, unknown
from niwaki.core.store import write_bytes
from niwaki.data.dataset import Dataset
from niwaki.modalities import modality_of
from niwaki_runtime.errors import nearest
from niwaki_runtime.programs import Runner
from niwaki_runtime.specs import ValueSpec

__all__ = ["Call", "Outcome", "Use", "UseOptions", "find_use", "names_of_uses", "register_use"]

Kind = TypeVar("Kind", bound=type["Use"])


class UseOptions(BaseConfig):
    """Base of the settings of one use."""


@dataclass
class Call:
    """What a use is called with.

    runner:   a model or a bundle; None for a use that reads the bundle's file by itself
    path:     where it lies
    files:    what the user named
    asked:    conditions by name, or a bare value for the only one
    seed:     of all that is drawn
    dataset:  gives the data that the subject answers to, where there are any
    progress: called with (samples done, samples in all)
    """

    runner: Runner | None
    path: Path
    files: Sequence[Path] = ()
    asked: Any = None
    seed: int = 0
    dataset: Callable[[], Dataset | None] = lambda: None
    progress: Callable[[int, int], None] | None = None

    @property
    def model(self) -> Runner:
        """The runner. Raises CallError where the subject holds samples only."""
        if self.runner is None:
            raise CallError(f"{self.path} holds samples; give a run, a model or a bundle")
        return self.runner


@dataclass
class Outcome:
    """What came of it.

    record: plain JSON, for `--json`
    lines:  the same for a terminal, a sentence each
    rows:   a table, one mapping per row (of `.csv` and `.json`)
    x:      samples `(n, *spec.shape)`, with what one is and its file's name; in a picture `columns` to a row
    data:   bytes of a file of its own kind
    ending: of the file where the caller names none
    failed: what was lost, in one sentence, though the rest is there
    """

    record: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    x: np.ndarray | None = None
    spec: ValueSpec | None = None
    names: Sequence[str] = ()
    columns: int = 0
    data: bytes | None = None
    ending: str = ""
    failed: str = ""

    def write(self, place: Path) -> list[Path]:
        """Into one file, or a file for each sample where `place` is a directory or has no ending."""
        if self.data is not None:
            write_bytes(place, self.data)
            return [place]
        if place.suffix in (".csv", ".json"):
            write_bytes(place, _table(place.suffix, self.rows))
            return [place]
        if self.x is None or self.spec is None:
            raise CallError(f"this use writes a table, as .csv or .json, not '{place.name}'")
        if place.suffix == ".npy":
            file = io.BytesIO()
            np.save(file, self.x)
            write_bytes(place, file.getvalue())
            return [place]
        modality = modality_of(self.spec)
        if place.suffix:
            rows = modality.rows(self.x, self.spec, self.columns) if self.columns else None
            if rows is not None and place.suffix == ".png":
                write_bytes(place, rows)
                return [place]
            return [modality.write(place, self.x, self.spec)]
        place.mkdir(parents=True, exist_ok=True)
        digits = len(str(len(self.x)))
        made = []
        for i, one in enumerate(self.x):
            name = Path(self.names[i]).stem if i < len(self.names) else f"{i:0{digits}d}"
            ending, data = modality.file_of(one, self.spec)
            made.append(place / f"{name}{ending}")
            write_bytes(made[-1], data)
        return made


class Use(ABC):
    """One thing to do with a model. A subclass is registered by its name.

    Options: its settings
    summary: what it does, in half a sentence
    example: words of a call after `niwaki use NAME`
    opens:   whether it needs the model on an engine; else it is given the path alone
    """

    name: ClassVar[str]
    Options: ClassVar[type[UseOptions]] = UseOptions
    summary: ClassVar[str]
    example: ClassVar[str]
    opens: ClassVar[bool] = True

    @abstractmethod
    def apply(self, call: Call, options: Any) -> Outcome:
        """Do it. Raises CallError where the model cannot, or the call lacks something."""

    def options(self, given: Mapping[str, Any]) -> UseOptions:
        """The checked settings. Raises CallError in one sentence for a wrong name or value."""
        try:
            return self.Options.model_validate(dict(given))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            if first["type"] == "extra_forbidden":
                hint = nearest(key, self.Options.model_fields)
                raise CallError(f"'{self.name}' has no option '{key}'; {hint}") from None
            raise CallError(f"'{self.name}': {key}: {first['msg']}, not {first['input']!r}") from None


_USES: dict[str, Use] = {}


def register_use(name: str) -> Callable[[Kind], Kind]:
    """Class decorator: `niwaki use NAME` is this class's."""

    def enter(cls: Kind) -> Kind:
        cls.name = name
        _USES[name] = cls()
        return cls

    return enter


def names_of_uses() -> list[str]:
    """All registered uses, the built-in ones loaded."""
    import_modules("niwaki.uses")
    return sorted(_USES)


def find_use(name: str) -> Use:
    """Raises CallError with the nearest name where there is no such use."""
    known = names_of_uses()
    if name not in known:
        raise unknown("use", name, known)
    return _USES[name]


def _table(suffix: str, rows: Sequence[Mapping[str, Any]]) -> bytes:
    if suffix == ".json":
        return (json.dumps(list(rows), indent=1, ensure_ascii=False) + "\n").encode()
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()
