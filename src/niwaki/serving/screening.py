"""Filters in a server: what they flag is answered with a score and a threshold, never by a black picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from niwaki.filters import Filter, screen
from niwaki.serving.problems import WITHHELD, Problem
from niwaki_runtime import Bundle
from niwaki_runtime.programs import SAMPLING
from niwaki_runtime.specs import ValueSpec

__all__ = ["check_filter", "screened", "screenings", "with_screening"]


def check_filter(by: Filter, bundle: Bundle) -> None:
    """Raises CallError where the filter cannot look at the samples of a bundle: a server that is told to
    filter serves no samples unfiltered."""
    by.check(bundle.program(SAMPLING).output)


def screened(
    by: Filter, action: str, results: np.ndarray, spec: ValueSpec, samples: Sequence[Any]
) -> list[Any]:
    """The results of a batch, a Problem `withheld` in place of each that is; samples are told their score."""
    found = screen(by, results, spec, action)
    out: list[Any] = []
    for i, sample in enumerate(samples):
        sample.screening = said = found.of(i)
        if found.passes[i]:
            out.append(results[i])
            continue
        text = (
            f"sample {sample.number} of seed {sample.seed} was withheld by the filter '{by.name}': its score "
            f"{said['score']:.3f} is above {by.threshold:.3f}"
        )
        out.append(
            Problem(403, WITHHELD, text, details={**said, "index": sample.number, "seed": sample.seed})
        )
    return out


def screenings(items: Sequence[Any]) -> dict[str, Any]:
    """What a filter said of each sample, as a field of an answer; none where none looked at them."""
    said = [item.what.screening for item in items]
    return {} if all(one is None for one in said) else {"filter": said}


def with_screening(entry: Any, item: Any) -> Any:
    """An entry of an answer with what a filter said of its sample, where one looked at it."""
    said = getattr(item.what, "screening", None)
    return {**entry, "filter": said} if said is not None and isinstance(entry, Mapping) else entry
