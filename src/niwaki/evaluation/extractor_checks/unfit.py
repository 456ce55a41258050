"""What is said where no extractor that looked is fit: a number in such features is a hint, no finding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["hint_alone", "unfit_alone", "unfit_words"]

LEARNED = "simclr"
"""Features that learn from unlabelled data."""


def unfit_alone(names: Iterable[str], fitness: Mapping[str, Any]) -> tuple[str, ...]:
    """The extractors, where every one of them failed its ladders; () where one is fit, or was not tried.

    fitness: by extractor, `fit` and why (`niwaki.evaluation.extractor_checks.fitness`)
    """
    found = tuple(names)
    failed = [name for name in found if (fitness.get(name) or {}).get("fit") is False]
    return found if len(failed) == len(found) else ()


def hint_alone(names: Iterable[str]) -> str:
    """After a verdict that was taken in these features alone."""
    return f"A hint only: it was taken in {_features(tuple(names))}."


def unfit_words(fitness: Mapping[str, Any]) -> str:
    """Beside all numbers of a model: that none fit has looked, why, and what to do; "" where one has."""
    names = unfit_alone(fitness, fitness)
    if not names:
        return ""
    why = " ".join(str(fitness[name].get("text", "")) for name in names).strip()
    way = f"evaluate.features=[{LEARNED}] learns features from these data" if LEARNED not in names else ""
    other = "dinov2:FOLDER takes pretrained ones of pictures" if way else ""
    more = f"evaluate.features=[dinov2:FOLDER] takes pretrained ones of pictures; more data help {LEARNED}"
    return (
        f"All of it was taken in {_features(names)}: hints of quality and diversity, no findings. {why} "
        + (f"{way}; {other}." if way else f"{more}.")
    )


def _features(names: tuple[str, ...]) -> str:
    listed = " and ".join(f"'{name}'" for name in names)
    return f"features that are unfit for these data ({listed})"
