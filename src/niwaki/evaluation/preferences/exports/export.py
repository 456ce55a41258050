"""What a form of export is, and which there are."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from niwaki.core.array_files import read_array_file
from niwaki.core.errors import CallError, NiwakiError
from niwaki.core.registry import Registry
from niwaki.core.store import write_bytes
from niwaki.evaluation.preferences.ratings import Rating, Ratings
from niwaki.modalities import modality_of
from niwaki_runtime.specs import ValueSpec

__all__ = ["Export", "export_ratings", "names_of_exports", "register_export"]


class Export(ABC):
    """A form that answers are written in."""

    name: ClassVar[str]

    @abstractmethod
    def write(self, ratings: Ratings, out: Path) -> int:
        """Write the answers that count to a file; how many."""


_FORMS: Registry[Export] = Registry("form of export", ["niwaki.evaluation.preferences.exports"])
register_export = _FORMS.register


def names_of_exports() -> list[str]:
    return _FORMS.names()


def export_ratings(ratings: Ratings, form: str, out: Path) -> int:
    """Raises CallError for an unknown form, NiwakiError where no answer can be written."""
    written = _FORMS[form]().write(ratings, out)
    if not written:
        raise NiwakiError(
            f"none of {len(ratings.counted)} answers prefers a side: {form} has nothing to hold"
        )
    return written


def spec_of(ratings: Ratings) -> ValueSpec:
    """Of one sample. Raises CallError where the answers do not say it."""
    if "spec" not in ratings.study:
        raise CallError("these answers do not say what was compared; only answers of `niwaki studio` do")
    return ValueSpec.from_json(ratings.study["spec"])


def sample_of(ratings: Ratings, model: str, rating: Rating) -> np.ndarray:
    """`(*shape)`. Raises NiwakiError where it is missing or broken."""
    file = ratings.sample_file(model, rating)
    try:
        return read_array_file(file)["x"]
    except CallError as error:
        raise NiwakiError(f"the sample cannot be read: {error}") from error


def shown(ratings: Ratings, rating: Rating, out: Path) -> list[str]:
    """Left and right: of texts the text, of all else a file beside `out` as other programs read it, by its
    path from there."""
    if rating.texts:
        return list(rating.texts)
    spec, places = spec_of(ratings), []
    for model in (rating.left, rating.right):
        ending, data = modality_of(spec).file_of(sample_of(ratings, model, rating), spec)
        place = Path(f"{out.stem}-files", model, f"{rating.number}{ending}")
        write_bytes(out.parent / place, data)
        places.append(place.as_posix())
    return places


def address(file: Path, out: Path) -> str:
    """A file as seen from the folder of `out`."""
    return Path(os.path.relpath(file.resolve(), out.parent.resolve())).as_posix()


def conditions(rating: Rating) -> dict[str, Any]:
    return dict(rating.condition)
