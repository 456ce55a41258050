"""Which of the samples that a model makes are given: those that a filter lets pass and a balance needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from niwaki.core.contract import CallError, ValueSpec
from niwaki.evaluation.judges.recognising import Recogniser
from niwaki.filters import Filter, Screening, open_filter, screen
from niwaki.filters.screening import check_action
from niwaki.workflow.balancing import balanced

__all__ = ["Choosing", "Chosen"]

Rows = dict[str, np.ndarray]


@dataclass(frozen=True)
class Chosen:
    """
    x, rows:   samples, and what was asked of each
    index:     which samples of the seed they are; None where they follow one another
    screening: of the filter, ready for JSON
    balance:   of the balance
    """

    x: np.ndarray
    rows: Rows
    index: np.ndarray | None = None
    screening: dict[str, Any] | None = None
    balance: dict[str, Any] | None = None


@dataclass(frozen=True)
class Choosing:
    """
    by:      an attribute, or several joined by `+`
    """

    filter: Filter | None
    action: str
    by: str | None
    spec: ValueSpec

    @classmethod
    def read(
        cls, filter: Any, action: str, balance: str | None, spec: ValueSpec, engine: str, streamed: bool
    ) -> Choosing:
        """All is checked before anything is made. Raises CallError and NiwakiError as `open_filter`."""
        if streamed and (filter is not None or balance is not None):
            raise CallError("what is written as it is made cannot be withheld; leave stream out")
        check_action(action)
        opened = None if filter is None else open_filter(filter, engine)
        if opened is not None:
            opened.check(spec)
        return cls(opened, action, balance, spec)

    def choose(
        self,
        make: Callable[[int, int], tuple[np.ndarray, Rows]],
        n: int,
        seed: int,
        start: int,
        recogniser: Recogniser | None,
    ) -> Chosen:
        """n samples, less those that are withheld. make: (first, count) → samples and what was asked."""
        index, record = None, None
        if self.by is not None and recogniser is not None:
            found = balanced(make, recogniser, self.by, n, start=start)
            x, rows, index, record = found.x, found.rows, found.index, found.record
        else:
            x, rows = make(start, n)
        if self.filter is None:
            return Chosen(x, rows, index, None, record)
        screening: Screening = screen(self.filter, x, self.spec, self.action)
        place = start + np.arange(len(x)) if index is None else index
        said, passes = screening.to_json(place, seed), screening.passes
        if not passes.all():
            x, rows, index = x[passes], {k: v[passes] for k, v in rows.items()}, place[passes]
        return Chosen(x, rows, index, said, record)

    def all_withheld(self, chosen: Chosen) -> str:
        """One sentence for samples of which none is left."""
        said = chosen.screening or {}
        lowest = min(said["scores"])
        return (
            f"the filter '{said['name']}' withheld all {said['samples']} samples: the lowest score is "
            f"{lowest:.3f}, its threshold {said['threshold']:.3f}; "
            "--filter-action mark writes them with their scores"
        )
