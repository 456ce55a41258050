"""What a modality is, and which there are."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np

from niwaki.core.errors import CallError
from niwaki.core.registry import import_modules
from niwaki.core.store import write_bytes, write_json
from niwaki.modalities.provenance import Provenance, stamped
from niwaki.modalities.signing import check_signable
from niwaki_runtime.specs import ValueSpec

__all__ = ["Media", "Modality", "modality_of", "put", "register_modality"]

Kind = TypeVar("Kind", bound=type["Modality"])


@dataclass(frozen=True)
class Media:
    """One sample as a page shows it.

    kind: `picture` and `plot` (address of an image), `sound` (address of a recording, with a picture of it),
          `text` (the text itself)
    data: a `data:` address, or the text
    also: of a sound, the picture's address
    """

    kind: str
    data: str
    also: str = ""


class Modality(ABC):
    """How samples of one kind are written, shown and damaged.

    writers:  file ending → method that makes the file's bytes from `(n, *shape)`
    features: extractors that look at it where a recipe names none
    """

    name: ClassVar[str]
    features: ClassVar[tuple[str, ...]] = ("classifier", "random")

    def writers(self, spec: ValueSpec) -> Mapping[str, Callable[..., bytes]]:
        """File endings that samples of this spec can be written with."""
        return {}

    def file_of(self, x: np.ndarray, spec: ValueSpec) -> tuple[str, bytes]:
        """One sample `(*shape)` as a file that other programs read, no value changed: ending and bytes."""
        file = io.BytesIO()
        np.save(file, x)
        return ".npy", file.getvalue()

    def rows(self, x: np.ndarray, spec: ValueSpec, columns: int) -> bytes | None:
        """Samples `(n, *shape)` as one picture, `columns` in a row; None where they are no pictures."""
        return None

    def draws(self, spec: ValueSpec) -> bool:
        """Whether `show` makes a picture of a sample."""
        return False

    @abstractmethod
    def show(self, x: np.ndarray, spec: ValueSpec, files: Mapping[str, str] | None = None) -> Media:
        """One sample `(*shape)` for a page; files: what the model ships (`tokenizer.json`)."""

    def show_difference(self, before: np.ndarray, after: np.ndarray, spec: ValueSpec) -> Media | None:
        """Where two samples differ; None where a picture of it would say nothing."""
        return None

    def say(self, x: np.ndarray, spec: ValueSpec, files: Mapping[str, str] | None = None) -> str:
        """One sample for a terminal; empty where it cannot be read there."""
        return ""

    @abstractmethod
    def ruin(self, x: np.ndarray, spec: ValueSpec, rng: np.random.Generator) -> np.ndarray:
        """Samples `(n, *shape)` damaged beyond recognition: what margins and ladders plant."""

    def write(
        self,
        path: Path,
        x: np.ndarray,
        spec: ValueSpec,
        files: Mapping[str, str] | None = None,
        source: Provenance | None = None,
    ) -> Path:
        """All samples into one file; its ending says how. Raises CallError for another ending.

        source: where they come from: in the file, or beside it where it has no place for that (`put`)
        """
        known = self.writers(spec)
        if path.suffix not in known:
            endings = ", ".join((*known, ".npz"))
            raise CallError(f"{self.name} samples are written as {endings} or .npy, not as '{path.name}'")
        if not len(x):
            raise CallError("there are no samples to write; ask for at least one with -n")
        put(path, known[path.suffix](x, spec, files or {}), source)
        return path


def put(path: Path, data: bytes, source: Provenance | None) -> None:
    """Write a file that says where it comes from; texts and tables, whose readers would stumble over it, and
    arrays, have `NAME.provenance.json` beside them. Raises CallError where these are to be signed."""
    if source is not None and source.certificate is not None:
        check_signable(path)
    said = data if source is None else stamped(path.suffix, data, source)
    write_bytes(path, data if said is None else said)
    if said is None and source is not None:
        write_json(path.with_name(f"{path.name}.provenance.json"), source.record())


_MODALITIES: dict[str, Modality] = {}


def register_modality(name: str) -> Callable[[Kind], Kind]:
    """Class decorator: samples of `ValueSpec.modality == name` are this class's."""

    def enter(cls: Kind) -> Kind:
        cls.name = name
        _MODALITIES[name] = cls()
        return cls

    return enter


def modality_of(spec: ValueSpec) -> Modality:
    """The modality of a spec; one that nobody registered is shown as the numbers that it is."""
    if spec.modality not in _MODALITIES:
        import_modules("niwaki.modalities")
    return _MODALITIES.get(spec.modality) or _MODALITIES["vector"]


def csv_bytes(x: np.ndarray, names: tuple[str, ...] = ()) -> bytes:
    """Rows of numbers, with a header where the columns have names."""
    file = io.StringIO()
    if names:
        file.write(",".join(names) + "\n")
    np.savetxt(file, x, delimiter=",", fmt="%.7g")
    return file.getvalue().encode()
